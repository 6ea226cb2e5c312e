//go:build desktop || bindings || dev

package main

import (
	"context"
	"embed"
	"errors"
	"fmt"

	"github.com/wailsapp/wails/v2"
	"github.com/wailsapp/wails/v2/pkg/logger"
	"github.com/wailsapp/wails/v2/pkg/options"
	"github.com/wailsapp/wails/v2/pkg/options/assetserver"
	"github.com/wailsapp/wails/v2/pkg/options/linux"
	"github.com/wailsapp/wails/v2/pkg/options/windows"
	"github.com/wailsapp/wails/v2/pkg/runtime"

	"encounterlauncher/internal/problem"
)

//go:embed all:frontend/dist
var pages embed.FS

// Larger than a desktop shows it: the largest one took 5 ms of every start.
//
//go:embed build/icons/encounter-launcher-128.png
var windowIcon []byte

const (
	windowTitle = "Encounter Launcher"
	// windowProgramName is the WM class by which a desktop groups the window with
	// the launcher's menu entry.
	windowProgramName = "encounter-launcher"
)

// runWindow shows the window until the person closes it (nil) or ctx ends. It
// returns window_unavailable where no window can be shown, and shows nothing
// then. A process can call it once, and must from its main goroutine.
func runWindow(ctx context.Context, deps windowDeps) (err error) {
	if err := windowPossible(); err != nil {
		var known *problem.Problem
		if errors.As(err, &known) {
			return known // it says what is missing
		}
		return problem.New(problem.WindowUnavailable, err)
	}
	// Wails panics where the toolkit refuses after all, for example when the
	// display does not accept this user.
	defer func() {
		if r := recover(); r != nil {
			err = problem.New(problem.WindowUnavailable, fmt.Errorf("starting the window: %v", r))
		}
	}()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wailsCtx context.Context
	app := newApp(deps,
		func(event string, data any) { runtime.EventsEmit(wailsCtx, event, data) },
		func() {
			runtime.WindowUnminimise(wailsCtx)
			runtime.WindowShow(wailsCtx)
		})
	err = wails.Run(&options.App{
		Title:     windowTitle,
		Width:     440,
		Height:    660,
		MinWidth:  360,
		MinHeight: 480,
		// Between the light and the dark page, until the page sets its own.
		BackgroundColour: options.NewRGB(0x8a, 0x95, 0x9c),
		AssetServer:      &assetserver.Options{Assets: pages},
		Bind:             []any{app},
		ErrorFormatter:   forPage,
		OnStartup: func(c context.Context) {
			wailsCtx = c
			runtime.EventsOnce(c, eventPainted, func(...any) {
				if deps.Painted != nil {
					deps.Painted()
				}
			})
			go app.follow(ctx)
			context.AfterFunc(ctx, func() { runtime.Quit(c) })
		},
		OnDomReady: func(context.Context) {
			if deps.Up != nil {
				deps.Up()
			}
		},
		OnShutdown:                       func(context.Context) { cancel() },
		EnableDefaultContextMenu:         false,
		EnableFraudulentWebsiteDetection: false,
		DragAndDrop:                      &options.DragAndDrop{EnableFileDrop: false, DisableWebViewDrop: true},
		LogLevel:                         logger.ERROR,
		LogLevelProduction:               logger.ERROR,
		Linux: &linux.Options{
			Icon:             windowIcon,
			ProgramName:      windowProgramName,
			WebviewGpuPolicy: linux.WebviewGpuPolicyNever,
		},
		Windows: &windows.Options{
			Theme:                windows.SystemDefault,
			WebviewUserDataPath:  deps.Data,
			IsZoomControlEnabled: false,
			DisablePinchZoom:     false,
		},
	})
	if err != nil {
		return problem.New(problem.WindowUnavailable, fmt.Errorf("showing the window: %w", err))
	}
	return nil
}

// pagesBuilt reports whether the program was built with the window's page: Wails
// ends the process where it is missing.
func pagesBuilt() error {
	f, err := pages.Open("frontend/dist/index.html")
	if err != nil {
		return errors.New("this program was built without the window's page")
	}
	return f.Close()
}
