#!/usr/bin/env bash
# The end-to-end test: the demo launcher on a desktop of its own, with a real
# browser, keyring, tray, notification and identity provider. `make e2e` builds
# what it needs and runs it. The cases are in spine.mjs and clinician.mjs.
#
# It needs root, or sudo without a password, for one thing: Chromium takes the
# managed policy that lets the EHR's page open a link without asking only from
# /etc/chromium. The file is removed afterwards, whatever happens.
#
# E2E_KEEP=1 keeps the folder of the run; E2E_PARTS=attackers runs that part alone.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { echo "e2e: $*" >&2; exit 1; }

for program in build/bin/encounter-launcher-demo build/bin/encounter-launcher-demo-window build/bin/encounter-launcher-sandbox; do
  [ -x "$program" ] || fail "there is no $program: run make e2e"
done
[ -d frontend/node_modules/playwright-core ] || fail "there is no frontend/node_modules: run make e2e"
for tool in Xvfb openbox dbus-run-session gnome-keyring-daemon secret-tool gdbus chromium xdg-open xdotool import dunst node; do
  command -v "$tool" >/dev/null || fail "$tool is missing: run build/setup.sh test"
done
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  as_root=(sudo -n)
  "${as_root[@]}" true 2>/dev/null || fail "needs root, or sudo without a password, to write Chromium's managed policy below /etc/chromium"
fi

out=$PWD/build/out/e2e
rm -rf "$out"
mkdir -p "$out"
run=$(mktemp -d /tmp/encounter-e2e.XXXXXX)
chmod 0700 "$run"
managed=/etc/chromium/policies/managed
policy=$managed/encounter-launcher-e2e.json
made=()
# In seconds; a run takes two minutes, and four where it has half a processor.
limit=1500

# Whatever still runs and was started by this run says so in its environment.
left_over() { grep -lzxF "E2E_RUN=$run" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3; }

finish() {
  local status=$? pid pids= said
  trap - EXIT INT TERM
  set +e
  # Interrupted: the run's own way of ending is not waited for.
  if [ -n "${main:-}" ]; then for pid in $main $(left_over); do kill -TERM "$pid" 2>/dev/null; done; fi
  # The session bus ends last, and what hangs on it shortly after.
  for _ in $(seq 50); do pids=$(left_over); [ -z "$pids" ] && break; sleep 0.1; done
  for pid in $pids; do
    said=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | cut -c1-60)
    [ -n "$said" ] || continue # it has ended, and is only not yet forgotten
    echo "e2e: ending what was left over: $said ($pid)" >&2
    kill -KILL "$pid" 2>/dev/null
  done
  "${as_root[@]}" rm -f "$policy"
  for dir in "${made[@]}"; do "${as_root[@]}" rmdir "$dir" 2>/dev/null; done
  if [ -n "${E2E_KEEP:-}" ]; then echo "e2e: the run's folder is kept: $run"; else rm -rf "$run" 2>/dev/null || { sleep 1; rm -rf "$run"; }; fi
  # Whoever reads only the end of the log has to see what failed.
  if [ "$status" -ne 0 ]; then
    [ "$status" -ne 124 ] || echo "e2e: the whole took longer than $limit s and was ended; the last steps:" >&2
    grep -E '^  (✓|✗|-) ' "$out/e2e.log" | tail -4 >&2
    grep -E '^✗ ' "$out/e2e.log" >&2
  fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

CGO_ENABLED=0 "${GO:-go}" build -trimpath -o "$run/" ./internal/cmd/e2e-desktop ./internal/cmd/org-backend

# The one origin whose links Chromium hands over without a question.
port=$(node -e 'const s=require("net").createServer().listen(0,"127.0.0.1",()=>{console.log(s.address().port);s.close()})')
dir=$managed
while [ ! -d "$dir" ]; do made+=("$dir"); dir=$(dirname "$dir"); done
"${as_root[@]}" mkdir -p "$managed"
# As IT makes it; microphone.mjs looks at what the browser makes of the hosts.
build/bin/encounter-launcher-demo browser-policy --browser chromium --format json --ehr-origin "http://127.0.0.1:$port" \
  --encounter-host 127.0.0.1 --encounter-host encounters.vendor.example --encounter-host .below.example >"$run/browser-policy.json" 2>/dev/null
"${as_root[@]}" cp "$run/browser-policy.json" "$policy"
"${as_root[@]}" chmod 0644 "$policy"

mkdir -m 0700 "$run/home" "$run/runtime" "$run/tmp"
env -i PATH="$PATH" LANG=C.UTF-8 TZ="${TZ:-UTC}" \
  HOME="$run/home" XDG_RUNTIME_DIR="$run/runtime" TMPDIR="$run/tmp" \
  XDG_CONFIG_HOME="$run/home/.config" XDG_DATA_HOME="$run/home/.local/share" XDG_STATE_HOME="$run/home/.local/state" XDG_CACHE_HOME="$run/home/.cache" \
  E2E_RUN="$run" E2E_OUT="$out" E2E_BIN="$PWD/build/bin" E2E_EHR_PORT="$port" E2E_SLOW="${E2E_SLOW:-1}" E2E_PARTS="${E2E_PARTS:-}" \
  timeout --kill-after=10 --foreground "$limit" dbus-run-session -- sh -c 'exec node build/e2e/all.mjs >&3 2>&3' 3> >(exec tee "$out/e2e.log") >"$run/bus.log" 2>&1 &
main=$!
status=0
wait "$main" || status=$?
main=
exit "$status"
