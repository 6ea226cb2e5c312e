//go:build linux

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"encounterlauncher/internal/sandbox"
	"encounterlauncher/internal/stage"
)

const (
	// hangs is how long a press may take from its last sign of life until everything
	// has an end: a call to the backend has 15 s, one to the keyring 4 s, one to the
	// issuer 40 s.
	hangs = 75 * time.Second
	// quick is how long anything but a launch may take.
	quick = 12 * time.Second
	// burst and window are the launcher's limit of links.
	burst  = 5
	window = 10 * time.Second
	// accepting is how long a connection may have waited to be accepted: one of an agent
	// that was killed may be seen a moment after that.
	accepting = 20 * time.Millisecond
	// afterToken is how long after a token was given a crash may lose it: it is being
	// stored.
	afterToken = 2 * time.Second
)

// station is one workstation: a session with its person. Its presses follow each other.
type station struct {
	w       *world
	number  int
	person  sandbox.Person
	session *stage.Session
	audit   auditReader
	// disks are the folders that can be filled or made read-only; empty where that
	// cannot be done.
	disks []string
	// clockFile sets the launcher's clock; empty where it has none of its own.
	clockFile string

	// Of the press that runs; only its own goroutine looks.
	plan     Plan
	taken    []time.Time // when this agent accepted its newest links
	launches int
	pages    int
	counts   map[string]int
	history  []string // the newest presses, for whoever looks for a cause

	mu sync.Mutex
	// guarded by mu
	left      int  // faults of the plan still to come
	skip      int  // calls that go through before
	armed     bool // the plan's faults may happen
	inFlight  int  // token calls under way
	lastToken time.Time
	lastCrash time.Time
	// signedOut says that a sign-in page has a cause; unstored that the newest token may
	// be in memory only.
	signedOut, unstored bool
	// unwell says that something of the desktop is away: what is stored meanwhile may
	// not be.
	unwell bool
	// loose says that the agent may have started while the keyring was away: what makes
	// its Idempotency-Keys is then in its memory only. wasLoose is that of the agent before.
	loose, wasLoose bool
}

// fault decides about one call of a pair.
func (s *station) fault(pair Pair) (Kind, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.armed || s.plan.Pair != pair || s.left == 0 {
		return "", 0
	}
	if s.skip > 0 {
		s.skip--
		return "", 0
	}
	s.left--
	return s.plan.Kind, s.plan.Delay
}

func (s *station) isArmed(pair Pair) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.armed && s.plan.Pair == pair && s.left > 0
}

func (s *station) asksForToken() {
	s.mu.Lock()
	s.inFlight++
	s.mu.Unlock()
}

// gotToken notes how a call for a token went. One whose answer was lost costs the
// sign-in: the issuer takes the next use of the old token for a thief's.
func (s *station) gotToken(e *Exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	s.lastToken = time.Now()
	switch {
	case e.Carried == 0:
	case e.Connected.Before(s.lastCrash.Add(accepting)): // who asked is no more
		s.signedOut = true
	case e.Status != 200 || !e.Delivered || e.Fault.carriedOut():
		s.signedOut = true
	case bytes.Contains(e.Body, []byte("grant_type=authorization_code")):
		s.unstored = s.unwell // whether it can be used the audit says
	default:
		s.signedOut = false
		s.unstored = s.unwell
	}
}

// crashed notes that the agent's memory is gone.
func (s *station) crashed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight > 0 || time.Since(s.lastToken) < afterToken || s.unstored {
		s.signedOut = true
	}
	s.taken, s.lastCrash = nil, time.Now()
	s.wasLoose, s.loose = s.loose, s.unwell
}

func (s *station) setUnwell(on bool) {
	s.mu.Lock()
	s.unwell = on
	s.loose = s.loose || on
	if on && time.Since(s.lastToken) < afterToken {
		s.unstored = true
	}
	s.mu.Unlock()
}

func (s *station) violate(format string, args ...any) {
	s.w.ledger.violate(s.plan.Step, "station %d, %s: %s (presses until then: %s)", s.number, s.plan.Event, fmt.Sprintf(format, args...), strings.Join(s.history, "; "))
}

func (s *station) count(what string) { s.counts[what]++ }

