package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"encounterlauncher/internal/nablasim"
	"encounterlauncher/internal/paths"
)

const (
	// stepDeadline bounds what one step waits for.
	stepDeadline = 30 * time.Second
	// lookEvery is how often a waiting step looks again; sayEvery how often it
	// tells the reader that it still waits.
	lookEvery = 50 * time.Millisecond
	sayEvery  = 5 * time.Second
	// apart is longer than the 3 s within which a second opening of one encounter
	// counts as the same click.
	apart = 3200 * time.Millisecond
	// The launcher takes linksPerWindow distinct links in linkWindow.
	linksPerWindow = 5
	linkWindow     = 10500 * time.Millisecond
	// patience is after how many failed steps the rest is not tried.
	patience = 4
)

// play goes through the main job and every refusal, as a person would, and
// compares what happens with what should.
type play struct {
	*running
	layout      paths.Layout
	scheme      string
	browser     *player
	page        *http.Client
	canRegister bool

	pressed    []time.Time
	lastOpened time.Time
	links      []string // every link that was minted, the first first
	failures   int
}

// preparePlay puts the play's "xdg-open" in front of PATH for the launcher.
func (r *running) preparePlay(ctx context.Context, scheme string) (*play, error) {
	browser, err := newPlayer(r.world.issuerURL, r.world.nablaURL)
	if err != nil {
		return nil, err
	}
	if err := browser.listen(ctx, r.places.follow()); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	if err := paths.EnsurePrivateDir(r.places.bin()); err != nil {
		return nil, err
	}
	opener := filepath.Join(r.places.bin(), "xdg-open")
	script := "#!/bin/sh\nexec " + shellQuote(self) + " follow --at " + shellQuote(r.places.follow()) + " -- \"$1\"\n"
	if err := os.WriteFile(opener, []byte(script), 0o700); err != nil {
		return nil, errors.New("writing the play's xdg-open")
	}
	r.launcher.env = append(os.Environ(), "PATH="+r.places.bin()+string(os.PathListSeparator)+os.Getenv("PATH"))
	return &play{
		running: r, layout: paths.Of(paths.Demo), scheme: scheme, browser: browser,
		page: &http.Client{Timeout: 20 * time.Second}, canRegister: hasDesktopTools(),
	}, nil
}

func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// hasDesktopTools reports whether the desktop's own tools for link schemes are
// installed.
func hasDesktopTools() bool {
	for _, tool := range []string{"xdg-mime", "update-desktop-database"} {
		if _, err := exec.LookPath(tool); err != nil {
			return false
		}
	}
	return true
}

// run plays everything, prints the timeline and says how it went.
func (p *play) run(ctx context.Context) error {
	p.say("Playing the sandbox: every press, sign-in and page below is real, on loopback.")
	p.say("Done without: a display, a browser (the play follows addresses itself), a session bus, a keyring (the sign-in lives in memory)" +
		map[bool]string{true: ".", false: ", the desktop's link-scheme tools (the link is handed over as the desktop would)."}[p.canRegister])
	steps := []struct {
		sentence string
		do       func(context.Context) error
	}{
		{"the EHR page shows three patients and two links to refuse, and showing it makes no link", p.pageMakesNoLink},
		{"the launcher runs under the demo policy and nobody is signed in", p.launcherReady},
		{"pressing patient 1 while signed out: Dr. Moreau signs in, and the encounter opens", p.firstPress},
		{"pressing patient 2: the encounter opens without another sign-in", p.secondPress},
		{"pressing patient 3 twice quickly: one encounter, one tab", p.doublePress},
		{"following the link of patient 1 once more: it reopens through a fresh address", p.sameLinkAgain},
		{"reopening the last of the recent encounters: a fresh address again", p.reopenRecent},
		{"the note of patient 2 is exported: the recent encounter says so", p.noteExported},
		{"removing a recent encounter and bringing it back", p.removeRecent},
		{"following a one-time address again: the page refuses", p.spentAddress},
		{"a stale link: refused as too old", p.staleLink},
		{"a forged link: refused", p.forgedLink},
		{"a malformed link: refused by the link handler, and nothing else happens", p.malformedLink},
		{"a link beside another argument: refused, and nothing else happens", p.linkBesideArgument},
		{"a link of a form that the policy does not allow: refused", p.formNotAllowed},
		{"Nabla fails once: the backend asks again, and the encounter opens", p.vendorFailsOnce},
		{"signing out: the launcher forgets, and the issuer takes the sign-in back", p.signOut},
		{"the wrong clinician: Dr. Okafor presses Dr. Moreau's encounter and is refused", p.wrongClinician},
		{"quitting, then pressing patient 2: the link starts the launcher and opens", p.coldStart},
		{"the audit has a line for every launch, and its chain holds", p.auditHolds},
		{"no file that was written holds a one-time address, a link or a handle", p.nothingWritten},
	}
	tried := 0
	for _, step := range steps {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if p.failures >= patience {
			break
		}
		tried++
		p.step(ctx, step.sentence, step.do)
	}
	p.world.timeline.settle(0, 0)
	p.say("\nTimeline of the launches:")
	for _, line := range p.world.timeline.table() {
		p.say(line)
	}
	if p.failures == 0 {
		p.say(fmt.Sprintf("\nAll %d steps went as they should.", len(steps)))
		return nil
	}
	p.say(fmt.Sprintf("\n%d of %d steps did not go as they should (%d not tried).", p.failures, len(steps), len(steps)-tried))
	for title, file := range map[string]string{"launcher's log": p.layout.LogFile(), "launcher's output": p.places.agentOutput()} {
		if tail := logTail(file, 30); len(tail) > 0 {
			p.say("\nThe end of the " + title + ":")
			for _, line := range tail {
				p.say("  " + line)
			}
		}
	}
	return ErrPlay
}

