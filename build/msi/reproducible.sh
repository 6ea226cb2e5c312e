#!/usr/bin/env bash
# Builds the MSI twice from the same programs, at different times and places, and compares; then
# from another program, which must not be the same.
#
#   build/msi/reproducible.sh VERSION EXE COM
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/elsewhere"
cp "$2" "$work/elsewhere/a.exe"
cp "$3" "$work/elsewhere/a.com"
touch -d "2001-02-03 04:05:06" "$work/elsewhere/a.exe"
"$here/build.sh" "$1" "$2" "$3" "$work/first.msi" >/dev/null
sleep 2 # the moments in a cabinet have a step of two seconds
(cd / && TZ=Asia/Tokyo umask 077 && TZ=Asia/Tokyo "$here/build.sh" "$1" "$work/elsewhere/a.exe" "$work/elsewhere/a.com" "$work/second.msi" >/dev/null)
cmp "$work/first.msi" "$work/second.msi" || { echo "msi: the same inputs gave different bytes" >&2; exit 1; }
printf 'x' >>"$work/elsewhere/a.exe"
"$here/build.sh" "$1" "$work/elsewhere/a.exe" "$3" "$work/third.msi" >/dev/null
code() { msiinfo suminfo "$1" | sed -n 's/^Revision number (UUID): //p'; }
product() { msiinfo export "$1" Property | sed -n 's/^ProductCode\t//p'; }
[ "$(code "$work/first.msi")" != "$(code "$work/third.msi")" ] || { echo "msi: two packages have the same package code" >&2; exit 1; }
[ "$(product "$work/first.msi")" = "$(product "$work/third.msi")" ] || { echo "msi: one version has two product codes" >&2; exit 1; }
echo "msi: the same inputs give the same bytes"
