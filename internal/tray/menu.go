package tray

import (
	"strings"
	"time"
	"unicode"

	"encounterlauncher/internal/text"
	"encounterlauncher/internal/view"
)

// slots is how many recent encounters the menu can show: as many as one can take
// in at a glance. Policy may keep more; the newest are shown.
const slots = 10

// The lines of the menu from top to bottom. They exist all the time and are shown
// and hidden: the library closes the channel of a removed item under a click.
const (
	personLine = iota
	launchLine
	cancelLine
	retryLine
	noRecentsLine
	firstSlot
)

// The lines below the recent encounters.
const (
	signInLine = firstSlot + slots + iota
	cancelSignLine
	signOutLine
	windowLine
	managedLine
	quitLine
	lines
)

// separated says before which lines a separator stands.
func separated(n int) bool { return n == noRecentsLine || n == signInLine || n == managedLine }

// The names of the intents, as on the control channel.
const (
	openRecent = "open-recent"
	cancel     = "cancel"
	retry      = "retry"
	signIn     = "sign-in"
	signOut    = "sign-out"
	openWindow = "open-window"
	quit       = "quit"
)

// face is the picture of a state.
type face int

const (
	idle face = iota
	working
	attention
	signedOut
)

// line is one line of the menu. The zero line is hidden.
type line struct {
	// title is what the line says; empty means hidden.
	title string
	// intent is what a click asks for, with id; empty means that it is only read.
	intent, id string
}

// model is the whole tray at one moment.
type model struct {
	face    face
	tooltip string
	lines   [lines]line
}

// menu draws a snapshot. now is in the zone in which times are shown. It is pure:
// the same snapshot at the same minute gives the same model.
func menu(s view.Snapshot, words text.Catalogue, now time.Time) model {
	m := model{}
	person := words.Word("tray.not_signed_in")
	switch s.SignIn.State {
	case view.SigningInNow:
		person = words.Word("tray.signing_in")
	case view.SignedIn:
		if s.SignIn.Person != nil {
			name := inert(s.SignIn.Person.Email, longName)
			if name == "" {
				name = inert(s.SignIn.Person.Subject, longName)
			}
			person = words.Word("tray.signed_in_as", "person", name)
		}
	}
	m.lines[personLine].title = person

	running := s.Launch != nil && !s.Launch.Stage.Over()
	if l := s.Launch; l != nil {
		stage := words.Word("stage." + string(l.Stage))
		switch {
		case running:
			m.lines[launchLine].title = stage
			m.lines[cancelLine] = line{words.Word("tray.cancel"), cancel, l.ID}
			m.tooltip = words.Word("tray.tooltip_working", "stage", stage)
		case l.Stage == view.Failed && l.Problem != nil:
			m.lines[launchLine].title = words.Word("tray.attention", "sentence", inert(l.Problem.Sentence, longSentence))
		}
		if !running && l.Retryable {
			m.lines[retryLine] = line{words.Word("tray.retry"), retry, l.ID}
		}
	}

	for n, r := range s.Recents {
		if n == slots {
			break
		}
		label := inert(r.Label, longName)
		title := words.Word("tray.open_recent_unnamed", "time", words.When(r.OpenedAt, now))
		if label != "" {
			title = words.Word("tray.open_recent", "time", words.When(r.OpenedAt, now), "label", label)
		}
		m.lines[firstSlot+n] = line{title, openRecent, r.ID}
	}
	if len(s.Recents) == 0 {
		m.lines[noRecentsLine].title = words.Word("tray.no_recents")
	}

	switch {
	case s.SignIn.State == view.SignedIn:
		m.lines[signOutLine] = line{words.Word("tray.sign_out"), signOut, ""}
	case s.SignIn.State == view.SigningInNow && !running:
		m.lines[cancelSignLine] = line{words.Word("tray.cancel_sign_in"), cancel, ""}
	case s.SignIn.State != view.SigningInNow:
		m.lines[signInLine] = line{words.Word("tray.sign_in"), signIn, ""}
	}
	m.lines[windowLine] = line{words.Word("tray.open_window"), openWindow, ""}
	if name := inert(s.OrganizationName, longName); name != "" {
		m.lines[managedLine].title = words.Word("tray.managed_by", "organization", name)
	}
	m.lines[quitLine] = line{words.Word("tray.quit"), quit, ""}

	failed := s.Launch != nil && s.Launch.Stage == view.Failed
	switch {
	case running:
		m.face = working
	case s.SignIn.State == view.SigningInNow:
		m.face = working
		m.tooltip = words.Word("tray.tooltip_working", "stage", words.Word("tray.signing_in"))
	case failed || s.Policy.RefusesLaunches || s.SignIn.Problem != nil:
		m.face = attention
		m.tooltip = words.Word("tray.tooltip_attention")
	case s.SignIn.State != view.SignedIn:
		m.face = signedOut
		m.tooltip = words.Word("tray.tooltip_signed_out")
	default:
		m.tooltip = words.Word("tray.tooltip")
	}
	return m
}

// How many characters of a text from outside a line shows.
const (
	longName     = 60
	longSentence = 120
)

// inert makes a text from outside harmless in one line: no control, direction or
// invisible characters, no line breaks, not longer than most characters.
func inert(s string, most int) string {
	var out strings.Builder
	count, space := 0, false
	for _, r := range s {
		if unicode.IsSpace(r) {
			space = count > 0
			continue
		}
		if unicode.In(r, unicode.C, unicode.Zl, unicode.Zp) || r == unicode.ReplacementChar {
			continue
		}
		if space {
			out.WriteByte(' ')
			count++
			space = false
		}
		if count >= most {
			return strings.TrimSuffix(out.String(), " ") + "…"
		}
		out.WriteRune(r)
		count++
	}
	return out.String()
}
