#!/bin/sh
# The window's bindings (frontend/wailsjs) are written by the program itself when
# it is built with the tag bindings; `wails generate module` does the same.
#
#   build/bindings.sh check    generate them aside and compare with what is committed
#   build/bindings.sh write    write them anew
set -eu
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 ${GO:-go} build -tags bindings -o "$work/bindings" .
# It writes below the folder that holds wails.json.
cp wails.json "$work/"
(cd "$work" && tsoutputtype=interfaces ./bindings >log 2>&1) || { cat "$work/log"; exit 1; }

# The generator ends with 0 and writes nothing when no bound file is in the build.
if [ ! -s "$work/frontend/wailsjs/go/main/App.d.ts" ]; then
	echo "bindings: the generator wrote nothing: is window_desktop.go built with the tag bindings?" >&2
	exit 1
fi
case "${1:-check}" in
check)
	if ! diff -r "$work/frontend/wailsjs" frontend/wailsjs; then
		echo "bindings: frontend/wailsjs is not what app.go gives: run build/bindings.sh write" >&2
		exit 1
	fi
	;;
write)
	rm -rf frontend/wailsjs
	cp -r "$work/frontend/wailsjs" frontend/wailsjs
	chmod 644 frontend/wailsjs/runtime/* # as the Wails tools leave them
	;;
*)
	echo "usage: build/bindings.sh check|write" >&2
	exit 2
	;;
esac
