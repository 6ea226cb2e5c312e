//go:build linux

// Package faults clicks links at the real programs while things go wrong, by a seeded
// schedule: proxies between launcher and backend, backend and Nabla, launcher and
// issuer, which delay, cut, truncate, double and lose; agents that are killed, disks
// that are full, keyrings that are locked, buses that are started again. Then it looks
// whether what the product promises was kept: one encounter for each id, at most one
// tab for each press, no address kept, no sign-in lost, no line of an audit missing,
// and an end for every launch.
//
// It judges what it sees from outside, as a person, the EHR and Nabla see it, and
// changes nothing of the programs but the places where they look for policy and clock.
// It touches nothing of the person who runs it. What a run could not do is named in its
// report and never counted as done.
package faults

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"encounterlauncher/internal/sandbox"
	"encounterlauncher/internal/sessionsim"
	"encounterlauncher/internal/stage"
)

// Options say what a run is.
type Options struct {
	// Seed gives the schedule. The same seed gives the same presses with the same
	// faults; what falls together with what is the machine's.
	Seed uint64
	// Launches is how many links are clicked at least.
	Launches int
	// Stations is how many workstations click at the same time; 0 means 12.
	Stations int
	// Only, when not nil, are the presses to run, by their step, each with the plan that
	// it has in the whole run, one after the other.
	Only []int
	// Cheap leaves the heavy events out.
	Cheap bool
	// Mutant spoils the run on purpose, to show that it is noticed.
	Mutant Mutant
}

// Mutant is a fault that the programs must not have.
type Mutant string

// The mutants.
const (
	OpensTwice     Mutant = "the opener is called twice"
	CreatesAnother Mutant = "a second encounter is made at Nabla"
)

// Row is one line of a report.
type Row struct {
	What  string `json:"what"`
	Count int    `json:"count"`
}

// Report is what a run has tried and found.
type Report struct {
	Seed     uint64        `json:"seed"`
	Presses  int           `json:"presses"`
	Launches int           `json:"launches"`
	Took     time.Duration `json:"took_ns"`
	// Faults are what the proxies did, Events what happened to programs and desktop,
	// Ends how clicks and launches ended.
	Faults []Row `json:"faults"`
	Events []Row `json:"events"`
	Ends   []Row `json:"ends"`
	// NotRun names what could not be done here, and why.
	NotRun []string `json:"not_run"`
	// Found are the violations.
	Found []Violation `json:"found"`
	// Encounters, Tabs, AuditLines and Files are how much was compared.
	Encounters int `json:"encounters"`
	Tabs       int `json:"tabs"`
	AuditLines int `json:"audit_lines"`
	Files      int `json:"files"`
}

// world is everything that one run has.
type world struct {
	o         Options
	dir       string
	authority *stage.Authority
	secrets   *stage.Secrets
	issuer    *stage.Issuer
	sim       *stage.Simulator
	backend   *stage.Backend
	ordinary  stage.Programs
	clocked   stage.Programs // whose clock can be set; Bin is empty where there are none
	stations  []*station
	ledger    *ledger
	bus       *sessionsim.Bus
	login     *sessionsim.Login
	closers   []func()
	searched  atomic.Int64

	mu          sync.Mutex
	events      map[Event]int // guarded by mu
	notRun      []string      // guarded by mu
	died        []time.Time   // guarded by mu: when the backend was killed
	backendGate sync.RWMutex  // held for writing while the backend is away
}

// patients is how many people the context source knows.
const patients = 40

func patientName(n int) string { return fmt.Sprintf("Ada Example %d", n) }

// Run clicks until enough links were clicked, and returns what was found. The error
// is of the run itself: something could not be started. progress is called from time
// to time and may be nil.
func Run(ctx context.Context, o Options, progress func(string)) (Report, error) {
	if progress == nil {
		progress = func(string) {}
	}
	if o.Stations == 0 {
		o.Stations = 12
	}
	dir, err := os.MkdirTemp("", "fa-") // short, for the names of sockets
	if err != nil {
		return Report{}, err
	}
	w := &world{o: o, dir: dir, ledger: newLedger(), events: map[Event]int{}}
	defer w.close()
	began := time.Now()
	progress("building the programs and starting backend, simulator, issuer and sessions")
	if err := w.open(ctx); err != nil {
		return Report{}, err
	}
	started := time.Now()
	if err := w.click(ctx, progress); err != nil {
		return w.report(began), err
	}
	progress(fmt.Sprintf("%v for the launches; making everything well again", time.Since(started).Round(time.Second)))
	if err := w.heal(ctx); err != nil {
		return w.report(began), err
	}
	if err := w.compare(ctx); err != nil {
		return w.report(began), err
	}
	return w.report(began), nil
}

