#!/usr/bin/env bash
# Installs the Debian packages that a part of the work needs, and nothing that is
# there already. usage: build/setup.sh window|test
set -euo pipefail

window="build-essential pkg-config libgtk-3-dev libwebkit2gtk-4.1-dev"
test="$window xvfb xauth xdotool x11-utils xclip imagemagick openbox gnome-keyring libsecret-tools dbus dbus-x11 xdg-utils desktop-file-utils \
  libglib2.0-bin at-spi2-core fonts-dejavu-core chromium curl dunst jq openssl \
  wine wine64 wixl msitools osslsigncode softhsm2 libengine-pkcs11-openssl lintian rpm man-db procps strace systemd python3 tinyproxy squid-openssl nginx"

case "${1:-}" in
  window) want=$window ;;
  test) want=$test ;;
  *) echo "usage: build/setup.sh window|test" >&2; exit 2 ;;
esac

missing=()
for package in $want; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "setup: needs root to install: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "setup: installing ${#missing[@]} packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get -qq update
"${as_root[@]}" apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
