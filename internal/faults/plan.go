//go:build linux

package faults

import (
	"math/rand/v2"
	"time"
)

// Pair is two programs that talk to each other.
type Pair string

// The pairs that a proxy stands between.
const (
	LauncherBackend Pair = "launcher-backend"
	BackendNabla    Pair = "backend-nabla"
	LauncherIssuer  Pair = "launcher-issuer"
)

// Event is what happens to programs and desktop during a press.
type Event string

// The events. Those of the second group are heavy: they take seconds.
const (
	KillAgent   Event = "agent killed"            // SIGKILL, at a random moment after the click
	KillBefore  Event = "agent killed before"     // SIGKILL before the click, which starts another
	KillHandler Event = "handler killed"          // SIGKILL of the click's own process
	EndAgent    Event = "agent told to end"       // SIGTERM, at a random moment after the click
	Suspend     Event = "suspended"               // SIGSTOP and SIGCONT, with logind's signals around it
	Cancel      Event = "cancelled by the person" // by the command, at a random moment
	TrayHost    Event = "tray host restarted"     //
	Bus         Event = "session bus restarted"   //
	Locked      Event = "keyring locked"          //
	Gone        Event = "keyring gone"            //
	DiskFull    Event = "disk full"               //
	ReadOnly    Event = "read-only home"          //
	Clock       Event = "clock set"               // of the launcher alone
	Asleep      Event = "suspended for longer"    // than the handler waits
	BackendDies Event = "backend killed"          // with its handles, which are in memory
	Flood       Event = "flood of links"          //
)

// Form is a form of links.
type Form string

// The forms.
const (
	Handle      Form = "handle"
	Request     Form = "request"
	Identifiers Form = "identifiers"
)

// Pattern is how the person presses.
type Pattern string

// The patterns.
const (
	Once       Pattern = "once"
	Same       Pattern = "one link, twice at once"
	SameFour   Pattern = "one link, four times at once"
	Double     Pattern = "two links of one encounter at once"
	Many       Pattern = "several links at once"
	AgainSoon  Pattern = "one link again at once after it was opened"
	AgainLater Pattern = "one link again later"
)

// Plan is one press of the button with all that goes wrong. The same seed and step give
// the same plan.
type Plan struct {
	Step    int
	Form    Form
	Pattern Pattern
	// Links is how many different ones are clicked.
	Links int

	// Pair is where a fault happens, empty for none; Kind which one, Times how often at
	// most, After how many calls of the press it lets through first.
	Pair  Pair
	Kind  Kind
	Delay time.Duration
	Times int
	After int

	Event Event
	// At is when the event happens after the click, For how long it lasts.
	At, For time.Duration
	// Insist says that the person clicks again where nothing was opened.
	Insist bool
	// Order is a number for choices while it runs.
	Order uint64
}

// planOf makes the plan of a step. heavy are the events that may happen here besides
// the cheap ones.
func planOf(seed uint64, step int, heavy []Event) Plan {
	r := rand.New(rand.NewPCG(seed, uint64(step)))
	p := Plan{Step: step, Form: Handle, Pattern: Once, Links: 1, Order: r.Uint64(), Insist: r.Float64() < 0.8}
	switch x := r.Float64(); {
	case x < 0.25:
		p.Form = Request
	case x < 0.40:
		p.Form = Identifiers
	}
	switch x := r.Float64(); {
	case x < 0.12:
		p.Pattern = Same
	case x < 0.14:
		p.Pattern = SameFour
	case x < 0.20:
		p.Pattern, p.Links = Double, 2
	case x < 0.27:
		p.Pattern, p.Links = Many, 2+r.IntN(3)
	case x < 0.31:
		p.Pattern = AgainSoon
	case x < 0.315:
		p.Pattern = AgainLater
	}
	if r.Float64() < 0.55 {
		p.fault(r)
	}
	p.event(r, heavy)
	return p
}

func (p *Plan) fault(r *rand.Rand) {
	switch x := r.Float64(); {
	case x < 0.45:
		p.Pair = LauncherBackend
	case x < 0.80:
		p.Pair = BackendNabla
	default:
		p.Pair = LauncherIssuer
	}
	kinds := []Kind{
		Refused, Busy, Broken, Away, HTML, Big, Delayed, Delayed, Delayed, Twice, Lost, Lost, CutAnswer, Truncated, WrongType, Late, Late,
	}
	p.Kind = kinds[r.IntN(len(kinds))]
	p.Delay = time.Duration(5+r.IntN(250)) * time.Millisecond
	if r.Float64() < 0.008 {
		p.Kind, p.Delay = []Kind{Stalled, Silent}[r.IntN(2)], 9*time.Second
	}
	switch x := r.Float64(); {
	case x < 0.80:
		p.Times = 1
	case x < 0.92:
		p.Times = 2
	default:
		p.Times = 1000
	}
	if r.Float64() < 0.1 {
		p.After = 1
	}
}

func (p *Plan) event(r *rand.Rand, heavy []Event) {
	p.At = time.Duration(r.IntN(60_000)) * time.Microsecond
	p.For = time.Duration(20+r.IntN(400)) * time.Millisecond
	x := r.Float64()
	switch {
	case x < 0.20:
		p.Event = KillAgent
	case x < 0.36:
		p.Event = KillBefore
	case x < 0.38:
		p.Event = KillHandler
		p.At = time.Duration(r.IntN(8_000)) * time.Microsecond
	case x < 0.41:
		p.Event = EndAgent
	case x < 0.44:
		p.Event = Suspend
	case x < 0.46:
		p.Event = Cancel
	case x < 0.465:
		p.Event, p.Links, p.Pattern = Flood, 8, Many
	case x < 0.49 && len(heavy) > 0:
		p.Event = heavy[r.IntN(len(heavy))]
		p.For = time.Duration(200+r.IntN(800)) * time.Millisecond
	}
	// A fault of the issuer needs a call to it, which only an agent makes that has just
	// been started.
	if p.Pair == LauncherIssuer && p.Event == "" {
		p.Event = KillBefore
	}
}
