// Package notify tells the person by system notifications what needs them: the
// notice of a view.Snapshot, one at a time, with buttons for what can be done.
//
// It never names a patient or shows a link: it says only what stands in the
// notice's problem, or words of its own. It never insists: while the person is not
// to be disturbed, as far as the system tells, a notice is held back and shown
// afterwards if it still says something; without a notification service nothing is
// shown and nothing fails, and it starts no session bus.
package notify

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/text"
	"encounterlauncher/internal/view"
)

// Intents takes what the person asks for by a button. The names are those of the
// control channel: "retry", "cancel" and "fresh-link" with the id of the launch
// that the notice was about, "sign-in", "open-help-desk" and "open-window".
type Intents interface {
	// Do is called on a goroutine of its own, so it may take time. See Token.
	Do(ctx context.Context, name, id string) error
}

// Options are the circumstances of Run.
type Options struct {
	// ID is the name of the program's desktop file without its ending; desktops take
	// the icon and the person's choices from it. Empty: they show none.
	ID string
	// Now is the clock, in the zone in which times are shown; nil is time.Now.
	Now func() time.Time
	// Log receives, at debug level, that something could not be shown; nil is nothing.
	Log *slog.Logger
}

type tokenKey struct{}

// Token returns the XDG activation token that came with the button's press, from
// the context of an Intents call; empty when the desktop gave none. With it what
// the intent opens may come to the front.
func Token(ctx context.Context) string {
	token, _ := ctx.Value(tokenKey{}).(string)
	return token
}

// errNone says that nothing can be shown on this system. It is never a problem.
var errNone = errors.New("there is no notification service")

// errHeld says that the person is not to be disturbed now. The desk sends an event
// with free once that may have changed.
var errHeld = errors.New("the person is not to be disturbed")

// note is a notification as it is handed to the desktop.
type note struct {
	title, body string
	buttons     []button
	urgency     urgency
	// fleeting says that it is of no use later, so that no list keeps it.
	fleeting bool
	// category is one of the Desktop Notifications Specification; may be empty.
	category string
}

// urgency has the values of the Desktop Notifications Specification. Nothing here
// is critical: that would break through a wish not to be disturbed.
type urgency byte

const (
	low    urgency = 0
	normal urgency = 1
)

// button is one thing that a person can press. The button with the key
// defaultKey is the notification itself.
type button struct{ key, label string }

// defaultKey is the key of a press on the notification itself.
const defaultKey = "default"

// endLimit is how long Run may take to take its note away once ctx has ended: the
// agent may be waiting to replace itself.
const endLimit = time.Second

// event is something that the person did with a notification.
type event struct {
	// note is the number that desk.show returned.
	note uint32
	// key of the button; empty when the notification was closed.
	key string
	// token is the XDG activation token of the press, if any.
	token string
	// free says, in place of all the others, that what is held back may be shown now.
	free bool
}

// Run shows each new notice until ctx ends; then it takes the last one away, since
// its buttons would do nothing, and returns nil. A newer notice replaces an older.
// A notice is taken away when the snapshot has none any more, or when a launch has
// succeeded since. It always drains snapshots and never holds the agent up while a
// notification service does not answer.
func Run(ctx context.Context, snapshots <-chan view.Snapshot, do Intents, opts Options) error {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	newest := make(chan view.Snapshot, 1)
	go keepNewest(ctx, snapshots, newest)
	r := &runner{do: do, log: opts.Log, now: opts.Now, desk: newDesk(opts.ID)}
	defer r.desk.end()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), endLimit)
			defer cancel()
			r.close(last)
			return nil
		case s := <-newest:
			r.consider(ctx, s)
		case e := <-r.desk.events:
			r.happened(ctx, e)
		}
	}
}

func keepNewest(ctx context.Context, from <-chan view.Snapshot, newest chan view.Snapshot) {
	for {
		select {
		case <-ctx.Done():
			return
		case s, ok := <-from:
			if !ok {
				return
			}
			select {
			case <-newest:
			default:
			}
			newest <- s
		}
	}
}

// runner belongs to the goroutine of Run.
type runner struct {
	do   Intents
	log  *slog.Logger
	now  func() time.Time
	desk *desk

	// last is the id of the newest notice that was taken up.
	last uint64
	// shown is the desktop's number of what is to be seen now; 0 is nothing.
	shown uint32
	// pressed says that a button was pressed: a second press is the same wish.
	pressed bool
	// held is the snapshot whose notice waits until the person may be disturbed; nil
	// for none.
	held *view.Snapshot
	// launch is the launch that what is shown is about; may be empty.
	launch string
	// opened is the launch that had succeeded when it was shown.
	opened string
}

func (r *runner) consider(ctx context.Context, s view.Snapshot) {
	opened := openedLaunch(s)
	if n := s.Notice; n != nil && n.ID > r.last {
		r.last, r.opened = n.ID, opened
		r.present(ctx, s)
		return
	}
	if over := s.Notice == nil || (opened != "" && opened != r.opened); over {
		r.held = nil
		r.close(ctx)
	}
	if r.held != nil {
		r.present(ctx, s) // the desktop may have come to an end of it unheard
	}
}

