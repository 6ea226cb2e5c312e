#!/usr/bin/env bash
# Looks into the deb of org-backend; then installs it, serves with it as its unit would,
# upgrades it, removes and purges it. Where the kernel allows it, that happens in layers
# over /etc, /usr and /var that nobody else sees and that vanish with this script;
# elsewhere on the machine itself, which is put back as it was, also after a failure.
#
# systemd does not run here, so the service is started by hand as the unit says: its
# user, its folders, no privileges. That the unit's filter allows every system call of
# the service is held against what strace has seen.
# usage: build/backend/test-deb.sh DEB    (as root; VERSION, MAINTAINER, NFPM, SOURCE_DATE_EPOCH as in backend.mk)
set -euo pipefail
cd "$(dirname "$0")/../.."
deb=$(realpath "$1")
name=org-backend
unit=/lib/systemd/system/$name.service

say() { echo "test-backend-deb: $*"; }
fail() { echo "test-backend-deb: FAILED: $*" >&2; exit 1; }

if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || fail "needs root"
  exec sudo --preserve-env=PATH,NFPM,GO,GOFLAGS,VERSION,MAINTAINER,SOURCE_DATE_EPOCH "$0" "$@"
fi

# --- a place of its own -----------------------------------------------------------

layers() {
  local at=$1 folder
  mount -t tmpfs -o mode=0755 layers "$at" || return
  for folder in etc usr var; do
    mkdir -p "$at/$folder/upper" "$at/$folder/work"
    mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$at/$folder/upper,workdir=$at/$folder/work" "/$folder" || return
  done
}
if [ -z "${TEST_DEB_INSIDE:-}" ]; then
  at=$(mktemp -d)
  trap 'rmdir "$at"' EXIT
  export TEST_DEB_INSIDE=plain
  if unshare --mount true 2>/dev/null && unshare --mount bash -c "$(declare -f layers); layers '$at'" 2>/dev/null; then
    TEST_DEB_INSIDE=layers
    unshare --mount bash -c "$(declare -f layers); layers '$at' && exec \"\$@\"" layers "$0" "$deb"
  else
    "$0" "$deb"
  fi
  exit
fi

dpkg-query --show "$name" >/dev/null 2>&1 && fail "$name is installed here: remove it first"
for path in /etc/$name /var/lib/$name; do
  [ ! -e "$path" ] || fail "$path is here already"
done

work=$(mktemp -d)
chmod 0755 "$work"
pids=()
cleanup() {
  local status=$? pid
  trap - EXIT
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  dpkg --purge "$name" >/dev/null 2>&1 || true
  if [ "$TEST_DEB_INSIDE" = plain ]; then
    rm -rf "/etc/$name" "/var/lib/$name"
    userdel "$name" >/dev/null 2>&1 || true
  fi
  rm -rf "$work"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# until_true SECONDS WHAT COMMAND… waits until the command succeeds.
until_true() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || { tail -n 20 "$work/log" >&2 || true; fail "waited in vain until $what"; }
    sleep 0.1
  done
}

# --- the package itself -------------------------------------------------------------

# As root lintian warns about being root, on its standard error.
said=$(lintian --fail-on error,warning --tag-display-limit 0 "$deb" 2>&1 | grep -v 'running with root privileges' || true)
[ -z "$said" ] || fail "lintian says:"$'\n'"$said"
lintian --fail-on error,warning "$deb" >/dev/null 2>&1 || fail "lintian has failed"
dpkg-deb -c "$deb" | awk '$2 != "root/root" || substr($1,6,1) == "w" || substr($1,9,1) == "w" { print; bad = 1 } END { exit bad }' || fail "files of somebody else, or writable by others"
dpkg-deb -c "$deb" | awk '/^-..x/ && $6 != "./usr/bin/org-backend" { print; bad = 1 } END { exit bad }' || fail "something runs that should not"
dpkg-deb -c "$deb" | grep -Eq 'nabla-sim|sandbox' && fail "a tool for development is in the package"