func (w *world) programs(s *station) stage.Programs {
	if s.clockFile != "" {
		return w.clocked
	}
	return w.ordinary
}

func (w *world) event(e Event) {
	w.mu.Lock()
	w.events[e]++
	w.mu.Unlock()
}

func (w *world) later(close func()) { w.closers = append(w.closers, close) }

func (w *world) close() {
	for _, s := range w.stations {
		if s.session != nil {
			s.session.Close()
		}
		s.unmount()
	}
	for _, c := range slices.Backward(w.closers) {
		c()
	}
	_ = os.RemoveAll(w.dir)
}

func (w *world) open(ctx context.Context) (err error) {
	if w.ordinary, err = stage.NewPrograms(w.dir); err != nil {
		return err
	}
	p := w.ordinary
	if err := p.Build(ctx, p.Launcher(), p.Opener(), p.Backend(), p.Simulator()); err != nil {
		return err
	}
	if err := w.spoilOpener(); err != nil {
		return err
	}
	if err := w.buildClocked(ctx); err != nil {
		return err
	}
	if w.authority, err = stage.NewAuthority(w.dir); err != nil {
		return err
	}
	if w.secrets, err = stage.NewSecrets(w.dir); err != nil {
		return err
	}
	if err := w.openIssuer(); err != nil {
		return err
	}
	if err := w.openNabla(ctx); err != nil {
		return err
	}
	if err := w.openBackend(ctx); err != nil {
		return err
	}
	keys := map[string]any{}
	maps.Copy(keys, stage.Policy(w.authority, w.issuer, w.backend))
	keys["AllowedLinkForms"] = []string{"handle", "request", "identifiers"}
	keys["LinkKeys"] = w.secrets.LinkKeys
	if err := w.ordinary.WritePolicy(keys); err != nil {
		return err
	}
	if w.clocked.Bin != "" {
		if err := w.clocked.WritePolicy(keys); err != nil {
			return err
		}
	}
	system := filepath.Join(w.dir, "system")
	if err := os.Mkdir(system, 0o700); err != nil {
		return err
	}
	if w.bus, err = sessionsim.StartBus(system); err != nil {
		return err
	}
	w.later(w.bus.Stop)
	if w.login, err = sessionsim.NewLogin(w.bus.Address, "c1"); err != nil {
		return err
	}
	w.later(w.login.Close)
	return w.openStations(ctx)
}

// proxy starts a proxy in front of target, over TLS where secure is set, and returns
// its address.
func (w *world) proxy(secure bool, target string, p *Proxy) (string, error) {
	var err error
	if target != "" {
		if p.Target, err = url.Parse(target); err != nil {
			return "", err
		}
	}
	client := w.authority.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	p.Client = client
	w.later(client.CloseIdleConnections)
	if secure {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		server := w.authority.ServeOn(l, p, noteConnected)
		w.later(func() { _ = server.Close() })
		return "https://" + l.Addr().String(), nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: p, ReadHeaderTimeout: stage.Patience, ConnContext: noteConnected}
	go func() { _ = server.Serve(l) }()
	w.later(func() { _ = server.Close() })
	return "http://" + l.Addr().String(), nil
}

func (w *world) openIssuer() error {
	p := &Proxy{
		Choose: func(e *Exchange) (Kind, time.Duration) { return w.ledger.chooseIssuer(e, w.armed) },
		Seen:   w.ledger.issued, Done: w.ledger.tokenDone,
	}
	address, err := w.proxy(true, "", p)
	if err != nil {
		return err
	}
	if w.issuer, err = stage.StartIssuer(w.authority, stage.IssuerOptions{URL: address}); err != nil {
		return err
	}
	w.later(w.issuer.Close)
	p.Target, err = url.Parse(w.issuer.Own)
	return err
}

