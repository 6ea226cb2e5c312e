// Package tray shows the agent in the notification area: an icon that tells the
// state, and a menu with who is signed in, the running launch, the recent
// encounters and what can be done now. It is drawn from a view.Snapshot alone and
// gives back intents.
//
// It never opens anything itself and never decides whether something may be done.
// It never lets a click open another encounter than the one that was under the
// pointer: see settle. Where there is no notification area it does nothing and
// fails nothing; everything in the menu is in the window and on the command line
// too. It never starts a session bus.
package tray

import (
	"context"
	"log/slog"
	"time"

	"encounterlauncher/internal/text"
	"encounterlauncher/internal/view"
)

// Intents takes what the person asks for. The names are those of the control
// channel: "open-recent" with the id of a recent entry, "cancel", "retry" and
// "fresh-link" with the id of the launch that was shown ("cancel" without one ends
// a sign-in), "sign-in", "show-sign-in", "sign-out", "open-window",
// "open-help-desk" and "quit".
type Intents interface {
	// Do is called on a goroutine of its own for every click, so it may take time.
	Do(ctx context.Context, name, id string) error
}

// Options are the circumstances of Run.
type Options struct {
	// ID names the program for the desktop, for example "encounter-launcher". It is
	// stable, and desktops remember the person's choices for the icon by it.
	ID string
	// Now is the clock, in the zone in which times are shown; nil is time.Now.
	Now func() time.Time
	// Log receives what went wrong; nil is nothing.
	Log *slog.Logger
}

// drawAfter is how long the icon waits for a newer snapshot before it draws one. A launch
// changes five within the milliseconds that it takes, and each would be drawn, and told
// over the bus, beside the work for which somebody waits.
const drawAfter = 60 * time.Millisecond

// Run shows the newest snapshot, a moment after it came, until ctx ends, and then takes
// the icon away and returns nil. It always drains snapshots, also where there is no
// notification area, and it never waits for a desktop that does not answer. It may be called once in the
// life of a process, from any goroutine: the library under it has one tray.
func Run(ctx context.Context, snapshots <-chan view.Snapshot, do Intents, opts Options) error {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	type outcome struct {
		bar *bar
		err error
	}
	started := make(chan outcome, 1)
	go func() {
		b, err := startBar(ctx, opts.ID)
		if err == nil && ctx.Err() != nil {
			b.stop()
		}
		started <- outcome{b, err}
	}()

	var (
		icons   *bar
		gone    <-chan struct{}
		opened  <-chan struct{}
		clicks  <-chan int
		newest  view.Snapshot
		have    bool
		words   text.Catalogue
		spoken  string
		showing board
		due     <-chan time.Time // when newest is drawn
	)
	show := func() {
		if icons == nil || !have {
			return
		}
		if as := newest.Language + " " + newest.Locale; !showing.drawn || as != spoken {
			words, spoken = text.For(newest.Language).In(newest.Locale), as
		}
		now := opts.Now()
		icons.show(showing.update(menu(newest, words, now), now))
	}
	for {
		select {
		case <-ctx.Done():
			if icons != nil {
				icons.stop()
			}
			return nil
		case s, ok := <-snapshots:
			if !ok {
				snapshots = nil
				continue
			}
			newest, have = s, true
			if due == nil {
				due = time.After(drawAfter)
			}
		case <-due:
			due = nil
			show()
		case o := <-started:
			if o.err != nil {
				opts.Log.Info("there is no notification area", "cause", o.err)
				continue
			}
			icons, gone, opened, clicks = o.bar, o.bar.gone, o.bar.opened, o.bar.clicks
			show()
		case <-gone:
			opts.Log.Info("the notification area has gone")
			icons, gone, opened, clicks = nil, nil, nil, nil
		case <-opened:
			// "14:05" becomes "yesterday 14:05" at midnight, and the time for a fresh link
			// runs out, without a snapshot.
			show()
		case n := <-clicks:
			intent, id, ok := showing.click(n, opts.Now())
			if !ok {
				icons.show(showing.again())
				continue
			}
			go func() {
				if err := do.Do(ctx, intent, id); err != nil {
					opts.Log.Warn("an intent from the tray was refused", "intent", intent, "problem", err)
				}
			}()
		}
	}
}