// click is one click and how its process ended.
type click struct {
	link    string
	ended   stage.Ended
	killed  bool
	accepts bool
}

var coded = regexp.MustCompile(`\(([a-z_]+), reference [0-9a-zA-Z]*\)`)

func (c click) code() string {
	if m := coded.FindStringSubmatch(c.ended.Err); m != nil {
		return m[1]
	}
	return ""
}

// outOfTime says that the link was refused for its time, by a clock that was set.
func (c click) outOfTime() bool { return c.code() == "link_expired" || c.code() == "link_invalid" }

// press does what a plan says and looks that everything has come to its end.
func (s *station) press(ctx context.Context, p Plan) error {
	s.mu.Lock()
	s.plan, s.left, s.skip, s.armed = p, p.Times, p.After, true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.armed = false
		s.mu.Unlock()
	}()
	s.pages = 0
	s.history = append(s.history[max(0, len(s.history)-6):], fmt.Sprintf("%d %s %s %s %s %s", p.Step, p.Form, p.Pattern, p.Event, p.Pair, p.Kind))
	if err := s.makeRoom(ctx, &p); err != nil {
		return err
	}
	links, encounters, err := s.mint(ctx, p)
	if err != nil {
		return err
	}
	s.audit.mark()
	restore, err := s.before(ctx, p)
	if err != nil {
		return err
	}
	clicks, crashed, err := s.perform(ctx, p, links)
	if err != nil {
		return errors.Join(err, restore(ctx))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.judgeClicks(p, clicks)
	wanted := map[string]bool{}
	for _, c := range clicks {
		if c.accepts && !crashed {
			wanted[canonical(c.link)] = true
		}
	}
	if err := s.settle(ctx, len(wanted), encounters); err != nil {
		return errors.Join(err, restore(ctx))
	}
	if err := restore(ctx); err != nil {
		return err
	}
	if p.Event == TrayHost || p.Event == Bus {
		if err := s.iconIsBack(ctx); err != nil {
			return err
		}
	}
	lines := s.audit.since()
	s.judge(p, clicks, encounters, lines, crashed)
	if p.Pattern == AgainSoon || p.Pattern == AgainLater {
		if err := s.again(ctx, p, links[0], encounters[0]); err != nil {
			return err
		}
	}
	if p.Insist {
		return s.insist(ctx, p, links, encounters, crashed || p.Event == EndAgent)
	}
	return nil
}

// makeRoom keeps to the launcher's limit of links, by waiting or, more often, by ending
// the agent, which is then started anew.
func (s *station) makeRoom(ctx context.Context, p *Plan) error {
	if p.Event == Flood {
		return nil
	}
	now := time.Now()
	s.taken = slices.DeleteFunc(s.taken, func(at time.Time) bool { return now.Sub(at) > window+200*time.Millisecond })
	over := len(s.taken) + p.Links - burst
	if over <= 0 {
		return nil
	}
	if s.number%4 == 3 {
		s.count("waited for the limit of links")
		return stage.Sleep(ctx, time.Until(s.taken[over-1].Add(window+300*time.Millisecond)))
	}
	s.count("agent killed at rest")
	return s.killAgent(ctx)
}

func (s *station) killAgent(ctx context.Context) error {
	a, err := s.session.Agent()
	if err != nil {
		return nil // none runs
	}
	if err := a.Kill(ctx); err != nil {
		return err
	}
	s.crashed()
	return nil
}