// armed is a station whose plan wants a fault of the issuer now.
func (w *world) armed() *station {
	for _, s := range w.stations {
		if s != nil && s.isArmed(LauncherIssuer) {
			return s
		}
	}
	return nil
}

// issuerFaulty says that the issuer may fail somebody who has no fault of his own.
func (w *world) issuerFaulty() bool { return true }

func (w *world) openNabla(ctx context.Context) error {
	p := &Proxy{Choose: w.ledger.chooseNabla, Seen: w.ledger.created}
	if w.o.Mutant == CreatesAnother {
		p.Choose = func(e *Exchange) (Kind, time.Duration) {
			if kind, delay := w.ledger.chooseNabla(e); kind != "" || w.ledger.of(e.Body) == nil {
				return kind, delay
			}
			return Renamed, 0
		}
	}
	address, err := w.proxy(false, "", p)
	if err != nil {
		return err
	}
	if w.sim, err = stage.StartSimulator(ctx, w.ordinary, w.secrets, stage.SimulatorOptions{PublicURL: address}); err != nil {
		return err
	}
	w.later(w.sim.Stop)
	p.Target, err = url.Parse(w.sim.Own)
	return err
}

func (w *world) openBackend(ctx context.Context) error {
	var known bytes.Buffer
	for n := range patients {
		fmt.Fprintf(&known, "P-%d: {name: %q, birth_date: \"1980-01-31\", gender: female}\n", n, patientName(n))
	}
	contexts := filepath.Join(w.dir, "patients.yaml")
	if err := os.WriteFile(contexts, known.Bytes(), 0o600); err != nil {
		return err
	}
	p := &Proxy{Choose: w.ledger.chooseBackend, Seen: w.ledger.answered}
	address, err := w.proxy(true, "", p)
	if err != nil {
		return err
	}
	w.backend, err = stage.StartBackend(ctx, w.ordinary, w.secrets, stage.BackendOptions{
		Dir: filepath.Join(w.dir, "backend"), Issuer: w.issuer.URL, Nabla: w.sim.Base, PublicURL: address, Authority: w.authority,
		More: fmt.Sprintf("link_keys_file: %q\ncontext_file: %q\nidentifiers_allowed: true\n", filepath.Join(w.secrets.Dir, "link-keys.json"), contexts),
	})
	if err != nil {
		return err
	}
	w.later(func() { w.backend.Stop() })
	p.Target, err = url.Parse(w.backend.Own)
	return err
}

// restartBackend kills the backend and starts it again. Its handles were in memory.
func (w *world) restartBackend(ctx context.Context) error {
	w.backendGate.Lock()
	defer w.backendGate.Unlock()
	w.mu.Lock()
	w.died = append(w.died, time.Now())
	w.mu.Unlock()
	w.backend.Kill()
	return w.backend.Start(ctx)
}

// mint registers a launch, when the backend is there. An EHR tries again where a
// connection was lost with the backend before.
func (w *world) mint(ctx context.Context, l stage.Launch) (link string, err error) {
	w.backendGate.RLock()
	defer w.backendGate.RUnlock()
	for range 3 {
		if link, err = w.backend.Mint(ctx, l); err == nil || ctx.Err() != nil {
			break
		}
	}
	return link, err
}

// backendDied says whether the backend was killed in the last minute.
func (w *world) backendDied(int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.died) > 0 && time.Since(w.died[len(w.died)-1]) < time.Minute
}