// present shows the notice of a snapshot, or holds it back.
func (r *runner) present(ctx context.Context, s view.Snapshot) {
	r.held = nil
	n, ok := compose(*s.Notice, text.For(s.Language).In(s.Locale), r.now())
	if !ok {
		r.close(ctx)
		return
	}
	number, err := r.desk.show(ctx, n)
	switch {
	case errors.Is(err, errHeld):
		r.held = &s
	case err != nil:
		r.log.Debug("a notice was not shown", "cause", err)
	}
	// The older one is taken away and not replaced under its number: a button
	// that is pressed at this moment would count for the newer one.
	r.close(ctx)
	r.shown, r.pressed, r.launch = number, false, s.Notice.Launch
}

func openedLaunch(s view.Snapshot) string {
	if s.Launch == nil || s.Launch.Stage != view.Opened {
		return ""
	}
	return s.Launch.ID
}

func (r *runner) close(ctx context.Context) {
	if r.shown == 0 {
		return
	}
	if err := r.desk.close(ctx, r.shown); err != nil {
		r.log.Debug("a notice was not taken away", "cause", err)
	}
	r.shown = 0
}

func (r *runner) happened(ctx context.Context, e event) {
	if e.free {
		if r.held != nil {
			r.present(ctx, *r.held)
		}
		return
	}
	if r.shown == 0 || e.note != r.shown {
		return
	}
	if e.key == "" {
		r.shown = 0
		return
	}
	intent, ok := intentOf(e.key)
	if !ok || r.pressed {
		return
	}
	r.pressed = true
	id := ""
	switch intent {
	case "retry", "cancel", "fresh-link":
		id = r.launch
	}
	if e.token != "" {
		ctx = context.WithValue(ctx, tokenKey{}, e.token)
	}
	go func() {
		if err := r.do.Do(ctx, intent, id); err != nil {
			r.log.Warn("an intent from a notice was refused", "intent", intent, "problem", err)
		}
	}()
}

// intentOf turns the key of a button into the name of an intent.
func intentOf(key string) (string, bool) {
	switch key {
	case view.ActionRetry:
		return "retry", true
	case view.ActionSignIn:
		return "sign-in", true
	case view.ActionCancel:
		return "cancel", true
	case view.ActionFreshLink:
		return "fresh-link", true
	case view.ActionHelpDesk:
		return "open-help-desk", true
	case view.ActionOpenWindow, defaultKey:
		return "open-window", true
	}
	return "", false
}

// compose writes a notice down. It is not ok for a kind that this version does not
// know. Actions that it does not know have no button.
func compose(n view.Notice, words text.Catalogue, now time.Time) (out note, ok bool) {
	out = note{title: words.Word("notice.title"), urgency: normal}
	switch n.Kind {
	case view.NoticeProblem:
		out.body = words.Word("notice.body", "sentence", n.Problem.Sentence, "next_step", n.Problem.NextStep)
		if n.Problem.Reference != "" {
			out.body += "\n" + words.Word("notice.reference", "reference", n.Problem.Reference)
		}
		switch n.Problem.Code {
		case problem.OrgUnreachable, problem.TLSUntrusted, problem.ProxyAuthNeeded:
			out.category = "network.error"
		}
	case view.NoticeSlow:
		out.body, out.fleeting = words.Word("notice.slow"), true
	case view.NoticeSignInEnds:
		out.body = words.Word("notice.sign_in_ends_soon")
		if n.At != nil {
			out.body = words.Word("notice.sign_in_ends", "time", words.Clock(n.At.In(now.Location())))
		}
	case view.NoticeSignedOut:
		out.body, out.urgency, out.category = words.Word("notice.signed_out"), low, "presence.offline"
	case view.NoticeLinkTaken:
		out.body = words.Word("notice.link_taken")
	default:
		return note{}, false
	}
	for _, action := range n.Actions {
		if _, ok := intentOf(action); !ok || action == defaultKey {
			continue
		}
		label := words.Word("notice." + action)
		out.buttons = append(out.buttons, button{action, label})
		if action == view.ActionOpenWindow {
			// Xfce draws a button for the notification itself when it has a label.
			out.buttons = append(out.buttons, button{defaultKey, ""})
		}
	}
	return out, true
}

// Show tells one thing by a notification (on Windows: by a message box, which
// stays until the person closes it), for the link handler when no agent can be
// reached. Both texts are sentences for people, in the language of the system, as
// the title is: there is no policy at hand. It returns an error when nothing
// could be shown, so that the caller says it elsewhere. On Linux it takes 2 s at
// most.
func Show(ctx context.Context, sentence, nextStep string) error {
	words := text.For(text.System())
	return showOnce(ctx, note{
		urgency: normal, title: words.Word("handler.title"),
		body: words.Word("notice.body", "sentence", sentence, "next_step", nextStep),
	})
}

// Remove removes from this user's settings what Run has told the system about the
// program with this id, an Options.ID: on Windows the name under which its toasts
// are shown; elsewhere nothing is kept. Where there is nothing it does nothing. An
// agent that runs may write it anew at its next start. Every error is an internal
// problem.
func Remove(id string) error {
	if err := remove(id); err != nil {
		return problem.New(problem.Internal, err)
	}
	return nil
}