// mint makes the links of a press, as the EHR does when the button is pressed.
func (s *station) mint(ctx context.Context, p Plan) (links, encounters []string, err error) {
	r := rand.New(rand.NewPCG(p.Order, 1))
	for i := range p.Links {
		id := fmt.Sprintf("E-%d-%d-%d", s.w.o.Seed, p.Step, i)
		if p.Pattern == Double {
			id = fmt.Sprintf("E-%d-%d", s.w.o.Seed, p.Step)
		}
		patient := fmt.Sprintf("P-%d", (p.Step+i)%patients)
		if p.Pattern == Double {
			patient = fmt.Sprintf("P-%d", p.Step%patients)
		}
		var link string
		switch p.Form {
		case Request:
			request, err := s.w.secrets.Request(s.w.backend.URL, id, patient, s.person.ProviderID)
			if err != nil {
				return nil, nil, err
			}
			link = "encounter-launcher://launch?request=" + request
		case Identifiers:
			link = "encounter-launcher://launch?external_encounter_id=" + id + "&external_patient_id=" + patient + "&external_provider_id=" + s.person.ProviderID
			if p.Pattern == Double && i > 0 {
				// The same ids make the same link: another order of them makes another.
				link = "encounter-launcher://launch?external_patient_id=" + patient + "&external_encounter_id=" + id + "&external_provider_id=" + s.person.ProviderID
			}
		default:
			link, err = s.w.mint(ctx, stage.Launch{Email: s.person.Email, Provider: s.person.ProviderID, Patient: patient, Encounter: id, Name: patientName(r.IntN(patients))})
			if err != nil {
				return nil, nil, fmt.Errorf("minting a link: %w", err)
			}
		}
		s.w.ledger.register(id, link, s, p.Step)
		links = append(links, link)
		if !slices.Contains(encounters, id) {
			encounters = append(encounters, id)
		}
	}
	s.launches += len(links)
	return links, encounters, nil
}

// perform clicks, and lets the event of the plan happen meanwhile. crashed says that
// an agent may have ended with links that it had accepted.
func (s *station) perform(ctx context.Context, p Plan, links []string) (clicks []click, crashed bool, err error) {
	var texts []string
	switch p.Pattern {
	case Same:
		texts = []string{links[0], links[0]}
	case SameFour:
		texts = []string{links[0], links[0], links[0], links[0]}
	default:
		texts = links
	}
	clicks = make([]click, len(texts))
	faults := make([]error, len(texts)+1)
	handler := make(chan int, len(texts))
	var all sync.WaitGroup
	for i, link := range texts {
		all.Go(func() {
			clicks[i].link = link
			clicks[i].ended, clicks[i].killed, faults[i] = s.click(ctx, link, handler)
			clicks[i].accepts = clicks[i].ended.Status == 0 && !clicks[i].killed
		})
	}
	all.Go(func() { crashed, faults[len(texts)] = s.meanwhile(ctx, p, handler) })
	all.Wait()
	now := time.Now()
	counted := map[string]bool{}
	for _, c := range clicks {
		// A link whose handler had no answer may have been accepted all the same.
		if (c.accepts || c.killed || c.ended.Status == 3 || c.outOfTime()) && !counted[canonical(c.link)] {
			counted[canonical(c.link)] = true
			s.taken = append(s.taken, now)
		}
	}
	return clicks, crashed, errors.Join(faults...)
}

// click runs the handler; its process is told to whoever may kill it.
func (s *station) click(ctx context.Context, link string, started chan<- int) (ended stage.Ended, killed bool, err error) {
	cmd := s.session.Command(ctx, s.w.programs(s).Path(stage.LauncherName), link)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	began := stage.Now()
	if err := cmd.Start(); err != nil {
		return stage.Ended{}, false, err
	}
	started <- cmd.Process.Pid
	err = cmd.Wait()
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Exited() || status.Signaled() {
		err = nil
	}
	return stage.Ended{Status: status.ExitStatus(), Out: out.String(), Err: said.String(), Began: began, Took: stage.Now() - began}, status.Signaled(), err
}

