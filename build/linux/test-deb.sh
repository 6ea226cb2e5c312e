#!/usr/bin/env bash
# Installs the deb on this machine as its document says, uses it as a person who has
# just got an account, upgrades it under a running agent, removes and purges it, and
# looks for what is left. Where the kernel allows it, all of that happens in layers over
# /etc, /usr and /var that nobody else sees and that vanish with this script; elsewhere
# on the machine itself, which is put back as it was, also after a failure.
#
# Every command of docs/enterprise.md, section Linux, that is marked to be run is run on
# the way.
# usage: build/linux/test-deb.sh DEB    (as root)
set -euo pipefail
cd "$(dirname "$0")/../.."
deb=$(realpath "$1")
docs=$PWD/docs/enterprise.md
name=encounter-launcher
link="$name://launch?handle=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

say() { echo "test-deb: $*"; }
fail() { echo "test-deb: FAILED: $*" >&2; exit 1; }

if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || fail "needs root"
  exec sudo --preserve-env=PATH,NFPM,GO,GOFLAGS "$0" "$@"
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
    unshare --mount bash -c "$(declare -f layers); layers '$at' && exec \"\$@\"" layers xvfb-run -a "$0" "$deb"
  else
    xvfb-run -a "$0" "$deb"
  fi
  exit
fi

dpkg-query --show "$name" >/dev/null 2>&1 && fail "$name is installed here: remove it first"
for path in /etc/$name /usr/share/$name /etc/xdg/autostart/$name.desktop; do
  [ ! -e "$path" ] || fail "$path is here already"
done

work=$(mktemp -d)
chmod 0755 "$work"
person=el-test-$$
home=$work/home