func (w *world) openStations(ctx context.Context) error {
	w.stations = make([]*station, w.o.Stations)
	people := sandbox.People()
	for n := range w.stations {
		s := &station{
			w: w, number: n, person: people[n%len(people)], counts: map[string]int{}, signedOut: true,
			audit: auditReader{offsets: map[string]int64{}},
		}
		folder := filepath.Join(w.dir, fmt.Sprint(n))
		if err := os.Mkdir(folder, 0o700); err != nil {
			return err
		}
		env := []string{"DBUS_SYSTEM_BUS_ADDRESS=" + w.bus.Address}
		if w.clocked.Bin != "" && n%3 == 1 {
			s.clockFile = filepath.Join(folder, "clock")
			if err := stage.SetClock(s.clockFile, 0); err != nil {
				return err
			}
			env = append(env, stage.ClockVariable+"="+s.clockFile)
		}
		var err error
		if s.session, err = stage.NewSession(ctx, stage.SessionOptions{Dir: folder, Programs: w.programs(s), Env: env}); err != nil {
			return err
		}
		s.audit.dir = filepath.Join(s.session.Folder("state"), "encounter-launcher", "audit")
		w.stations[n] = s
		if !w.o.Cheap && n%3 == 0 {
			if err := s.mount(ctx); err != nil {
				w.cannot("disk full, read-only home: " + err.Error())
			}
		}
	}
	return nil
}

func (w *world) cannot(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.notRun, what) {
		w.notRun = append(w.notRun, what)
	}
}

// heavy are the events that a station may have besides the cheap ones.
func (w *world) heavy(s *station) []Event {
	if w.o.Cheap {
		return nil
	}
	events := []Event{TrayHost, Bus, Locked, Gone, Asleep}
	if len(s.disks) > 0 {
		events = append(events, DiskFull, ReadOnly, DiskFull, ReadOnly)
	}
	if s.clockFile != "" {
		events = append(events, Clock, Clock, Clock)
	}
	if s.number == 0 {
		events = append(events, BackendDies)
	}
	return events
}

