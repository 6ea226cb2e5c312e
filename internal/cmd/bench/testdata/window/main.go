// Command window is the least that a Wails window can be: an empty page of the size
// of the launcher's window. It prints the two lines that the launcher's window
// prints: when its page is there, and when that has been painted.
package main

import (
	"context"
	"embed"
	"fmt"
	"os"

	"github.com/wailsapp/wails/v2"
	"github.com/wailsapp/wails/v2/pkg/options"
	"github.com/wailsapp/wails/v2/pkg/options/assetserver"
	"github.com/wailsapp/wails/v2/pkg/runtime"
)

//go:embed all:page
var page embed.FS

func main() {
	err := wails.Run(&options.App{
		Title: "bench", Width: 440, Height: 660,
		AssetServer: &assetserver.Options{Assets: page},
		OnStartup: func(ctx context.Context) {
			runtime.EventsOnce(ctx, "painted", func(...any) { fmt.Println("the window is painted") })
		},
		OnDomReady: func(context.Context) { fmt.Println("the window is open") },
	})
	if err != nil {
		os.Exit(4)
	}
}
