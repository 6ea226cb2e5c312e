#!/usr/bin/env bash
# Prints the licences of everything that the two Linux programs contain: Go, every
# module that is linked, and Svelte, which is compiled into the window's pages. With
# --of, those of one other program. A module without a licence file fails the build.
# usage: build/linux/notices.sh WINDOW_TAGS | --of PACKAGE
set -euo pipefail
cd "$(dirname "$0")/../.."
go=${GO:-go}
export LC_ALL=C

# notice NAME FOLDER
notice() {
  local name=$1 folder=$2 file found=
  for file in "$folder"/LICEN[CS]E* "$folder"/COPYING* "$folder"/NOTICE*; do
    [ -f "$file" ] || continue
    found=1
    printf '%s\n%s: %s\n\n' '------------------------------------------------------------------------------' "$name" "$(basename "$file")"
    tr -d '\r' <"$file"
    printf '\n'
  done
  [ -n "$found" ] || { echo "notices: $name has no licence file" >&2; return 1; }
}

form='{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}'
if [ "$1" = --of ]; then
  echo "$(basename "$2") contains the following libraries, under these licences."
  modules=$(CGO_ENABLED=0 "$go" list -deps -f "$form" "$2" | sort -u)
else
  echo "Encounter Launcher contains the following libraries, under these licences."
  modules=$({ CGO_ENABLED=0 "$go" list -deps -f "$form" .; CGO_ENABLED=1 "$go" list -deps -tags "$1" -f "$form" .; } | sort -u)
fi
echo
notice "The Go programming language, $("$go" env GOVERSION)" "$("$go" env GOROOT)"
while read -r path version folder; do
  notice "$path $version" "$folder"
done <<<"$modules"
[ "$1" = --of ] || notice "Svelte (npm svelte)" frontend/node_modules/svelte