// step does one step and says how it went, and meanwhile that it waits.
func (p *play) step(ctx context.Context, sentence string, do func(context.Context) error) {
	done := make(chan struct{})
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		for began := time.Now(); ; {
			select {
			case <-done:
				return
			case <-time.After(sayEvery):
				p.say(fmt.Sprintf("  … %d s: %s", int(time.Since(began).Seconds()), sentence))
			}
		}
	}()
	before, _, _ := p.browser.seen()
	err := do(ctx)
	close(done)
	<-waited
	after, _, odd := p.browser.seen()
	if len(after) > len(before) {
		p.lastOpened = time.Now()
	}
	if err == nil && odd != nil {
		err = odd
	}
	if err == nil {
		p.say("  ✓ " + sentence)
		return
	}
	p.failures++
	p.say("  ✗ " + sentence + "\n      " + strings.ReplaceAll(err.Error(), "\n", "\n      "))
}

// await looks until a condition holds; seen says what it saw last.
func await(ctx context.Context, expected string, look func() (ok bool, seen string)) error {
	ctx, cancel := context.WithTimeout(ctx, stepDeadline)
	defer cancel()
	for {
		ok, seen := look()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("expected: %s\nhappened: %s", expected, seen)
		case <-time.After(lookEvery):
		}
	}
}

func differs(expected string, happened any) error {
	return fmt.Errorf("expected: %s\nhappened: %v", expected, happened)
}