// click has every station press its button until enough links were clicked. Step n is
// station n modulo the number of stations, so that a step's plan is known by its number.
func (w *world) click(ctx context.Context, progress func(string)) error {
	// Nobody's fault of the issuer may hit somebody who signs in for the first time.
	for _, s := range w.stations {
		if err := s.signInFirst(ctx); err != nil {
			return fmt.Errorf("station %d: %w", s.number, err)
		}
	}
	if len(w.o.Only) > 0 {
		for _, step := range w.o.Only {
			s := w.stations[step%len(w.stations)]
			p := planOf(w.o.Seed, step, w.heavy(s))
			progress(fmt.Sprintf("%+v", p))
			if err := s.press(ctx, p); err != nil {
				return err
			}
		}
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var done atomic.Int64
	var all sync.WaitGroup
	for _, s := range w.stations {
		all.Go(func() {
			for step := s.number; done.Load() < int64(w.o.Launches) && ctx.Err() == nil; step += len(w.stations) {
				before := s.launches
				if err := s.press(ctx, planOf(w.o.Seed, step, w.heavy(s))); err != nil {
					cancel(fmt.Errorf("seed %d, step %d: %w", w.o.Seed, step, err))
					return
				}
				s.count("press")
				done.Add(int64(s.launches - before))
			}
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	for tick := time.NewTicker(15 * time.Second); ; {
		select {
		case <-tick.C:
			w.ledger.mu.Lock()
			found := len(w.ledger.violations)
			w.ledger.mu.Unlock()
			progress(fmt.Sprintf("%d of %d launches, %d violations", done.Load(), w.o.Launches, found))
		case <-ended:
			tick.Stop()
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return nil
		}
	}
}

// signInFirst signs the person in by the first link of the day.
func (s *station) signInFirst(ctx context.Context) error {
	p := Plan{Step: 20_000_000 + s.number, Form: Handle, Pattern: Once, Links: 1}
	if err := s.press(ctx, p); err != nil {
		return err
	}
	s.launches-- // it is none of the run
	if s.audit.opened() == 0 {
		return errors.New("the first link of the day opened nothing")
	}
	return nil
}

func (w *world) heal(ctx context.Context) error {
	for _, s := range w.stations {
		if err := s.heal(ctx); err != nil {
			return fmt.Errorf("station %d: %w", s.number, err)
		}
	}
	return nil
}

// compare looks at the other ends: Nabla's encounters, the backend's audit and files.
func (w *world) compare(ctx context.Context) error {
	var made struct {
		Encounters []struct {
			ID string `json:"external_encounter_id"`
		} `json:"encounters"`
	}
	if err := w.sim.Ask(ctx, http.MethodGet, "/encounters", nil, &made); err != nil {
		return err
	}
	times := map[string]int{}
	for _, e := range made.Encounters {
		times[e.ID]++
	}
	pages, err := w.backendPages()
	if err != nil {
		return err
	}
	l := w.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	add := func(step int, format string, args ...any) {
		l.violations = append(l.violations, Violation{step, fmt.Sprintf(format, args...)})
	}
	for id, n := range times {
		e := l.encounters[id]
		switch {
		case e == nil:
			add(-1, "Nabla has an encounter that no EHR has named: %s", id)
		case n != 1:
			add(e.step, "Nabla has the encounter %s %d times", id, n)
		}
	}
	for id, e := range l.encounters {
		if e.tabs > 0 && times[id] != 1 {
			add(e.step, "the encounter %s was opened and is %d times at Nabla", id, times[id])
		}
		if l.atNabla[id] > 0 && times[id] == 0 {
			add(e.step, "the encounter %s was created and is not at Nabla", id)
		}
	}
	for id, c := range l.calls {
		if c.pages > pages[id] {
			add(c.encounter.step, "the backend gave %d pages for one call and its audit tells of %d", c.pages, pages[id])
		}
	}
	l.mu.Unlock()
	defer l.mu.Lock()
	return w.searchFiles(filepath.Join(w.dir, "backend"), -1)
}

// backendPages counts the pages that the backend's audit tells of, by X-Request-Id.
func (w *world) backendPages() (map[string]int, error) {
	files, err := filepath.Glob(w.backend.AuditFile + "*")
	if err != nil {
		return nil, err
	}
	pages := map[string]int{}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var l struct {
				Action, Outcome string
				RequestID       string `json:"request_id"`
			}
			if json.Unmarshal(lines.Bytes(), &l) == nil && l.Outcome == "done" && (l.Action == "encounter_opened" || l.Action == "encounter_reopened") {
				pages[l.RequestID]++
			}
		}
		err = errors.Join(lines.Err(), f.Close())
		if err != nil {
			return nil, err
		}
	}
	return pages, nil
}

func (w *world) report(began time.Time) Report {
	r := Report{Seed: w.o.Seed, Took: time.Since(began), Files: int(w.searched.Load())}
	ends := map[string]int{}
	for _, s := range w.stations {
		if s == nil {
			continue
		}
		r.Launches += s.launches
		r.AuditLines += s.audit.lines()
		for what, n := range s.counts {
			ends[what] += n
		}
	}
	r.Presses = ends["press"]
	delete(ends, "press")
	l := w.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Encounters = len(l.encounters)
	for _, e := range l.encounters {
		r.Tabs += e.tabs
	}
	r.Found = slices.Clone(l.violations)
	r.Faults, r.Ends = rows(l.faults), rows(ends)
	w.mu.Lock()
	defer w.mu.Unlock()
	events := map[string]int{}
	for e, n := range w.events {
		events[string(e)] = n
	}
	r.Events, r.NotRun = rows(events), slices.Clone(w.notRun)
	return r
}

func rows(counts map[string]int) []Row {
	var all []Row
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, Row{what, counts[what]})
	}
	return all
}

// String is the report as text.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d launches in %d presses, %v; %d encounters, %d tabs, %d lines of audit and %d files compared\n",
		r.Seed, r.Launches, r.Presses, r.Took.Round(time.Second), r.Encounters, r.Tabs, r.AuditLines, r.Files)
	for _, part := range []struct {
		name string
		rows []Row
	}{{"faults of the proxies", r.Faults}, {"events", r.Events}, {"ends", r.Ends}} {
		fmt.Fprintf(&b, "%s:\n", part.name)
		for _, row := range part.rows {
			fmt.Fprintf(&b, "  %7d  %s\n", row.Count, row.What)
		}
	}
	for _, what := range r.NotRun {
		fmt.Fprintf(&b, "not run here: %s\n", what)
	}
	for _, v := range r.Found {
		fmt.Fprintf(&b, "VIOLATION seed %d step %d: %s\n", r.Seed, v.Step, v.What)
	}
	fmt.Fprintf(&b, "%d violations\n", len(r.Found))
	return b.String()
}
