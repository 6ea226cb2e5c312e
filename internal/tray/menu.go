package tray

import (
	"slices"
	"time"

	"encounterlauncher/internal/text"
	"encounterlauncher/internal/view"
)

// slots is how many recent encounters the menu can show: as many as one can take
// in at a glance. Policy may keep more; the newest are shown.
const slots = 10

// The lines of the menu from top to bottom; the slots are the lines of the submenu
// that recentsLine opens. They exist all the time and are shown and hidden: the
// library closes the channel of a removed item under a click.
const (
	personLine = iota
	signInLine
	showPageLine
	cancelSignLine
	signOutLine
	launchLine
	cancelLine
	retryLine
	freshLine
	recentsLine
	firstSlot
)

// The lines below the recent encounters.
const (
	noRecentsLine = firstSlot + slots + iota
	windowLine
	managedLine
	helpDeskLine
	quitLine
	lines
)

// separated says before which lines a separator stands. The person and the window
// are always there, so no two separators meet.
func separated(n int) bool { return n == launchLine || n == managedLine }

// inSubmenu says which lines recentsLine opens.
func inSubmenu(n int) bool { return n >= firstSlot && n < firstSlot+slots }

// settles says which lines open an encounter or end something, so that a click on
// one counts only once it has stood still: see settle.
func settles(n int) bool {
	return inSubmenu(n) || n == retryLine || n == freshLine || n == signOutLine || n == quitLine
}

// The names of the intents, as on the control channel.
const (
	openRecent   = "open-recent"
	cancel       = "cancel"
	retry        = "retry"
	freshLink    = "fresh-link"
	signIn       = "sign-in"
	showSignIn   = "show-sign-in"
	signOut      = "sign-out"
	openWindow   = "open-window"
	openHelpDesk = "open-help-desk"
	quit         = "quit"
)

// exported is the status of a recent entry whose note the backend has exported.
const exported = "exported"

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
	// intent is what a click asks for, with id; empty means that it is only read, or
	// opens the submenu.
	intent, id string
}

// model is the whole tray at one moment.
type model struct {
	face face
	// tooltip holds words of ours alone, since some desktops read markup in it.
	tooltip string
	lines   [lines]line
}

// menu draws a snapshot. now is in the zone in which times are shown. It is pure:
// the same snapshot at the same minute gives the same model.
func menu(s view.Snapshot, words text.Catalogue, now time.Time) model {
	m := model{}
	running := s.Launch != nil && !s.Launch.Stage.Over()
	m.signIn(s, words, running)
	m.launch(s, words, now)
	if !hidden(s, view.HideRecents) {
		m.recents(s, words, now)
	}
	m.lines[windowLine] = line{words.Word("tray.open_window"), openWindow, ""}
	m.help(s, words)
	if !hidden(s, view.HideQuit) {
		m.lines[quitLine] = line{words.Word("tray.quit"), quit, ""}
	}

	failed := s.Launch != nil && s.Launch.Stage == view.Failed
	switch {
	case running:
		m.face = working
		m.tooltip = words.Word("tray.tooltip_working", "stage", words.Word("stage."+string(s.Launch.Stage)))
	case s.SignIn.State == view.SigningInNow:
		m.face = working
		m.tooltip = words.Word("tray.tooltip_working", "stage", words.Word("tray.signing_in"))
	case failed || s.Policy.RefusesLaunches || s.SignIn.Problem != nil || s.Link.Lost():
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

// hidden says that policy hides what has this name.
func hidden(s view.Snapshot, name string) bool { return slices.Contains(s.Hidden, name) }

func (m *model) signIn(s view.Snapshot, words text.Catalogue, running bool) {
	person := words.Word("tray.not_signed_in")
	switch s.SignIn.State {
	case view.SigningInNow:
		person = words.Word("tray.signing_in")
		if s.SignIn.PageOpen {
			m.lines[showPageLine] = line{words.Word("tray.show_sign_in"), showSignIn, ""}
		}
		if !running { // else cancelling the launch ends both
			m.lines[cancelSignLine] = line{words.Word("tray.cancel_sign_in"), cancel, ""}
		}
	case view.SignedIn:
		if s.SignIn.Person != nil {
			name := view.Inert(s.SignIn.Person.Email, longName)
			if name == "" {
				name = view.Inert(s.SignIn.Person.Subject, longName)
			}
			person = words.Word("tray.signed_in_as", "person", name)
		}
		if !hidden(s, view.HideSignOut) {
			m.lines[signOutLine] = line{words.Word("tray.sign_out"), signOut, ""}
		}
	default:
		if !hidden(s, view.HideSignIn) {
			m.lines[signInLine] = line{words.Word("tray.sign_in"), signIn, ""}
		}
	}
	m.lines[personLine].title = person
}

func (m *model) launch(s view.Snapshot, words text.Catalogue, now time.Time) {
	attend := func(p *view.Problem) {
		m.lines[launchLine].title = words.Word("tray.attention", "sentence", view.Inert(p.Sentence, longSentence))
	}
	l := s.Launch
	switch {
	case l != nil && !l.Stage.Over():
		m.lines[launchLine].title = words.Word("stage." + string(l.Stage))
		m.lines[cancelLine] = line{words.Word("tray.cancel"), cancel, l.ID}
		return
	case l != nil && l.Stage == view.Failed && l.Problem != nil:
		attend(l.Problem)
	case s.SignIn.Problem != nil && s.SignIn.State == view.SignedOut:
		attend(s.SignIn.Problem)
	case s.Link.Lost():
		m.lines[launchLine].title = words.Word("tray.attention", "sentence", words.Word("home.link_"+string(s.Link.State)))
	}
	if l == nil {
		return
	}
	if l.Retryable {
		m.lines[retryLine] = line{words.Word("tray.retry"), retry, l.ID}
	}
	if l.FreshUntil != nil && now.Before(*l.FreshUntil) {
		m.lines[freshLine] = line{words.Word("tray.didnt_open"), freshLink, l.ID}
	}
}

func (m *model) recents(s view.Snapshot, words text.Catalogue, now time.Time) {
	if len(s.Recents) == 0 {
		m.lines[noRecentsLine].title = words.Word("tray.no_recents")
		return
	}
	m.lines[recentsLine].title = words.Word("tray.recents")
	for n, r := range s.Recents[:min(len(s.Recents), slots)] {
		when, label := words.When(r.OpenedAt, now), view.Inert(r.Label, longName)
		var title string
		switch done := r.Status == exported; {
		case label == "" && done:
			title = words.Word("tray.open_recent_unnamed_exported", "time", when)
		case label == "":
			title = words.Word("tray.open_recent_unnamed", "time", when)
		case done:
			title = words.Word("tray.open_recent_exported", "time", when, "label", label)
		default:
			title = words.Word("tray.open_recent", "time", when, "label", label)
		}
		m.lines[firstSlot+n] = line{title, openRecent, r.ID}
	}
}

// help says who governs the program, and leads to the help desk where there is one.
func (m *model) help(s view.Snapshot, words text.Catalogue) {
	intent := ""
	if s.HelpDeskURL != "" {
		intent = openHelpDesk
		m.lines[helpDeskLine] = line{words.Word("tray.help_desk"), openHelpDesk, ""}
	}
	if name := view.Inert(s.OrganizationName, longName); name != "" {
		m.lines[managedLine] = line{words.Word("tray.managed_by", "organization", name), intent, ""}
	}
}

// How many characters of a text from outside a line shows.
const (
	longName     = 60
	longSentence = 120
)
