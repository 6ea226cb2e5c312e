//go:build linux || windows

package tray

import (
	"context"

	"fyne.io/systray"
)

// bar is the icon and its menu in the notification area. It belongs to the
// goroutine of Run.
type bar struct {
	items  [lines]*systray.MenuItem
	clicks chan int
	// opened receives something each time the menu is opened, where the desktop tells.
	opened <-chan struct{}
	// gone is closed when the notification area cannot be reached any more; nil
	// where that does not happen.
	gone <-chan struct{}
	// shut closes the menu where an open one is not drawn anew when it changes.
	shut func()
	stop func()
}

// startBar makes the icon and all lines, hidden. An error means that there is no
// notification area for this program, and is nothing that can be mended here.
func startBar(ctx context.Context, id string) (*bar, error) {
	b := &bar{clicks: make(chan int), opened: systray.TrayOpenedCh}
	gone, shut, stop, err := start(ctx, id, func() { b.build(ctx) })
	if err != nil {
		return nil, err
	}
	b.gone, b.shut, b.stop = gone, shut, stop
	return b, nil
}

// again shows icon and lines as they were, after gone was closed, in a notification
// area that can be reached again.
func (b *bar) again(ctx context.Context) error {
	gone, stop, err := restart(ctx)
	if err == nil {
		b.gone, b.stop = gone, stop
	}
	return err
}

func (b *bar) build(ctx context.Context) {
	for n := range b.items {
		if separated(n) {
			systray.AddSeparator()
		}
		if inSubmenu(n) {
			b.items[n] = b.items[recentsLine].AddSubMenuItem("", "")
		} else {
			b.items[n] = systray.AddMenuItem("", "")
		}
		if n == recentsLine {
			continue // some desktops report a click where the submenu opens
		}
		// The library drops a click that nobody waits for.
		go forward(ctx, n, b.items[n].ClickedCh, b.clicks)
	}
	// Windows hangs a submenu only into a line that can be seen.
	for _, item := range b.items {
		item.Hide()
	}
}

func forward(ctx context.Context, n int, from <-chan struct{}, to chan<- int) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-from:
		}
		select {
		case <-ctx.Done():
			return
		case to <- n:
		}
	}
}

// show draws what changed and touches nothing else.
func (b *bar) show(c change) {
	if c.moved {
		b.shut()
	}
	if c.face {
		setPicture(format(c.model.face))
	}
	if c.tip {
		systray.SetTooltip(c.model.tooltip)
	}
	for n, changed := range c.line {
		if changed {
			b.draw(b.items[n], c.model.lines[n], n == recentsLine, c.was[n])
		}
	}
}

// setPicture survives the session bus: the library panics when it is lost in this
// very moment, and gone says so right after.
func setPicture(icon []byte) {
	defer func() { _ = recover() }()
	systray.SetIcon(icon)
}

// draw shows a line; opens says that it opens the submenu.
func (b *bar) draw(item *systray.MenuItem, l line, opens, was bool) {
	if l.title == "" {
		// A hidden line keeps its text where the desktop can read it.
		item.SetTitle("")
		item.Hide()
		return
	}
	if enabled := l.intent != "" || opens; enabled == item.Disabled() {
		if enabled {
			item.Enable()
		} else {
			item.Disable()
		}
	}
	item.SetTitle(literal(l.title))
	if !was {
		item.Show()
	}
}