// rest waits until some time after the last page has passed.
func (p *play) rest(ctx context.Context) {
	wait(ctx, time.Until(p.lastOpened.Add(apart)))
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// press presses a button of the EHR page, as its script does, and returns the
// link that the browser would go to. It keeps below the launcher's rate limit.
func (p *play) press(ctx context.Context, button, doctor string) (string, error) {
	if n := len(p.pressed); n >= linksPerWindow {
		wait(ctx, time.Until(p.pressed[n-linksPerWindow].Add(linkWindow)))
	}
	p.pressed = append(p.pressed, time.Now())
	response, err := p.post(ctx, "/press/"+button, doctor)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var answer pressAnswer
	if response.StatusCode != http.StatusOK || json.NewDecoder(response.Body).Decode(&answer) != nil || answer.Link == "" {
		return "", differs("a link for the press", fmt.Sprintf("status %d and no link", response.StatusCode))
	}
	p.links = append(p.links, answer.Link)
	return answer.Link, nil
}

// post sends what the EHR page's script sends when a button is pressed.
func (p *play) post(ctx context.Context, path, doctor string) (*http.Response, error) {
	body, err := json.Marshal(pressBody{Clinician: doctor})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.world.ehrURL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Origin", p.world.ehrURL)
	response, err := p.page.Do(request)
	if err != nil {
		return nil, errors.New("the EHR's server does not answer")
	}
	return response, nil
}

// handOver runs the launcher with a link, exactly as the desktop does, and
// checks how the link handler ends.
func (p *play) handOver(ctx context.Context, want int, arguments ...string) error {
	result, err := p.launcher.run(ctx, arguments...)
	if err != nil {
		return err
	}
	if result.status != want {
		return differs(fmt.Sprintf("the link handler ends with %d", want), fmt.Sprintf("%d: %s", result.status, firstLine(result.said)))
	}
	if want == exitRefused && len(bytes.TrimSpace(result.said)) == 0 {
		return differs("a refusal says why", "the link handler was silent")
	}
	for _, argument := range arguments {
		if _, secret, found := strings.Cut(argument, "?"); found && (bytes.Contains(result.said, []byte(secret)) || bytes.Contains(result.out, []byte(secret))) {
			return differs("the link handler never repeats a link", "it did")
		}
	}
	return nil
}

// opened waits for exactly so many encounter pages and checks the last: which
// encounter, for whom.
func (p *play) opened(ctx context.Context, count int, button, doctor string) error {
	who, _ := clinicianByKey(doctor)
	launch := launchOf(patients()[int(button[0]-'1')], who)
	if err := await(ctx, fmt.Sprintf("%d encounter pages opened by now", count), func() (bool, string) {
		pages, _, odd := p.browser.seen()
		seen := fmt.Sprintf("%d, launcher: %s", len(pages), p.launchState(ctx))
		if odd != nil {
			seen += "; " + odd.Error()
		}
		return len(pages) >= count, seen
	}); err != nil {
		return err
	}
	if err := p.launchOver(ctx, "opened", ""); err != nil {
		return err
	}
	pages, _, _ := p.browser.seen()
	if len(pages) != count {
		return differs(fmt.Sprintf("%d encounter pages", count), len(pages))
	}
	last := pages[count-1]
	if last.status != http.StatusOK || !strings.Contains(last.text, launch.ExternalEncounterID) || !strings.Contains(last.text, who.Email) {
		return differs("the page of encounter "+launch.ExternalEncounterID+" for "+who.Name, fmt.Sprintf("status %d and another page", last.status))
	}
	for _, earlier := range pages[:count-1] {
		if earlier.address == last.address {
			return differs("a fresh one-time address", "one that was used before")
		}
	}
	return nil
}

func (p *play) launchState(ctx context.Context) string {
	s, err := p.launcher.status(ctx)
	switch {
	case err != nil:
		return err.Error()
	case s.Launch == nil:
		return "no launch yet"
	}
	p.world.timeline.reported(s.Launch)
	return strings.TrimSpace(s.Launch.Stage + " " + s.Launch.Code)
}

// launchOver waits until the launcher's last launch has ended so.
func (p *play) launchOver(ctx context.Context, stage, code string) error {
	expected := strings.TrimSpace(stage + " " + code)
	return await(ctx, "the launcher reports "+expected, func() (bool, string) {
		state := p.launchState(ctx)
		return state == expected, state
	})
}

func (p *play) launchID(ctx context.Context) string {
	s, err := p.launcher.status(ctx)
	if err != nil || s.Launch == nil {
		return ""
	}
	return s.Launch.ID
}

// refusedAs waits until a new launch has failed with a code, and checks that
// nothing was opened.
func (p *play) refusedAs(ctx context.Context, before string, pages int, code string) error {
	if err := await(ctx, "a launch that fails with "+code, func() (bool, string) {
		s, err := p.launcher.status(ctx)
		if err != nil || s.Launch == nil || s.Launch.ID == before {
			return false, "no new launch"
		}
		p.world.timeline.reported(s.Launch)
		state := strings.TrimSpace(s.Launch.Stage + " " + s.Launch.Code)
		return state == "failed "+code, state
	}); err != nil {
		return err
	}
	return p.nothingOpened(pages)
}

func (p *play) nothingOpened(pages int) error {
	if now, _, _ := p.browser.seen(); len(now) != pages {
		return differs("no page is opened", fmt.Sprintf("%d were", len(now)-pages))
	}
	return nil
}

func (p *play) pageCount() int {
	pages, _, _ := p.browser.seen()
	return len(pages)
}

// pressAndOpen presses a patient's button, hands the link over, and checks the
// page that opens.
func (p *play) pressAndOpen(ctx context.Context, button, doctor string) error {
	before := p.pageCount()
	link, err := p.press(ctx, button, doctor)
	if err != nil {
		return err
	}
	if err := p.handOver(ctx, exitDone, link); err != nil {
		return err
	}
	return p.opened(ctx, before+1, button, doctor)
}

func (p *play) pageMakesNoLink(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.world.ehrURL+"/", nil)
	if err != nil {
		return err
	}
	v, err := (&player{http: p.page}).do(request)
	if err != nil {
		return err
	}
	if n := strings.Count(v.text, " data-button="); v.status != http.StatusOK || n != len(patients())+2 {
		return differs("a page with five buttons", fmt.Sprintf("status %d and %d buttons", v.status, n))
	}
	if strings.Contains(v.text, p.scheme+"://") || len(p.world.timeline.shown()) != 0 {
		return differs("a page without links", "it has one")
	}
	return nil
}

