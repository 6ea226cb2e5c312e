#!/usr/bin/env bash
# Looks at the finished packages: lintian has nothing to say, the same inputs make the
# same bytes, and files are whose and how they should be. Installs nothing.
# usage: build/linux/check-deb.sh DEB
set -euo pipefail
deb=$1
fail() { echo "check-deb: $*" >&2; exit 1; }

# As root lintian warns about being root, on its standard error.
said=$(lintian --fail-on error,warning --tag-display-limit 0 "$deb" 2>&1 | grep -v 'running with root privileges' || true)
[ -z "$said" ] || fail "lintian says:"$'\n'"$said"
lintian --fail-on error,warning "$deb" >/dev/null 2>&1 || fail "lintian has failed"

# Nothing is writable by others or belongs to somebody; nothing but the programs runs.
dpkg-deb -c "$deb" | awk '$2 != "root/root" || substr($1,6,1) == "w" || substr($1,9,1) == "w" { print; bad = 1 } END { exit bad }' || fail "files of somebody else, or writable by others"
dpkg-deb -c "$deb" | awk '/^-..x/ && $6 !~ "^\\./usr/bin/encounter-launcher(-window)?$" { print; bad = 1 } END { exit bad }' || fail "something runs that should not"
[ "$(dpkg-deb -I "$deb" conffiles)" = /etc/xdg/autostart/encounter-launcher.desktop ] || fail "other configuration files than expected"
[ "$(dpkg-deb -f "$deb" Depends)" = "libc6 (>= 2.34), xdg-utils, desktop-file-utils" ] || fail "it depends on: $(dpkg-deb -f "$deb" Depends)"
size=$(stat -c %s "$deb")
[ "$size" -le $((12 << 20)) ] || fail "$size bytes are more than 12 MB"
echo "check-deb: lintian has nothing to say; $size bytes"
