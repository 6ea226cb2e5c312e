#!/usr/bin/env bash
# Packs the same inputs once more, from copies with other times and modes, under another
# umask and in another time zone, and compares the bytes.
# usage: build/linux/check-same.sh deb|rpm PACKAGE    (VERSION, MAINTAINER, NFPM, SOURCE_DATE_EPOCH as in linux.mk)
set -euo pipefail
cd "$(dirname "$0")/../.."
again=$(mktemp -d)
trap 'rm -rf "$again"' EXIT
umask 0077
mkdir -p "$again/build/bin" "$again/build/out"
cp build/bin/encounter-launcher build/bin/encounter-launcher-window "$again/build/bin/"
cp -r build/linux build/icons build/policy "$again/build/"
cp -r build/out/linux "$again/build/out/"
find "$again" -exec touch -d '2001-02-03 04:05:06' {} +
(cd "$again" && TZ=Pacific/Auckland GOFLAGS=-mod=mod "${GO:-go}" run "$NFPM" package --config build/linux/nfpm.yaml --packager "$1" --target "again.$1") >/dev/null
cmp "$2" "$again/again.$1" || { echo "check-same: the same inputs have made another $1" >&2; exit 1; }
echo "check-same: the same inputs make the same $1"
