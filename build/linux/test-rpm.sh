#!/usr/bin/env bash
# Looks into the rpm, then installs, upgrades and erases it with rpm itself in a root of
# its own, where the program is started too: the agent needs no library. What a whole
# Fedora would add (dnf, its weak dependencies, its triggers) is not here:
# docs/not-verified.md.
# usage: build/linux/test-rpm.sh RPM    (as root)
set -euo pipefail
cd "$(dirname "$0")/../.."
rpm=$(realpath "$1")
name=encounter-launcher

say() { echo "test-rpm: $*"; }
fail() { echo "test-rpm: FAILED: $*" >&2; exit 1; }

if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || fail "needs root"
  exec sudo --preserve-env=PATH,NFPM,GO,GOFLAGS "$0" "$@"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"
# Neither this machine's packages nor its configuration are asked.
inside() { rpm --root "$root" --dbpath /var/lib/rpm --nosignature "$@"; }
inside --initdb

old=$(rpm -qp --nosignature --queryformat '%{VERSION}' "$rpm")
new=$old+1
mkdir -p "$work/bin"
CGO_ENABLED=0 "${GO:-go}" build -trimpath -ldflags "-s -w -X main.version=$new" -o "$work/bin/$name" .
cp "build/bin/$name-window" "$work/bin/"
# The newer package brings a changed autostart file, to see that an administrator's stays.
{ cat build/linux/autostart.desktop; echo 'X-Test=true'; } >"$work/autostart.desktop"
sed "s#src: build/bin/#src: $work/bin/#; s#build/linux/autostart.desktop#$work/autostart.desktop#" build/linux/nfpm.yaml >"$work/nfpm.yaml"
VERSION=$new MAINTAINER='Test <test@hospital.example>' GOFLAGS=-mod=mod "${GO:-go}" run "$NFPM" package \
  --config "$work/nfpm.yaml" --packager rpm --target "$work/new.rpm" >/dev/null

# --- what it says -------------------------------------------------------------------

[ -z "$(rpm -qp --nosignature --scripts "$rpm")" ] || fail "it runs scripts"
[ "$(rpm -qp --nosignature --requires "$rpm" | grep -v '^rpmlib(' | sort | tr '\n' ' ')" = "desktop-file-utils libc.so.6(GLIBC_2.34)(64bit) xdg-utils " ] || fail "it requires: $(rpm -qp --nosignature --requires "$rpm")"
rpm -qp --nosignature --recommends "$rpm" | grep -qF 'libwebkit2gtk-4.1.so.0()(64bit)' || fail "it does not recommend the window's library"
# What the window really asks for is what is written there.
needed=$(objdump -T "build/bin/$name-window" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n1)
[ "$needed" = GLIBC_2.34 ] || fail "the window needs $needed: nfpm.yaml names another C library"
[ "$(rpm -qp --nosignature -c "$rpm")" = /etc/xdg/autostart/$name.desktop ] || fail "other configuration files than expected"
[ -z "$(rpm -qp --nosignature --queryformat '[%{FILEUSERNAME}:%{FILEGROUPNAME}\n]' "$rpm" | grep -vx root:root)" ] || fail "files of somebody else"
# Folders of others would be in conflict with the package filesystem.
folders=$(rpm -qp --nosignature --queryformat '[%{FILEMODES:perms} %{FILENAMES}\n]' "$rpm" | sed -n 's/^d[^ ]* //p' | grep -v "$name" || true)
[ -z "$folders" ] || fail "it owns folders of others: $folders"
[ "$(rpm -qp --nosignature --queryformat '%{BUILDHOST}' "$rpm")" = reproducible ] || fail "it tells on which machine it was built"
size=$(stat -c %s "$rpm")
[ "$size" -le $((12 << 20)) ] || fail "$size bytes are more than 12 MB"

# The deb has the same files, but for what each system wants elsewhere.
deb=build/out/${name}_${old}_amd64.deb
if [ -f "$deb" ]; then
  differ=$(diff <(dpkg-deb -c "$deb" | awk '$1 ~ /^-/ { print substr($6, 2) }' | sort) \
    <(rpm -qp --nosignature --queryformat '[%{FILEMODES:perms} %{FILENAMES}\n]' "$rpm" | sed -n 's/^-[^ ]* //p' | sort) | grep '^[<>]' | grep -v -e /usr/share/lintian/ -e /usr/share/zsh/ || true)
  [ -z "$differ" ] || fail "deb and rpm differ: $differ"
fi
say "says what it should; $size bytes"

# --- install, upgrade, erase ----------------------------------------------------------

inside -i --nodeps "$rpm" # what it needs was looked at above; this root has nothing
inside -V --nodeps "$name" || fail "files are not as packaged"
[ "$(chroot "$root" /usr/bin/$name version)" = "$old" ] || fail "the installed program is not of version $old"
chroot "$root" /usr/bin/$name policy >/dev/null && fail "launches can go on without a policy"
cat >"$root/etc/$name/policy.json" <<'JSON'
{
  "BackendURL": "https://encounters.hospital.example/api",
  "OIDCIssuer": "https://login.hospital.example/realms/staff",
  "OIDCClientID": "encounter-launcher",
  "EncounterURLHosts": [".vendor.example"]
}
JSON
chroot "$root" /usr/bin/$name policy >/dev/null || fail "the policy is not taken up"
desktop-file-validate --no-hints "$root/usr/share/applications/$name.desktop" "$root/etc/xdg/autostart/$name.desktop"

echo 'Hidden=true' >>"$root/etc/xdg/autostart/$name.desktop"
inside -U --nodeps "$work/new.rpm" 2>"$work/said" || fail "the upgrade: $(cat "$work/said")"
[ "$(chroot "$root" /usr/bin/$name version)" = "$new" ] || fail "the program was not upgraded"
grep -qx 'Hidden=true' "$root/etc/xdg/autostart/$name.desktop" && [ -f "$root/etc/xdg/autostart/$name.desktop.rpmnew" ] || fail "the upgrade has undone a change of the autostart file"
rm "$root/etc/xdg/autostart/$name.desktop.rpmnew"
chroot "$root" /usr/bin/$name policy >/dev/null || fail "the upgrade has lost the policy"
inside -U --nodeps "$rpm" 2>/dev/null && fail "an older version goes over a newer one without being told to"

inside -e --nodeps "$name" 2>/dev/null
left=$(find "$root" -name "*$name*" -not -path "$root/root/*" | sed "s#^$root##" | sort | tr '\n' ' ')
[ "$left" = "/etc/$name /etc/xdg/autostart/$name.desktop.rpmsave " ] && [ "$(ls "$root/etc/$name")" = policy.json ] || fail "left behind: $left"
say "passed: installed $old, upgraded to $new, erased; what administrators wrote has stayed"