func (p *play) launcherReady(ctx context.Context) error {
	s, err := p.launcher.status(ctx)
	if err != nil {
		return err
	}
	if s.Agent != "running" || !s.Policy.OK || s.SignedIn || s.Launch != nil {
		return differs("running, policy in force, signed out, no launch", fmt.Sprintf("agent %q, policy %v, signed in %v", s.Agent, s.Policy.OK, s.SignedIn))
	}
	return nil
}

func (p *play) firstPress(ctx context.Context) error {
	p.browser.signInAs("ada")
	if err := p.pressAndOpen(ctx, "1", "ada"); err != nil {
		return err
	}
	s, err := p.launcher.status(ctx)
	if err != nil {
		return err
	}
	if ada, _ := clinicianByKey("ada"); !s.SignedIn || s.Person == nil || s.Person.Email != ada.Email {
		return differs("Dr. Moreau is signed in", "she is not")
	}
	return p.signInPages(1)
}

func (p *play) signInPages(want int) error {
	if _, n, _ := p.browser.seen(); n != want {
		return differs(fmt.Sprintf("%d sign-in pages by now", want), n)
	}
	return nil
}

func (p *play) secondPress(ctx context.Context) error {
	if err := p.pressAndOpen(ctx, "2", "ada"); err != nil {
		return err
	}
	return p.signInPages(1)
}

func (p *play) doublePress(ctx context.Context) error {
	before := p.pageCount()
	var links [2]string
	for i := range links {
		var err error
		if links[i], err = p.press(ctx, "3", "ada"); err != nil {
			return err
		}
	}
	if links[0] == links[1] {
		return differs("a fresh link for every press", "the same twice")
	}
	for _, link := range links {
		if err := p.handOver(ctx, exitDone, link); err != nil {
			return err
		}
	}
	if err := await(ctx, "the backend answers both presses", func() (bool, string) {
		answered := 0
		for _, r := range p.world.timeline.shown() {
			if _, ok := r.Steps[stepURL]; ok && r.What == "patient 3" {
				answered++
			}
		}
		return answered == 2, fmt.Sprintf("%d answered", answered)
	}); err != nil {
		return err
	}
	// What is not opened cannot be awaited: give it the time in which a second
	// tab would have come.
	wait(ctx, time.Second)
	return p.opened(ctx, before+1, "3", "ada")
}

func (p *play) sameLinkAgain(ctx context.Context) error {
	if len(p.links) == 0 {
		return errors.New("there is no first link: see above")
	}
	p.rest(ctx)
	before := p.pageCount()
	if err := p.handOver(ctx, exitDone, p.links[0]); err != nil {
		return err
	}
	if err := p.opened(ctx, before+1, "1", "ada"); err != nil {
		return err
	}
	if newest := p.world.timeline.shown()[0]; newest.What != "recent encounter" {
		return differs("the backend is asked for a fresh address", "it was asked for "+newest.What)
	}
	return nil
}

func (p *play) reopenRecent(ctx context.Context) error {
	p.rest(ctx)
	if recents, err := p.recents(ctx); err != nil || len(recents) != len(patients()) {
		return differs("three recent encounters as JSON", fmt.Sprintf("%d", len(recents)))
	}
	before := p.pageCount()
	if err := p.launcher.must(ctx, "open-recent", "--last"); err != nil {
		return err
	}
	return p.opened(ctx, before+1, "1", "ada")
}

// recent is one entry of "recents --json".
type recent struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

func (p *play) recents(ctx context.Context) (all []recent, err error) {
	result, err := p.launcher.run(ctx, "recents", "--json")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(result.out, &all); err != nil {
		return nil, errors.New("the recent encounters are not JSON")
	}
	return all, nil
}

