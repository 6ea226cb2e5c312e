#!/usr/bin/env bash
# The built Windows program, installed as a package installs it, by script. To be run
# by with.sh. It needs nothing but the files in build/bin.
set -euo pipefail
cd "$(dirname "$0")/../.."
name=encounter-launcher
link="$name://launch?handle=Zk3vQ9x1T7mB2nR5wY8uLg"
dir="$WINEPREFIX/drive_c/Program Files/Encounter Launcher"
work=$(mktemp -d /tmp/encounter-program.XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir -p "$dir"
cp "build/bin/$name.exe" "build/bin/$name.com" "$dir/"
version=${VERSION:-$(sed -n 's/^VERSION ?= //p' Makefile)}

fail() { echo "  ✗ $step: $*" >&2; exit 1; }
begin() { step=$1; }
done_() { echo "  ✓ $step"; }
# run STATUS PROGRAM ARGUMENT…: its output is in $work/out and $work/err.
run() {
  local want=$1 status=0
  shift
  timeout 30 wine "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
  [ "$status" -eq "$want" ] || fail "${*:2} ended with $status, not $want: $(head -3 "$work/out" "$work/err")"
}
says() { grep -qE "$1" "$work/${2:-out}" || fail "expected “$1”, found: $(head -3 "$work/${2:-out}")"; }
silent() { [ ! -s "$work/$1" ] || fail "expected nothing, found: $(head -3 "$work/$1")"; }
json() { jq -e "$1" "$work/out" >/dev/null || fail "expected $1, found: $(head -5 "$work/out")"; }
# The agents of this Windows: their numbers as Linux has them.
agents() {
  local p
  for p in /proc/[0-9]*; do
    { tr '\0' '\n' <"$p/cmdline" | grep -qx agent && grep -qaF "Encounter Launcher\\$name" "$p/cmdline" && grep -qazxF "WINEPREFIX=$WINEPREFIX" "$p/environ"; } 2>/dev/null || continue
    echo "${p#/proc/}"
  done
}
until_() { # until_ SECONDS COMMAND…
  local end=$((SECONDS + $1))
  shift
  until "$@"; do [ $SECONDS -lt $end ] || return 1; sleep 0.2; done
}
exe="$dir/$name.exe" com="$dir/$name.com"

begin "both files have icon, version and manifest, and their own subsystem"
go run ./internal/cmd/windows-resources -check -version "$version" "$exe" "$com" || fail "see above"
done_

begin "a library that lies beside the program is not loaded"
# It is none: where Windows takes it for one, the program does not start.
for library in gdiplus comctl32 uxtheme dwmapi version winhttp; do printf 'MZ, and no library' >"$dir/$library.dll"; done
for program in "$exe" "$com"; do
  run 0 "$program" version
done
for library in gdiplus comctl32 uxtheme dwmapi version winhttp; do rm "$dir/$library.dll"; done
done_

begin "without an agent the verbs print, wait and say by their status how it went"
run 0 "$com" version
says "^$version\$"; silent err
run 0 "$com" version --json
json ".version == \"$version\" and .scheme == \"$name\""
run 3 "$com" status
says 'not running'
run 3 "$com" status --json
json '.agent == "absent" and .policy.ok == false'
run 1 "$com" policy
says 'policy_missing'
run 1 "$com" policy --json
json '.ok == false and .code == "policy_missing"'
run 0 "$com" check-link "$link"
says '^accepted'
run 1 "$com" check-link --json "$link&x=1"
json '.accepted == false and .code == "link_invalid"'
run 3 "$com" quit
run 0 "$com" quit --all-sessions
says '^no agent runs$'
done_

begin "a shell finds the .com first, waits for it and has its status"
(
  cd "$dir"
  run 0 cmd /c "$name version"
  says "^$version"
  run 3 cmd /c "$name status"
  run 2 cmd /c "$name nonsense"
  says 'request_invalid' err
  run 1 cmd /v:on /c "$name policy >nul & echo it was !ERRORLEVEL!"
  says '^it was 1'
)
done_

begin "what is neither a verb nor one link is refused by both files and starts nothing"
while read -r vector; do
  mapfile -t argv < <(jq -r '.argv[]' <<<"$vector")
  for file in "$exe" "$com"; do
    run 2 "$file" "${argv[@]}"
    silent out
    if grep -q "Zk3vQ9x1T7mB2nR5wY8uLg\|evil" "$work/err"; then fail "the arguments are repeated"; fi
  done
done <internal/intake/testdata/argv.jsonl
[ -z "$(agents)" ] || fail "an agent was started"
done_

begin "a .com that was copied without its .exe says so and shows no box"
mkdir "$work/alone"
cp "$com" "$work/alone/"
run 3 "$work/alone/$name.com" "$link"
says 'not installed' err
done_

begin "a link starts the agent, which is the .exe, and the next link finds it"
run 2 "$com" "$link" # no policy: the agent refuses
says 'policy_missing' err
first=$(agents)
[ "$(wc -w <<<"$first")" -eq 1 ] || fail "agents: $first"
tr '\0' '\n' <"/proc/$first/cmdline" | grep -q '\.exe$' || fail "the agent is not the .exe"
run 2 "$exe" "$link"
[ "$(agents)" = "$first" ] || fail "another agent: $(agents)"
run 1 "$com" status --json
json '.agent == "running" and .launch.code == "policy_missing"'
done_

begin "without WebView2 the window says what is missing, at once"
run 2 "$com" window # wakes up what Windows starts once
for file in "$com" "$exe"; do
  start=$(date +%s%N)
  run 2 "$file" window
  took=$((($(date +%s%N) - start) / 1000000))
  says 'WebView2' err
  says 'IT help desk' err
  echo "    $(basename "$file"): $took ms"
done
run 1 "$com" status
done_

begin "the agent starts anew when its file is replaced"
GOOS=windows CGO_ENABLED=0 go build -trimpath -tags desktop,production,wv2runtime.error -ldflags "-s -w -H windowsgui -X main.version=9.9.9" -o "$work/next.exe" .
mv "$exe" "$exe.old"
cp "$work/next.exe" "$exe"
upgraded() { run_quiet "$com" status --json && jq -e '.version == "9.9.9"' "$work/out" >/dev/null 2>&1; }
run_quiet() { timeout 30 wine "$@" >"$work/out" 2>"$work/err" </dev/null || true; }
until_ 40 upgraded || fail "it did not: $(head -3 "$work/out")"
second=$(agents)
[ "$(wc -w <<<"$second")" -eq 1 ] && [ "$second" != "$first" ] || fail "agents: $first, then $second"
run 2 "$exe" "$link"
[ "$(agents)" = "$second" ] || fail "a link started another agent"
rm "$exe.old"
done_

echo "  resident memory of the agent under Wine: $(($(awk '/^VmRSS/{print $2}' "/proc/$second/status") / 1024)) MB"

begin "quit --all-sessions ends it, says so, and the next click starts the new one"
run 0 "$com" quit --all-sessions
says '^agents ended: 1, windows closed: 0, still running: 0$'
[ -z "$(agents)" ] || fail "it still runs"
run 0 "$exe" quit --all-sessions
run 2 "$exe" "$link"
run 1 "$com" status --json
json '.version == "9.9.9"'
run 0 "$com" quit
says '^ended$'
run 0 "$com" audit verify
done_
