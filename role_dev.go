//go:build dev

package main

import "encounterlauncher/internal/paths"

// layout is that of the demo: `wails dev` shows the window of the sandbox's
// launcher and keeps away from the one that this machine may really use. No
// program that is handed out is built with the tag dev.
func layout() paths.Layout { return paths.Of(paths.Demo) }
