#!/usr/bin/env bash
# Builds targets a second time, from a copy of the tree in another place, with nothing
# compiled before, under another umask, home, time zone, language and (as root) host name,
# and says whether the bytes are the same as those that were built here.
# usage: build/supply/reproducible.sh TARGET… -- FILE|FOLDER…    (VERSION, MAINTAINER as in the first build)
set -euo pipefail
cd "$(dirname "$0")/../.."
go=${GO:-go}

fail() { echo "reproducible: $*" >&2; exit 1; }
targets=() files=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do targets+=("$1"); shift; done
[ "${1:-}" = -- ] || fail "usage: build/supply/reproducible.sh TARGET… -- FILE|FOLDER…"
shift
files=("$@")
[ ${#targets[@]} -gt 0 ] && [ ${#files[@]} -gt 0 ] || fail "nothing to build or to compare"
for file in "${files[@]}"; do [ -e "$file" ] || fail "$file was not built here"; done

work=$(mktemp -d /tmp/encounter-again.XXXXXX)
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
umask 077
tree=$work/quite/another/place/tree
mkdir -p "$tree" "$work/home"
# With its history, since a build says from which commit it is and whether the tree was changed.
cp -a .git "$tree/.git"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -a -t "$tree"
if [ -d frontend/node_modules ]; then
  cp -al frontend/node_modules "$tree/frontend/" 2>/dev/null || { rm -rf "$tree/frontend/node_modules"; cp -a frontend/node_modules "$tree/frontend/"; }
fi

where=()
for name in GOMODCACHE GOPROXY GOSUMDB GONOSUMDB GOTOOLCHAIN; do where+=("$name=$("$go" env "$name")"); done
other=(env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u SOURCE_DATE_EPOCH "${where[@]}" GOCACHE="$work/cache" HOME="$work/home" XDG_CACHE_HOME="$work/home/cache"
  TZ=Pacific/Auckland LANG=C LC_ALL=C USER=somebody LOGNAME=somebody)
host=
if [ "$(id -u)" -eq 0 ] && unshare --uts true 2>/dev/null; then
  host=', another host name'
  # shellcheck disable=SC2016
  other=(unshare --uts sh -c 'hostname elsewhere; exec "$@"' sh "${other[@]}")
fi
"${other[@]}" make -C "$tree" "${targets[@]}" GO="$go" ${VERSION:+VERSION="$VERSION"} ${MAINTAINER:+MAINTAINER="$MAINTAINER"} >"$work/said" 2>&1 || { tail -n 30 "$work/said" >&2; fail "the second build failed"; }

count=0 differ=()
while IFS= read -r -d '' file; do
  count=$((count + 1))
  cmp -s "$file" "$tree/$file" || differ+=("$file")
done < <(find "${files[@]}" -type f -print0)
# Nor may the second build have made files that the first has not.
while IFS= read -r -d '' file; do
  [ -e "$file" ] || differ+=("$file")
done < <(cd "$tree" && find "${files[@]}" -type f -print0)
[ ${#differ[@]} -eq 0 ] || fail "${#differ[@]} of $count files are others when they are built again: ${differ[*]}"
echo "reproducible: $count files, the same bytes twice (another folder, cache, umask, home, time zone and language$host)"
