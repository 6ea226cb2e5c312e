#!/usr/bin/env bash
# The Windows program under Wine: the rooms' tests, the built program by script, and
# the sandbox's play with the demo's program in it, in one Windows of their own.
# `make wine` builds what it needs and runs it.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ "${1:-}" != inside ]; then exec build/wine/with.sh --fresh "$0" inside; fi

out=build/out/wine
work=$(mktemp -d /tmp/encounter-suite.XXXXXX)
trap 'rm -rf "$work"' EXIT
began=$SECONDS

# Go removes files by a call that Wine 8 answers with STATUS_NOT_IMPLEMENTED; the
# library knows what to do instead, but not by that answer. For these tests only.
at=$(go env GOROOT)/src/internal/syscall/windows/at_windows.go
sed 's|^\tcase STATUS_INVALID_INFO_CLASS,|\tcase NTStatus(0xC0000002),\n\t\tSTATUS_INVALID_INFO_CLASS,|' "$at" >"$out/at_windows.txt"
! cmp -s "$at" "$out/at_windows.txt" || { echo "wine: the library has changed: see suite.sh" >&2; exit 1; }
printf '{"Replace":{"%s":"%s"}}\n' "$at" "$PWD/$out/at_windows.txt" >"$out/overlay.json"

failed=()
# The play mostly waits, so it runs beside the rest.
build/wine/play.sh >"$work/play.log" 2>&1 &
play=$!

# The stories of the command line speak to a shell of Unix; program.sh stands for
# them. The rooms that touch Windows, and those that touch files.
rooms=()
for room in audit autostart browserpolicy control doctor intake launch libraries notify paths policy policyfiles recents scheme session signin text tokenstore transport tray view; do
  rooms+=("./internal/$room")
done
GOOS=windows CGO_ENABLED=0 go test -p 2 -timeout 10m -overlay "$out/overlay.json" -exec wine \
  "${rooms[@]}" ./internal/agent . || failed+=("the rooms")
GOOS=windows CGO_ENABLED=0 go test -timeout 10m -overlay "$out/overlay.json" -exec wine -skip '^TestStories$' ./internal/cli || failed+=("the command line's tests")

build/wine/program.sh || failed+=("the program")
wait "$play" || failed+=("the play")
cat "$work/play.log"

echo "wine: $((SECONDS - began)) s"
[ ${#failed[@]} -eq 0 ] || { printf 'wine: %s failed\n' "${failed[@]}" >&2; exit 1; }