// statuses are those of the recent encounters, newest first.
func (p *play) statuses(ctx context.Context) string {
	all, err := p.recents(ctx)
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, r := range all {
		out = append(out, r.Status)
	}
	return strings.Join(out, " ")
}

// vendorFailsOnce has Nabla answer 500 to the next create.
func (p *play) vendorFailsOnce(ctx context.Context) error {
	if _, err := p.world.sim.AddFault(nablasim.Fault{Call: nablasim.CallCreate, Kind: nablasim.Fault500}); err != nil {
		return err
	}
	p.rest(ctx)
	err := p.pressAndOpen(ctx, "3", "ada")
	for _, f := range p.world.sim.Faults() {
		if err == nil && f.Happened != 1 {
			err = differs("Nabla fails once", fmt.Sprintf("%d times", f.Happened))
		}
	}
	p.world.sim.ClearFaults()
	return err
}

// noteExported has Nabla export the note of patient 2: by now the order of
// the recent encounters is 1, 3, 2.
func (p *play) noteExported(ctx context.Context) error {
	response, err := p.post(ctx, "/exported/2", "ada")
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		return differs("the EHR takes the note", fmt.Sprintf("status %d", response.StatusCode))
	}
	who, _ := clinicianByKey("ada")
	encounter := launchOf(patients()[1], who).ExternalEncounterID
	if err := await(ctx, "the backend brings the note to the EHR", func() (bool, string) {
		n := p.world.ehr.notes.count(encounter)
		return n == 1, fmt.Sprintf("%d notes", n)
	}); err != nil {
		return err
	}
	const expected = "opened opened exported"
	return await(ctx, expected, func() (bool, string) {
		seen := p.statuses(ctx)
		return seen == expected, seen
	})
}

func (p *play) removeRecent(ctx context.Context) error {
	before, err := p.recents(ctx)
	if err != nil || len(before) == 0 {
		return errors.New("there is no recent encounter: see above")
	}
	if err := p.launcher.must(ctx, "recents", "remove", before[0].ID); err != nil {
		return err
	}
	if now, err := p.recents(ctx); err != nil || len(now) != len(before)-1 {
		return differs("one recent encounter less", fmt.Sprintf("%d of %d", len(now), len(before)))
	}
	if err := p.launcher.must(ctx, "recents", "undo"); err != nil {
		return err
	}
	if now, err := p.recents(ctx); err != nil || !slices.Equal(now, before) {
		return differs("the same recent encounters as before", fmt.Sprintf("%d of %d", len(now), len(before)))
	}
	return nil
}

func (p *play) spentAddress(ctx context.Context) error {
	pages, _, _ := p.browser.seen()
	if len(pages) == 0 {
		return errors.New("no page was opened: see above")
	}
	v, err := p.browser.get(ctx, pages[len(pages)-1].address)
	if err != nil {
		return err
	}
	if v.status == http.StatusOK {
		return differs("the page refuses", "it opened again")
	}
	return nil
}

func (p *play) pressRefused(ctx context.Context, button, code string) error {
	before, pages := p.launchID(ctx), p.pageCount()
	link, err := p.press(ctx, button, "ada")
	if err != nil {
		return err
	}
	if err := p.handOver(ctx, exitDone, link); err != nil {
		return err
	}
	return p.refusedAs(ctx, before, pages, code)
}

func (p *play) staleLink(ctx context.Context) error {
	return p.pressRefused(ctx, buttonStale, "handle_expired")
}

func (p *play) forgedLink(ctx context.Context) error {
	return p.pressRefused(ctx, buttonForged, "handle_expired")
}

// refusedAtOnce hands over arguments that must be refused with status 2 and
// change nothing.
func (p *play) refusedAtOnce(ctx context.Context, arguments ...string) error {
	before, pages, rows := p.launchID(ctx), p.pageCount(), len(p.world.timeline.shown())
	if err := p.handOver(ctx, exitRefused, arguments...); err != nil {
		return err
	}
	if after := p.launchID(ctx); after != before {
		return differs("no launch", "a launch")
	}
	if len(p.world.timeline.shown()) != rows {
		return differs("no call to the backend", "a call")
	}
	return p.nothingOpened(pages)
}