again=$work/again
mkdir -p "$again/build/bin" "$again/build/out"
cp build/bin/$name "$again/build/bin/"
cp -r build/backend "$again/build/"
cp -r build/out/backend "$again/build/out/"
find "$again" -exec touch -d '2001-02-03 04:05:06' {} +
nfpm() { GOFLAGS=-mod=mod "${GO:-go}" run "$NFPM" package --config build/backend/nfpm.yaml --packager deb "$@" >/dev/null; }
(cd "$again" && umask 0077 && TZ=Pacific/Auckland nfpm --target same.deb)
cmp "$deb" "$again/same.deb" || fail "the same inputs have made another package"
old=$VERSION new=$VERSION+1
(cd "$again" && VERSION=$new nfpm --target new.deb)
say "lintian has nothing to say; the same inputs make the same $(stat -c %s "$deb") bytes"

# --- install -----------------------------------------------------------------------

dpkg -i "$deb" >/dev/null
[ "$($name version)" = "$name $old" ] || fail "it says: $($name version)"
id "$name" >/dev/null || fail "there is no user"
[ "$(stat -c '%U:%G %a' /etc/$name /etc/$name/secrets | tr '\n' ' ')" = "root:root 755 root:$name 750 " ] || fail "folders: $(stat -c '%n %U:%G %a' /etc/$name /etc/$name/secrets)"
dpkg-deb -x "$deb" "$work/files" # where manual pages are not installed, they are here
MANPATH=$work/files/usr/share/man:$(manpath -q) systemd-analyze verify "$unit" >"$work/said" 2>&1 || fail "the unit: $(cat "$work/said")"
[ ! -s "$work/said" ] || fail "of the unit it is said: $(cat "$work/said")"
# 2.0 of 10, where 10 is a service that may do everything.
systemd-analyze security --offline=yes --threshold=20 "$unit" >"$work/security" || fail "the unit is open: $(tail -n 1 "$work/security")"
warned=$(LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$work/files/usr/share/man/man8/$name.8.gz" 2>&1 >/dev/null)
[ -z "$warned" ] || fail "the manual page: $warned"
. /usr/share/bash-completion/completions/$name || fail "bash does not take the completion"
say "installed $old; $(tail -n 1 "$work/security" | sed 's/^[^O]*//')"

# --- configure ----------------------------------------------------------------------

# An issuer on loopback that has one key, which is all that readiness asks for.
mkdir -p "$work/idp/.well-known"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
issuer=http://127.0.0.1:$port
echo '{"issuer":"'$issuer'","jwks_uri":"'$issuer'/keys","authorization_endpoint":"'$issuer'/a","token_endpoint":"'$issuer'/t"}' >"$work/idp/.well-known/openid-configuration"
echo '{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}' >"$work/idp/keys"
(cd "$work/idp" && exec python3 -m http.server --bind 127.0.0.1 "$port" >/dev/null 2>&1) &
pids+=($!)
disown
until_true 20 "the issuer answers" curl -sf "$issuer/keys"

secrets=/etc/$name/secrets
install -m 0400 -o $name -g $name <(head -c 32 /dev/urandom | base64) $secrets/main-ehr
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 2>/dev/null | install -m 0400 -o $name -g $name /dev/stdin $secrets/nabla.pem
config=/etc/$name/config.yaml
# What listens on a port of its own choice says in its log which one.
sed -e "s#^issuer: .*#issuer: $issuer#" -e 's#^listen: .*#listen: 127.0.0.1:0#' -e 's#listen: 127.0.0.1:9464#listen: 127.0.0.1:0#' \
  /usr/share/doc/$name/examples/config.yaml >$config

# as COMMAND… runs as the unit's user, without privileges.
as() { setpriv --reuid "$name" --regid "$name" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all env -i PATH=/usr/bin:/bin "$@"; }
as $name check-config --config $config >"$work/said" || fail "the example cannot be used: $(cat "$work/said")"
chmod 0444 $secrets/nabla.pem
as $name check-config --config $config >/dev/null 2>"$work/said" && fail "a key that all can read is taken"
grep -q 'nabla.key_files: .*chmod 0600' "$work/said" || fail "of an open key it says: $(cat "$work/said")"
chmod 0400 $secrets/nabla.pem
say "configured from the example"

# --- serve as the unit would ----------------------------------------------------------

install -d -m 0700 -o $name -g $name /var/lib/$name
install -m 0600 -o $name /dev/null "$work/calls"
start=$(sed -n 's/^ExecStart=//p' "$unit")
# shellcheck disable=SC2086
(umask 0077; as strace -f -qq -o "$work/calls" $start 2>"$work/log") &
waiting=$!
address() { sed -n "s/.*\"msg\":\"$1\",\"address\":\"\([^\"]*\)\".*/\1/p" "$work/log"; }
until_true 20 "the backend listens" eval '[ -n "$(address listening)" ]'
at=$(address listening)
[ "$(curl -s -o /dev/null -w '%{http_code}' "http://$at/healthz")" = 200 ] || fail "healthz"
said=$(curl -s -w ' %{http_code}' "http://$at/readyz")
[ "${said##* }" = 200 ] || fail "readyz says: $said"
[ "$(curl -s -o "$work/answer" -w '%{http_code}' "http://$at/launcher/launches" -X POST -H "Authorization: Bearer $(cat $secrets/main-ehr)" -H 'Content-Type: application/json' -d '{"provider_email":"ada@hospital.example","external_provider_id":"D-17","external_patient_id":"P-1","external_encounter_id":"E-1","structured_context":{"patient_demographics":{"name":"Grace","birth_date":"1980-01-31","gender":"female","pronouns":null}}}')" = 200 ] || fail "launches: $(cat "$work/answer")"
curl -s "http://$(address metrics)/metrics" >"$work/metrics"
grep -q 'org_backend_build_info{.*version="'"$old"'"} 1' "$work/metrics" && grep -q '^process_open_fds ' "$work/metrics" || fail "the metrics lack something"
said=$(as $name audit --config $config --patient P-1)
grep -q 'launch_registered.*main-ehr' <<<"$said" || fail "the audit says: $said"
[ "$(stat -c '%U %a' /var/lib/$name/audit /var/lib/$name/audit/audit.jsonl | tr '\n' ' ')" = "$name 700 $name 600 " ] || fail "the audit is open: $(stat -c '%n %U %a' /var/lib/$name/audit/*)"
server=$(pgrep -u "$name" -x -f "$start") || fail "it does not run as $name"
kill -TERM "$server"
status=0; wait "$waiting" || status=$?
[ "$status" -eq 0 ] || fail "after SIGTERM it ended with $status: $(tail -n 3 "$work/log")"

allowed() {
  local set
  for set in "$@"; do
    systemd-analyze syscall-filter "$set" </dev/null | sed -n 's/^ *\([@a-z0-9_-]\+\)$/\1/p' | grep -vx "$set" | while read -r one; do
      case $one in @*) allowed "$one" ;; *) echo "$one" ;; esac
    done
  done
}
allowed @system-service | sort -u >"$work/may"
allowed @privileged @resources | sort -u >"$work/not"
# The first calls are those of strace's own child before it is the service.
sed -n 's/^[0-9]* *\([a-z0-9_]\+\)(.*/\1/p' "$work/calls" | sort -u >"$work/does"
[ "$(wc -l <"$work/does")" -gt 20 ] || fail "strace has seen nothing"
stopped=$(comm -23 "$work/does" <(comm -23 "$work/may" "$work/not"))
[ -z "$stopped" ] || fail "the unit's filter would stop: $(tr '\n' ' ' <<<"$stopped")"
say "served as the unit would, with $(wc -l <"$work/does") system calls that its filter allows; SIGTERM ended it with 0"

# --- upgrade, remove, purge -----------------------------------------------------------

echo '# a change of ours' >>$config
dpkg -i "$again/new.deb" >/dev/null
[ "$(dpkg-query -W -f '${Version}' $name)" = "$new" ] || fail "not upgraded"
tail -n 1 $config | grep -q 'a change of ours' || fail "the upgrade has changed the configuration"
[ -f $secrets/nabla.pem ] && [ -s /var/lib/$name/audit/audit.jsonl ] || fail "the upgrade has lost secrets or audit"
dpkg -r $name >/dev/null 2>&1
[ ! -e /usr/bin/$name ] && [ -f $config ] && [ -f $secrets/nabla.pem ] && [ -s /var/lib/$name/audit/audit.jsonl ] || fail "the removal has taken too much or too little"
said=$(dpkg -P $name 2>&1)
[ ! -e $config ] && [ -f $secrets/nabla.pem ] && [ -s /var/lib/$name/audit/audit.jsonl ] || fail "the purge has taken too much or too little"
grep -q "/var/lib/$name is kept" <<<"$said" || fail "the purge says: $said"
say "upgraded to $new, removed, purged; audit and secrets are kept"
