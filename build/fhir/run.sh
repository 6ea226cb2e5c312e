#!/usr/bin/env bash
# Tests our FHIR client, and the backend with it, against a FHIR server of others:
# see server.mjs. `make test-fhir` fetches what it needs and runs it.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { echo "test-fhir: $*" >&2; exit 1; }

command -v node >/dev/null || fail "node is missing"
[ -d frontend/node_modules/@medplum/fhir-router ] || fail "there is no frontend/node_modules: run make test-fhir"

coproc server { exec node build/fhir/server.mjs; }
pid=$server_PID
trap 'kill "$pid" 2>/dev/null || true' EXIT
read -r -t 60 address <&"${server[0]}" || fail "the FHIR server did not start"

said=$(FHIR_SERVER=$address CGO_ENABLED=1 "${GO:-go}" test -race -count=1 -timeout 5m -tags fhirserver -run '^TestIndependent' ./internal/fhir ./internal/orgserver 2>&1) ||
  { echo "$said" >&2; exit 1; }
echo "$said"
# A room whose tests have another name by now would pass without any.
case $said in *"no tests to run"*) fail "a room has no test against the FHIR server" ;; esac