// before sets up what a plan needs before the click; restore puts it right again.
func (s *station) before(ctx context.Context, p Plan) (restore func(context.Context) error, err error) {
	nothing := func(context.Context) error { return nil }
	switch p.Event {
	case KillBefore:
		return nothing, s.killAgent(ctx)
	case Clock:
		by := []time.Duration{11 * time.Minute, -11 * time.Minute, 45 * time.Second, -45 * time.Second, 30 * time.Hour, -30 * 24 * time.Hour}[p.Order%6]
		if err := s.setClock(by); err != nil {
			return nothing, err
		}
		return func(context.Context) error { return s.setClock(0) }, nil
	case DiskFull:
		s.setUnwell(true)
		if err := s.fillDisks(); err != nil {
			return nothing, err
		}
		return func(context.Context) error { defer s.setUnwell(false); return s.freeDisks() }, nil
	case ReadOnly:
		s.setUnwell(true)
		if err := s.readOnly(ctx, true); err != nil {
			return nothing, err
		}
		return func(ctx context.Context) error { defer s.setUnwell(false); return s.readOnly(ctx, false) }, nil
	case Locked:
		s.setUnwell(true)
		if p.Order%2 == 0 { // and an agent that must ask it
			if err := s.killAgent(ctx); err != nil {
				return nothing, err
			}
		}
		if err := s.session.LockKeyring(ctx); err != nil {
			return nothing, err
		}
		return func(ctx context.Context) error { defer s.setUnwell(false); return s.session.UnlockKeyring(ctx) }, nil
	case Gone:
		s.setUnwell(true)
		if p.Order%2 == 0 {
			if err := s.killAgent(ctx); err != nil {
				return nothing, err
			}
		}
		if _, err := s.session.Agent(); err != nil {
			s.mu.Lock()
			s.signedOut = true // without a keyring no agent that is started knows who was signed in
			s.mu.Unlock()
		}
		if p.Order%4 < 2 {
			s.session.StopKeyring()
		}
		return func(ctx context.Context) error {
			defer s.setUnwell(false)
			s.session.StopKeyring()
			return s.session.StartKeyring(ctx)
		}, nil
	}
	return nothing, nil
}

// meanwhile lets the event of a plan happen at its moment.
func (s *station) meanwhile(ctx context.Context, p Plan, handler <-chan int) (crashed bool, err error) {
	if p.Event == "" {
		return false, nil
	}
	s.w.event(p.Event)
	if err := stage.Sleep(ctx, p.At); err != nil {
		return false, err
	}
	switch p.Event {
	case KillAgent:
		return true, s.killAgent(ctx)
	case KillHandler:
		select {
		case pid := <-handler:
			_ = syscall.Kill(pid, syscall.SIGKILL)
		default:
		}
	case EndAgent:
		a, err := s.session.Agent()
		if err != nil {
			return false, nil
		}
		began := time.Now()
		err = a.Stop(ctx)
		if took := time.Since(began); took > quick {
			s.violate("the agent took %v to end", took)
		}
		s.crashed() // what it holds in memory is gone
		return false, err
	case Suspend, Asleep:
		lasts := p.For
		if p.Event == Asleep {
			lasts = 3500 * time.Millisecond
		}
		a, err := s.session.Agent()
		if err != nil {
			return false, nil
		}
		if s.w.login != nil {
			_ = s.w.login.Sleep(true)
		}
		if err := a.Pause(); err != nil {
			return false, nil
		}
		err = stage.Sleep(ctx, lasts)
		_ = a.Resume()
		if s.w.login != nil {
			_ = s.w.login.Sleep(false)
		}
		return false, err
	case Cancel:
		_, err := s.session.Launcher(ctx, "cancel")
		return false, err
	case TrayHost:
		s.session.StopTrayHost()
		if err := stage.Sleep(ctx, p.For); err != nil {
			return false, err
		}
		return false, s.session.StartTrayHost()
	case Bus:
		s.setUnwell(true)
		defer s.setUnwell(false)
		s.session.StopBus()
		if err := stage.Sleep(ctx, p.For/4); err != nil {
			return false, err
		}
		return false, s.session.RestartBus(ctx)
	case Gone:
		s.session.StopKeyring()
	case BackendDies:
		return false, s.w.restartBackend(ctx)
	}
	return false, nil
}

