#!/usr/bin/env bash
# Runs a command with a Windows of its own: a Wine prefix that nobody else uses, a
# display, and one wineserver that lives as long as the command. Go 1.26 runs in it.
#
#   build/wine/with.sh COMMAND…          in the prefix that is kept below build/out/wine
#   build/wine/with.sh --fresh COMMAND…  in a copy of it that is thrown away afterwards
#
# The command finds WINEPREFIX, WINEDEBUG, WINEDLLOVERRIDES, DISPLAY and a HOME of its
# own in its environment, and `wine` on its PATH. What it starts and leaves running in
# that Windows is ended with it.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)

fail() { echo "wine: $*" >&2; exit 1; }
fresh=
if [ "${1:-}" = --fresh ]; then fresh=1; shift; fi
[ $# -gt 0 ] || fail "usage: build/wine/with.sh [--fresh] COMMAND…"
for tool in wine wineserver Xvfb; do command -v "$tool" >/dev/null || fail "$tool is missing: run build/setup.sh test"; done

# What Windows says follows the locale.
export LC_ALL=C.UTF-8
export WINEARCH=win64 WINEDEBUG=${WINEDEBUG:--all} WINEDLLOVERRIDES="mscoree=;mshtml=;winemenubuilder.exe="
# The caches of Go stay where they are: only the program that is tried has a home of its own.
GOCACHE=$("${GO:-go}" env GOCACHE) GOMODCACHE=$("${GO:-go}" env GOMODCACHE) GOPATH=$("${GO:-go}" env GOPATH)
export GOCACHE GOMODCACHE GOPATH
base=$here/build/out/wine
mkdir -p "$base"
work=$(mktemp -d /tmp/encounter-wine.XXXXXX)
chmod 0700 "$work"
mkdir -m 0700 "$work/home"
export HOME=$work/home
display=

finish() {
  local status=$?
  trap - EXIT INT TERM
  wineserver -k 2>/dev/null || true
  wineserver -w 2>/dev/null || true
  [ -z "$display" ] || kill "$display" 2>/dev/null || true
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

exec 9>"$base/lock"
flock 9
exec 8>"$work/number"
Xvfb -displayfd 8 -screen 0 1280x960x24 -nolisten tcp >"$work/display.log" 2>&1 9>&- &
display=$!
exec 8>&-
for _ in $(seq 200); do [ -s "$work/number" ] && break; sleep 0.05; done
[ -s "$work/number" ] || fail "the display did not start: $(tail -1 "$work/display.log")"
DISPLAY=:$(cat "$work/number")
export DISPLAY

# The prefix is made once; another Wine, or another shim, makes it anew.
made="$(wine --version) $(cksum <"$here/internal/cmd/wine-shim/main.go") $(cksum <"$here/build/wine/with.sh")"
export WINEPREFIX=$base/prefix
if [ "$(cat "$base/made" 2>/dev/null)" != "$made" ]; then
  rm -rf "$WINEPREFIX" "$base/made"
  wineboot -i >"$work/wineboot.log" 2>&1 9>&- || fail "the prefix could not be made: $(tail -3 "$work/wineboot.log")"
  wine reg add "HKCU\\Software\\Wine" /v Version /d win10 /f >"$work/wineboot.log" 2>&1 9>&- || fail "the prefix could not be made: $(tail -3 "$work/wineboot.log")"
  wineserver -w
  GOOS= GOARCH= CGO_ENABLED=0 "${GO:-go}" build -trimpath -o "$work/shim" "$here/internal/cmd/wine-shim"
  "$work/shim" "$WINEPREFIX/drive_c/windows/system32/bcryptprimitives.dll"
  echo "$made" >"$base/made"
fi
if [ -n "$fresh" ]; then
  cp -a "$WINEPREFIX" "$work/prefix"
  WINEPREFIX=$work/prefix
  flock -u 9
fi
# Without it each call starts and ends a server of its own: 2.5 s against 0.08 s.
wineserver -p 9>&-
# The services and the desktop of Windows outlive what starts them and keep its output
# open, for which `go test` would wait a minute: they start here.
wine cmd /c rem >/dev/null 2>&1 </dev/null 9>&-
wine start /b explorer >/dev/null 2>&1 </dev/null 9>&-
status=0
"$@" 9>&- || status=$?
exit "$status"
