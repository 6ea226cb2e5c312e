#!/usr/bin/env bash
# Builds the Windows program a second time, from a copy of the tree in another place
# and with nothing compiled before, and says whether the bytes are the same as those
# in build/bin. VERSION is that of the first build.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { echo "reproducible: $*" >&2; exit 1; }
work=$(mktemp -d /tmp/encounter-again.XXXXXX)
trap 'rm -rf "$work"' EXIT
# With its history, since a build says from which commit it is and whether the tree
# was changed.
mkdir "$work/tree"
cp -a .git "$work/tree/.git"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -a -t "$work/tree"
cp -a frontend/dist "$work/tree/frontend/"
GOCACHE=$work/cache make -s -C "$work/tree" -o frontend/dist/index.html build-windows build-windows-arm64 ${VERSION:+VERSION="$VERSION"} >/dev/null
for file in encounter-launcher.exe encounter-launcher.com arm64/encounter-launcher.exe arm64/encounter-launcher.com; do
  cmp "build/bin/$file" "$work/tree/build/bin/$file" || fail "$file is another one when it is built again"
done
echo "reproducible: four files, the same bytes twice"