func (p *play) malformedLink(ctx context.Context) error {
	return p.refusedAtOnce(ctx, p.scheme+"://launch?handle=short")
}

func (p *play) linkBesideArgument(ctx context.Context) error {
	link := p.scheme + "://launch?handle=" + randomText()
	if err := p.refusedAtOnce(ctx, link, "--verbose"); err != nil {
		return err
	}
	return p.refusedAtOnce(ctx, "status", link)
}

func (p *play) formNotAllowed(ctx context.Context) error {
	pages := p.pageCount()
	rows := len(p.world.timeline.shown())
	if err := p.handOver(ctx, exitRefused, p.scheme+"://launch?external_encounter_id=E&external_patient_id=P&external_provider_id=D"); err != nil {
		return err
	}
	if len(p.world.timeline.shown()) != rows {
		return differs("no call to the backend", "a call")
	}
	return p.nothingOpened(pages)
}

func (p *play) signOut(ctx context.Context) error {
	left := p.browser.hasLeft()
	if err := p.launcher.must(ctx, "sign-out"); err != nil {
		return err
	}
	s, err := p.launcher.status(ctx)
	if err != nil {
		return err
	}
	if s.SignedIn {
		return differs("nobody is signed in", "somebody is")
	}
	if err := await(ctx, "the issuer knows no living sign-in", func() (bool, string) {
		n := p.world.issuer.liveSignIns()
		return n == 0, fmt.Sprintf("%d", n)
	}); err != nil {
		return err
	}
	return await(ctx, "the issuer's session is ended in the browser", func() (bool, string) {
		n := p.browser.hasLeft()
		return n == left+1, fmt.Sprintf("%d times", n-left)
	})
}

func (p *play) wrongClinician(ctx context.Context) error {
	p.browser.signInAs("ben")
	if err := p.pressRefused(ctx, "1", "provider_mismatch"); err != nil {
		return err
	}
	if err := p.signInPages(2); err != nil {
		return err
	}
	return p.signOut(ctx)
}

func (p *play) coldStart(ctx context.Context) error {
	if err := p.launcher.must(ctx, "quit"); err != nil {
		return err
	}
	if err := await(ctx, "no agent is left", func() (bool, string) {
		s, err := p.launcher.status(ctx)
		return err == nil && s.Agent == "absent", "agent " + s.Agent
	}); err != nil {
		return err
	}
	p.browser.signInAs("ada")
	p.rest(ctx)
	return p.pressAndOpen(ctx, "2", "ada")
}

func (p *play) auditHolds(ctx context.Context) error {
	launches := 0
	for _, r := range p.world.timeline.shown() {
		if _, asked := r.Steps[stepAsked]; asked {
			launches++
		}
	}
	if err := await(ctx, fmt.Sprintf("at least %d lines in the audit", launches), func() (bool, string) {
		lines := 0
		for _, text := range filesBelow(p.layout.AuditDir()) {
			lines += bytes.Count(text, []byte("\n"))
		}
		return lines >= launches, fmt.Sprintf("%d", lines)
	}); err != nil {
		return err
	}
	return p.launcher.must(ctx, "audit", "verify")
}

// nothingWritten searches everything below the play's own folder, which is
// everything of the user whom the launcher ran for.
func (p *play) nothingWritten(context.Context) error {
	var secrets [][]byte
	for _, link := range p.links {
		if _, handle, found := strings.Cut(link, "handle="); found {
			secrets = append(secrets, []byte(handle))
		}
	}
	pages, _, _ := p.browser.seen()
	for _, v := range pages {
		secrets = append(secrets, []byte(v.address[strings.LastIndexByte(v.address, '/')+1:]))
	}
	files := filesBelow(p.options.Isolated)
	for name, text := range files {
		for _, secret := range secrets {
			if bytes.Contains(text, secret) {
				return differs("nothing of a link or an address in any file", "something in "+filepath.Base(name))
			}
		}
	}
	if len(secrets) == 0 || len(files) == 0 {
		return differs("something to search for, and files to search", fmt.Sprintf("%d and %d", len(secrets), len(files)))
	}
	return nil
}

// filesBelow returns the content of every regular file below a folder.
func filesBelow(dir string) map[string][]byte {
	files := map[string][]byte{}
	_ = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil // what vanishes meanwhile holds nothing any more
		}
		if text, err := os.ReadFile(name); err == nil {
			files[name] = text
		}
		return nil
	})
	return files
}
