package tray

import (
	"context"
	"errors"
)

// bar would be the icon in the menu bar, which is not claimed yet.
type bar struct {
	clicks       chan int
	opened, gone chan struct{}
}

func startBar(context.Context, string) (*bar, error) {
	return nil, errors.New("there is no tray on this system yet")
}

const returns = false

func (*bar) again(context.Context) error { return errors.New("there is no tray on this system yet") }

func (*bar) show(change) {}
func (*bar) stop()       {}
