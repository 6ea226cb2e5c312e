#!/usr/bin/env bash
# Tests the access tokens of EHR servers against an identity provider of others: see
# server.mjs. `make test-idp` fetches what it needs and runs it.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { echo "test-idp: $*" >&2; exit 1; }

command -v node >/dev/null || fail "node is missing"
[ -d frontend/node_modules/oidc-provider ] || fail "there is no frontend/node_modules: run make test-idp"

port=$(node -e 'const s=require("net").createServer().listen(0,"127.0.0.1",()=>{console.log(s.address().port);s.close()})')
coproc server { exec node build/idp/server.mjs "$port" 2>/dev/null; }
pid=$server_PID
trap 'kill "$pid" 2>/dev/null || true' EXIT
read -r -t 60 address <&"${server[0]}" || fail "the identity provider did not start"

said=$(IDENTITY_PROVIDER=$address CGO_ENABLED=1 "${GO:-go}" test -race -count=1 -timeout 5m -tags identityprovider -run '^TestIndependentIssuer' ./internal/orgserver 2>&1) ||
  { echo "$said" >&2; exit 1; }
echo "$said"
# A test that has another name by now would pass without being run.
case $said in *"no tests to run"*) fail "there is no test against the identity provider" ;; esac