cleanup() {
  local status=$? pid
  trap - EXIT
  for pid in $(ps -o pid= -u "$person" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null || true; done
  dpkg --purge "$name" >/dev/null 2>&1 || true
  if [ "$TEST_DEB_INSIDE" = plain ]; then
    rm -rf "/etc/$name" "/usr/share/$name" "/etc/xdg/autostart/$name.desktop"
  fi
  userdel "$person" >/dev/null 2>&1 || true
  rm -rf "$work"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

useradd --no-create-home --home-dir "$home" --shell /bin/bash "$person"
install -d -m 0700 -o "$person" "$home" "$home/run"

# as COMMAND… runs as the person, with nothing of this environment but the display; there
# is no session bus.
install -m 0600 -o "$person" "$XAUTHORITY" "$home/.Xauthority"
as() {
  (cd "$home" && runuser -u "$person" -- env -i HOME="$home" USER="$person" PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 \
    DISPLAY="$DISPLAY" XAUTHORITY="$home/.Xauthority" XDG_RUNTIME_DIR="$home/run" DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent "$@")
}

# until_true SECONDS WHAT COMMAND… waits until the command succeeds.
until_true() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || { tail -n 20 "$home/.local/state/$name/agent.log" >&2 || true; fail "waited in vain until $what"; }
    sleep 0.2
  done
}

# shellcheck source=build/linux/docs.sh
. build/linux/docs.sh
# run STAGE NUMBER FOLDER [as] runs a block of the document.
run() {
  local commands
  commands=$(block "$1" "$2")
  [ -n "$commands" ] || fail "the document has no block $2 of $1"
  echo "$1/$2" >>"$work/run"
  if [ "${4:-}" = as ]; then
    as bash -euc "$commands"
  else
    (cd "$3" && bash -euc "$commands") >"$work/said" 2>&1 || { cat "$work/said" >&2; fail "the document's $1, block $2, has failed"; }
    cat "$work/said"
  fi
}

# names prints every path of this system that bears our name.
names() { find /etc /usr /var /opt /srv -xdev -name "*$name*" -not -path '/etc/chromium/*' 2>/dev/null | sort; }
# mentions prints the desktop's and the manual's caches that know us.
mentions() { grep -ls "$name" /usr/share/applications/mimeinfo.cache /usr/share/icons/hicolor/icon-theme.cache || true; }
names >"$work/before"

say "in $([ "$TEST_DEB_INSIDE" = layers ] && echo "layers of its own" || echo "the machine itself"), as a new person"

# --- a newer version ----------------------------------------------------------------

old=$(dpkg-deb -f "$deb" Version)
new=$old+1
mkdir -p "$work/old" "$work/new/bin"
cp "$deb" "$work/old/"
CGO_ENABLED=0 "${GO:-go}" build -trimpath -ldflags "-s -w -X main.version=$new" -o "$work/new/bin/$name" .
cp "build/bin/$name-window" "$work/new/bin/"
sed "s#src: build/bin/#src: $work/new/bin/#" build/linux/nfpm.yaml >"$work/new/nfpm.yaml"
VERSION=$new MAINTAINER='Test <test@hospital.example>' GOFLAGS=-mod=mod "${GO:-go}" run "$NFPM" package \
  --config "$work/new/nfpm.yaml" --packager deb --target "$work/new/${name}_${new}_amd64.deb" >/dev/null
chmod -R a+rX "$work/old" "$work/new"

# --- install -----------------------------------------------------------------------

run install 1 "$work/old" >/dev/null
[ "$(run detect 1 "$work" | tr '\n' ' ')" = "$old $old " ] || fail "not the version that was installed, or files that are not as packaged"
desktop-file-validate --no-hints /usr/share/applications/$name.desktop /etc/xdg/autostart/$name.desktop
said=$(run user 1 "" as)
[ "$(head -n1 <<<"$said")" = $name.desktop ] || fail "the links go to: $said"
grep -q "$name.desktop" <<<"${said#*$'\n'}" || fail "GLib does not know the handler: $said"
mentions | grep -q mimeinfo || fail "the desktop's cache does not know us"
[ "$(stat -c '%U %a' /etc/$name)" = "root 755" ] || fail "the policy's folder is not root's"
dpkg-deb -x "$deb" "$work/files" # where manual pages are not installed, they are here
for page in "$work"/files/usr/share/man/man*/*.gz; do
  warned=$(LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null)
  [ -z "$warned" ] || fail "$page: $warned"
done
offers=$(as bash -c ". /usr/share/bash-completion/completions/$name; complete -p $name; $name __complete sta 2>/dev/null")
grep -q "complete .*$name" <<<"$offers" && grep -q '^status' <<<"$offers" || fail "bash does not complete: $offers"
grep -qx 'TryExec=/usr/bin/encounter-launcher' /etc/xdg/autostart/$name.desktop || fail "the start at logon outlives the program"
say "installed $old: handler, manual pages, completion"

# --- use ---------------------------------------------------------------------------

audited() { as sh -c "cat ~/.local/state/$name/audit/* | grep -c '$1'" || true; }
# A machine without a policy refuses the link and says so; that the agent's audit has it
# proves that the desktop has brought the link to the installed program.
as gio open "$link" >/dev/null 2>&1 || true
until_true 10 "the agent has audited the link that gio opened" eval '[ "$(audited policy_missing)" = 1 ]'
as xdg-open "$link" >/dev/null 2>&1 || true
until_true 10 "the agent has audited the link that xdg-open opened" eval '[ "$(audited policy_missing)" = 2 ]'
agent=$(pgrep -u "$person" -x -f "/usr/bin/$name agent") || fail "no agent of the installed program runs"
as $name policy --json >"$work/json" && fail "launches can go on without a policy"
status() { as $name status --json || true; } # 1: nobody is signed in
policy_ok() { status | tr -d ' \n' | grep -q '"policy":{"ok":true'; }

run configure 1 "$work" >/dev/null
# What Ansible would ask, as root, of a file of its own that only root can read.
validate=$(linux_section | sed -n 's/.*validate: "\(.*\) %s".*/\1/p')
install -m 0600 /etc/$name/policy.json "$work/asked"
$validate "$work/asked" >/dev/null || fail "of a policy that is in force “$validate” ends with $?"
echo '{ "BackendURL": "http://encounters.hospital.example" }' >"$work/asked"
status=0; $validate "$work/asked" >/dev/null || status=$?
[ "$status" -eq 1 ] || fail "of a policy that would be refused “$validate” ends with $status"
run configure 2 "$work"
until_true 10 "the running agent has taken up the policy" policy_ok
said=$(run user 2 "" as) || fail "policy says: $said"
source_of() { as $name policy --json | tr -d ' \n' | grep -o "\"key\":\"$1\"[^}]*" | grep -o '"source":"[^"]*"'; }
[ "$(source_of BackendURL)" = '"source":"machinepolicy"' ] || fail "BackendURL is from $(source_of BackendURL)"
[ "$(source_of Language)" = '"source":"installerdefaults"' ] || fail "Language is from $(source_of Language)"
as $name settings set Language de >/dev/null || fail "the defaults lock what the person may choose"
as $name settings reset Language >/dev/null
chown "$person" /etc/$name/policy.json
as $name policy >/dev/null && fail "a policy that is not root's is believed"
chown root /etc/$name/policy.json
until_true 10 "the policy is believed again" policy_ok
said=$(run user 3 "" as)
grep -q "\"$old\"" <<<"$said" || fail "the agent is not of version $old: $said"
if [ "$TEST_DEB_INSIDE" = layers ]; then # nobody else misses it
  library=$(ldd /usr/bin/$name-window | awk '$1 == "libwebkit2gtk-4.1.so.0" { print $3 }')
  mv "$library" "$library.away"
  said=$(as timeout 60 $name window 2>&1) && fail "the window opens without its library"
  mv "$library.away" "$library"
  grep -q 'library that it needs is not installed.*window_unavailable' <<<"$said" || fail "of a missing library it says: $said"
fi
as timeout 60 $name window || fail "the window does not open"
pgrep -u "$person" -x -f "/usr/bin/$name-window" >/dev/null || fail "the window is not the installed one"
say "used: links by gio and xdg-open, policy and defaults, window"

# --- upgrade -----------------------------------------------------------------------

run hide 1 "$work"
run hide 1 "$work" # twice does no harm
run upgrade 1 "$work/new" >/dev/null
begun=$SECONDS
until_true 60 "the running agent is of the new version" eval 'status | grep -q "\"$new\""'
[ "$(pgrep -u "$person" -x -f "/usr/bin/$name agent")" = "$agent" ] || fail "the agent is another process"
[ "$(grep -cx 'Hidden=true' /etc/xdg/autostart/$name.desktop)" = 1 ] || fail "the upgrade has undone a change of the autostart file"
policy_ok || fail "the upgrade has lost the policy"
as $name audit verify >/dev/null || fail "the audit has a gap"
run user 4 "" as >/dev/null || fail "the log cannot be looked at"
say "upgraded to $new under the running agent, which took $((SECONDS - begun)) s"

# --- remove and purge --------------------------------------------------------------

run remove 1 "$work" >/dev/null
begun=$SECONDS
until_true 60 "the agent and the window, which is of the version before, have ended" eval '! pgrep -u "$person" >/dev/null'
[ ! -e /usr/bin/$name ] && [ -z "$(mentions)" ] || fail "after the removal there are: $(ls /usr/bin/$name* 2>/dev/null) $(mentions)"
[ -z "$(as xdg-mime query default x-scheme-handler/$name)" ] || fail "something still handles the links"
[ -f /etc/$name/policy.json ] && [ -f /usr/share/$name/defaults.json ] || fail "the removal has taken what administrators wrote"
[ -s "$home/.local/state/$name/agent.log" ] || fail "the removal has taken what is the person's"
say "removed; agent and window ended after $((SECONDS - begun)) s"

install -m 0644 /dev/null /etc/$name/extra-ca.pem
run purge 1 "$work" >/dev/null
[ "$(ls -A /etc/$name)" = extra-ca.pem ] || fail "the purge left, or took, another file than it says: $(ls -A /etc/$name)"
rm -r /etc/$name
run leave 1 "" as
left=$(names | diff "$work/before" - || true)
[ -z "$left" ] || fail "the purge has left: $left"
left=$(find "$home" -name "*$name*" -not -path "$home/run/*")
[ -z "$left" ] || fail "the person's folders still have: $left"
say "purged without a trace"

# --- nothing in the document that was not run -----------------------------------------

for stage in $(stages); do
  count=$(linux_section | grep -cx "\`\`\`sh run $stage")
  for number in $(seq "$count"); do
    grep -qx "$stage/$number" "$work/run" || fail "block $number of “$stage” in the document was not run"
  done
done
say "passed; the document's commands were run: $(sort -u "$work/run" | wc -l)"