// settle waits until every accepted link has its outcome in the audit and the agent
// has nothing under way, and does meanwhile what a person and a browser do.
func (s *station) settle(ctx context.Context, wanted int, encounters []string) error {
	alive := time.Now()
	quiet := 0
	for {
		moved, err := s.look(ctx)
		if err != nil {
			return err
		}
		before := s.audit.lines()
		if err := s.audit.read(); err != nil {
			return err
		}
		if moved || s.audit.lines() > before {
			alive, quiet = time.Now(), 0
		}
		for _, l := range s.audit.all[before:] {
			if l.Outcome == "signed_in" {
				s.mu.Lock()
				s.signedOut = false
				s.mu.Unlock()
			}
		}
		if s.audit.outcomes() >= wanted || s.plan.Event == DiskFull || s.plan.Event == ReadOnly {
			over, err := s.over(ctx)
			if err != nil {
				return err
			}
			if over {
				quiet++
			} else {
				quiet = 0
			}
			if quiet > 1 && s.tabsAreThere(encounters) {
				return nil
			}
		}
		if time.Since(alive) > hangs {
			over, _ := s.over(ctx)
			s.violate("no end after %v: %d of %d outcomes in the audit, launch over %v, tabs %v", hangs, s.audit.outcomes(), wanted, over, s.tabsAreThere(encounters))
			return nil
		}
		if err := stage.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// tabsAreThere says whether every launch that the audit calls opened has come to the
// opener, whose process takes a moment.
func (s *station) tabsAreThere(encounters []string) bool {
	tabs := 0
	for _, id := range encounters {
		tabs += s.w.ledger.tabsOf(id)
	}
	return tabs >= s.audit.opened()
}

// look takes what the opener was given: sign-in pages, which the person answers, and
// encounters.
func (s *station) look(ctx context.Context) (moved bool, err error) {
	for _, note := range s.session.Notes.Take() {
		moved = true
		if !s.w.issuer.IsSignIn(note.Text) {
			if _, wrong := s.w.ledger.opens(note.Text, s); wrong != "" {
				s.violate("%s", wrong)
			}
			continue
		}
		s.pages++
		s.count("sign-in page")
		s.mu.Lock()
		cause := s.signedOut
		s.signedOut = true // until a token has come
		s.mu.Unlock()
		if !cause {
			s.violate("asked to sign in without a cause")
		}
		s.w.ledger.signsIn(queryOf(note.Text).Get("state"), s)
		if err := s.w.issuer.SignIn(ctx, note.Text, s.person.Key); err != nil {
			s.count("sign-in page that led nowhere") // the agent was killed meanwhile, or a fault happened
		}
	}
	return moved, ctx.Err()
}

// seen is what the launcher says of itself.
type seen struct {
	Agent  string `json:"agent"`
	Launch *struct {
		Stage string `json:"stage"`
		Code  string `json:"code"`
	} `json:"launch"`
}

// over asks the launcher whether its launch has come to an end.
func (s *station) over(ctx context.Context) (bool, error) {
	e, err := s.session.Launcher(ctx, "status", "--json")
	if err != nil {
		return false, err
	}
	if time.Duration(e.Took) > quick {
		s.violate("status took %v", time.Duration(e.Took))
	}
	var st seen
	if err := json.Unmarshal([]byte(e.Out), &st); err != nil {
		s.violate("status is no JSON: exit %d", e.Status)
		return true, nil
	}
	if st.Agent == "absent" || st.Launch == nil {
		return true, nil
	}
	switch st.Launch.Stage {
	case "opened", "failed", "cancelled":
		return true, nil
	}
	return false, nil
}

// iconIsBack looks that a running agent has given its icon to the new tray host.
func (s *station) iconIsBack(ctx context.Context) error {
	for until := time.Now().Add(quick); s.session.TrayItems() == 0; {
		if _, err := s.session.Agent(); err != nil {
			return nil // none runs
		}
		if time.Now().After(until) {
			s.violate("the icon has not come back %v after there was a tray host again", quick)
			return nil
		}
		if err := stage.Sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	s.count("icon back in the tray")
	return nil
}

// judgeClicks looks at how the handlers have ended.
func (s *station) judgeClicks(p Plan, clicks []click) {
	for _, c := range clicks {
		if time.Duration(c.ended.Took) > quick {
			s.violate("a click took %v", time.Duration(c.ended.Took))
		}
		switch {
		case c.killed:
			s.count("click: killed")
			if p.Event != KillHandler {
				s.violate("a handler was ended by a signal")
			}
		case c.ended.Status == 0:
			s.count("click: accepted")
		case c.ended.Status == 2:
			s.count("click: refused, " + c.code())
			switch code := c.code(); {
			case code == "too_many_links" && (p.Event == Flood || len(s.taken) >= burst):
			case (code == "link_expired" || code == "link_invalid") && p.Event == Clock:
			default:
				s.violate("a link was refused with %q", code)
			}
		case c.ended.Status == 3:
			s.count("click: nobody answered")
			// An agent that was ended may be the one that this very handler had just started.
			ours := (p.Event == KillAgent || p.Event == EndAgent) && strings.Contains(c.ended.Err, "It ended at once.")
			switch {
			case ours, p.Event == Asleep, p.Event == DiskFull, p.Event == ReadOnly:
			default:
				s.violate("nobody answered a click: %s", strings.TrimSpace(c.ended.Err))
			}
		default:
			s.violate("a handler ended with status %d", c.ended.Status)
		}
	}
}

// judge looks at what a press has led to.
func (s *station) judge(p Plan, clicks []click, encounters []string, lines []auditLine, crashed bool) {
	accepted, distinct, maybe := 0, map[string]bool{}, 0
	for _, c := range clicks {
		if c.accepts {
			accepted++
			distinct[canonical(c.link)] = true
		} else if c.killed || c.ended.Status == 3 || c.outOfTime() {
			maybe++ // a link out of its time is a launch too, which the person sees and may try again
		}
	}
	outcomes, opened := 0, 0
	for _, l := range lines {
		if !l.ofLaunch() {
			continue
		}
		outcomes++
		s.count("launch: " + l.Outcome + suffix(l.Code))
		if l.Outcome == "opened" {
			opened++
		}
		if l.Outcome != "opened" && l.Outcome != "dropped" && l.Code == "" {
			s.violate("a launch ended %s without a code", l.Outcome)
		}
		switch {
		case l.Code == "internal", l.Code == "keyring_corrupt":
			s.violate("a launch ended with %s", l.Code)
		case l.Code == "keyring_locked" && p.Event != Locked && p.Event != Bus && p.Event != Gone:
			s.violate("the keyring was called locked and is not")
		}
	}
	noDisk := p.Event == DiskFull || p.Event == ReadOnly
	switch {
	case crashed || noDisk:
	case outcomes < len(distinct):
		s.violate("%d links were accepted and %d have an outcome in the audit", len(distinct), outcomes)
	case outcomes > accepted+maybe:
		s.violate("%d clicks were accepted and %d have an outcome in the audit", accepted, outcomes)
	}
	tabs := 0
	for _, id := range encounters {
		n := s.w.ledger.tabsOf(id)
		tabs += n
		most := 1
		if crashed || p.Event == EndAgent {
			most = len(clicks)
		}
		if n > most {
			s.violate("%d tabs for one press (%s)", n, p.Pattern)
		}
	}
	if !crashed && !noDisk && tabs != opened {
		s.violate("%d launches were opened, says the audit, and %d tabs are there", opened, tabs)
	}
	if noDisk && tabs < opened {
		s.violate("%d launches were opened, says the audit, and %d tabs are there", opened, tabs)
	}
}

// canonical is a link as the launcher tells links apart: the order of the ids is none
// of its meaning.
func canonical(link string) string {
	if q := queryOf(link); q.Get("external_encounter_id") != "" {
		return q.Encode()
	}
	return link
}

func suffix(code string) string {
	if code == "" {
		return ""
	}
	return ", " + code
}

// again clicks a link again whose encounter is open: at once it is joined, later it is
// opened again.
func (s *station) again(ctx context.Context, p Plan, link, encounter string) error {
	before := s.w.ledger.tabsOf(encounter)
	if before == 0 {
		return nil
	}
	s.disarm()
	if p.Pattern == AgainLater {
		if err := stage.Sleep(ctx, 3200*time.Millisecond); err != nil {
			return err
		}
	}
	s.audit.mark()
	began := time.Now()
	e, err := s.session.Click(ctx, link)
	if err != nil {
		return err
	}
	c := click{link: link, ended: e, accepts: e.Status == 0}
	s.judgeClicks(p, []click{c})
	s.taken = append(s.taken, time.Now()) // for an agent that does not know it, it is new
	if err := s.settle(ctx, 0, []string{encounter}); err != nil {
		return err
	}
	tabs := s.w.ledger.tabsOf(encounter) - before
	if tabs > 1 {
		s.violate("%d tabs for one further click", tabs)
	}
	if p.Pattern == AgainSoon && tabs > 0 && p.Event == "" && time.Since(began) < 2*time.Second {
		s.count("again at once: opened again") // the first press may have been long ago
	}
	return nil
}

func (s *station) disarm() {
	s.mu.Lock()
	s.armed = false
	s.mu.Unlock()
}

// insist clicks the links again of which nothing has come, with everything well
// again. Then they must open, or say why not.
func (s *station) insist(ctx context.Context, p Plan, links, encounters []string, crashed bool) error {
	if p.Event == Flood || s.w.ledger.tabsOf(encounters[0]) > 0 {
		return nil
	}
	s.disarm()
	plan := p
	plan.Links, plan.Pattern, plan.Event = 1, Once, ""
	if len(s.taken) >= burst {
		if err := s.makeRoom(ctx, &plan); err != nil {
			return err
		}
	}
	s.audit.mark()
	e, err := s.session.Click(ctx, links[0])
	if err != nil {
		return err
	}
	s.taken = append(s.taken, time.Now())
	s.plan.Event = Event("after " + string(p.Event))
	c := click{link: links[0], ended: e, accepts: e.Status == 0}
	s.judgeClicks(plan, []click{c})
	wanted := 0
	if c.accepts {
		wanted = 1
	}
	if err := s.settle(ctx, wanted, encounters[:1]); err != nil {
		return err
	}
	s.count("clicked again after nothing came")
	tabs, most := s.w.ledger.tabsOf(encounters[0]), 1
	if crashed {
		most = 2 // the first click's opener may have been on its way when its agent was ended
	}
	if tabs > most {
		s.violate("%d tabs for one further click", tabs)
	}
	if tabs > 0 || !c.accepts {
		return nil
	}
	code := ""
	for _, l := range s.audit.since() {
		if l.ofLaunch() {
			code = l.Code
		}
	}
	s.count("clicked again in vain: " + code)
	switch {
	case code == "vendor_unavailable" || code == "org_busy": // others' faults have made the backend leave Nabla alone
	case code == "handle_spent" && (s.loose || s.wasLoose): // another key, because the first was in memory only
	case (code == "handle_expired" || code == "handle_spent") && s.w.backendDied(p.Step):
	case strings.HasPrefix(code, "signin"), code == "org_unreachable" && s.w.issuerFaulty():
	default:
		s.violate("a click after everything was well again (%s %s at first) ended with %q", p.Pair, p.Kind, code)
	}
	return nil
}

// heal makes sure at the end that a link opens at once, signed in, and that the audit is
// whole.
func (s *station) heal(ctx context.Context) error {
	s.disarm()
	s.plan = Plan{Step: -1, Event: "at the end"}
	if err := stage.Sleep(ctx, afterToken); err != nil {
		return err
	}
	for range 3 { // others' faults may have made the backend leave Nabla alone
		p := Plan{Step: 10_000_000 + s.number + 1000*s.launches, Form: Handle, Pattern: Once, Links: 1, Event: KillBefore}
		s.plan = p
		if err := s.killAgent(ctx); err != nil {
			return err
		}
		links, encounters, err := s.mint(ctx, p)
		if err != nil {
			return err
		}
		s.launches-- // it is none of the run
		s.audit.mark()
		if _, err := s.session.Click(ctx, links[0]); err != nil {
			return err
		}
		if err := s.settle(ctx, 1, encounters); err != nil {
			return err
		}
		if s.w.ledger.tabsOf(encounters[0]) == 1 {
			break
		}
		if err := stage.Sleep(ctx, 6*time.Second); err != nil {
			return err
		}
	}
	if s.audit.opened() != 1 {
		s.violate("with everything well again nothing opens")
	}
	if err := stage.Sleep(ctx, 200*time.Millisecond); err != nil {
		return err
	}
	verified, err := s.session.Launcher(ctx, "audit", "verify", "--json")
	if err != nil {
		return err
	}
	if verified.Status != 0 {
		s.violate("the audit is not whole: %.600s", verified.Out+verified.Err)
	}
	return s.searchFiles(s.session.Dir)
}

// searchFiles looks for one-time addresses, links and tokens in every file of a folder.
func (s *station) searchFiles(dir string) error {
	return s.w.searchFiles(dir, s.plan.Step)
}

func (w *world) searchFiles(dir string, step int) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // it has gone meanwhile
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		w.searched.Add(1)
		if mark := secretsIn(text, stage.PageHost); mark != "" {
			w.ledger.violate(step, "the file %s holds %q", strings.TrimPrefix(path, w.dir), mark)
		}
		return nil
	})
}
