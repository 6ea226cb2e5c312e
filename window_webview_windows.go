//go:build (desktop || dev) && !bindings

package main

import (
	"fmt"

	"github.com/wailsapp/go-webview2/webviewloader"

	"encounterlauncher/internal/problem"
)

// oldestWebView is the oldest WebView2 that Wails v2 works with.
const oldestWebView = "94.0.992.31"

// windowPossible reports whether a window can be shown: WebView2 is installed
// and new enough. It never offers to install it; that is for IT.
func windowPossible() error {
	if err := pagesBuilt(); err != nil {
		return err
	}
	version, err := webviewloader.GetAvailableCoreWebView2BrowserVersionString("")
	if err != nil {
		return fmt.Errorf("asking for the version of WebView2: %w", err)
	}
	if version == "" {
		return problem.With(problem.WindowUnavailable, "Microsoft Edge WebView2 is not installed.", nil)
	}
	order, err := webviewloader.CompareBrowserVersions(version, oldestWebView)
	if err != nil {
		return fmt.Errorf("comparing the version of WebView2: %w", err)
	}
	if order < 0 {
		return problem.With(problem.WindowUnavailable, "Microsoft Edge WebView2 is too old.", nil)
	}
	return nil
}
