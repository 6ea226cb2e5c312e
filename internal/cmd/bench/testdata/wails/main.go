// Command wails is a stock Wails program that stays resident the way Wails offers
// it: hidden, with SingleInstanceLock. It tells the socket in STAGE_NOTES when its
// page is ready, and when a second process has reached the first.
package main

import (
	"context"
	"embed"
	"encoding/binary"
	"os"

	"github.com/wailsapp/wails/v2"
	"github.com/wailsapp/wails/v2/pkg/options"
	"github.com/wailsapp/wails/v2/pkg/options/assetserver"
	"golang.org/x/sys/unix"
)

//go:embed all:page
var page embed.FS

func main() {
	err := wails.Run(&options.App{
		Title: "bench", Width: 800, Height: 600, StartHidden: true,
		AssetServer: &assetserver.Options{Assets: page},
		OnDomReady:  func(context.Context) { note('r', "") },
		SingleInstanceLock: &options.SingleInstanceLock{
			UniqueId: "encounterlauncherbench",
			OnSecondInstanceLaunch: func(second options.SecondInstanceData) {
				if len(second.Args) == 1 {
					note('s', second.Args[0])
				}
			},
		},
	})
	if err != nil {
		os.Exit(4)
	}
}

func note(kind byte, text string) {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &at); err != nil {
		os.Exit(4)
	}
	message := binary.LittleEndian.AppendUint64(nil, uint64(at.Nano()))
	message = append(append(message, kind), text...)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		os.Exit(4)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrUnix{Name: os.Getenv("STAGE_NOTES")}); err != nil {
		os.Exit(4)
	}
}
