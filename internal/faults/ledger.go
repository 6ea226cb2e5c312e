//go:build linux

package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Violation is something that must not happen and did.
type Violation struct {
	// Step is the press at which it was seen; -1 for the end of the run.
	Step int
	What string
}

// ledger is what was asked, answered and opened. It is safe for concurrent use.
type ledger struct {
	mu sync.Mutex
	// guarded by mu, all of them
	encounters map[string]*encounter // by external_encounter_id
	links      map[string]*encounter // by handle or signed request
	calls      map[string]*call      // by X-Request-Id
	urls       map[string]*page      // by one-time URL
	tokens     map[string]*station   // by refresh token, code or state
	atNabla    map[string]int        // creates carried out, by encounter
	violations []Violation
	faults     map[string]int
}

// encounter is one encounter of one press.
type encounter struct {
	id      string
	station *station
	step    int
	tabs    int
	clicks  int
}

type call struct {
	encounter *encounter
	pages     int // answers with a page
}

type page struct {
	encounter *encounter
	opened    int
}

func newLedger() *ledger {
	return &ledger{
		encounters: map[string]*encounter{}, links: map[string]*encounter{}, calls: map[string]*call{}, urls: map[string]*page{},
		tokens: map[string]*station{}, atNabla: map[string]int{}, faults: map[string]int{},
	}
}

func (l *ledger) violate(step int, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.violations = append(l.violations, Violation{step, fmt.Sprintf(format, args...)})
}

func (l *ledger) register(id, link string, s *station, step int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.encounters[id]
	if e == nil {
		e = &encounter{id: id, station: s, step: step}
		l.encounters[id] = e
	}
	if q := queryOf(link); q.Get("handle") != "" {
		l.links[q.Get("handle")] = e
	} else if q.Get("request") != "" {
		l.links[q.Get("request")] = e
	}
}

func queryOf(link string) url.Values {
	u, err := url.Parse(link)
	if err != nil {
		return url.Values{}
	}
	return u.Query()
}

// of finds the encounter that a call to the backend or to Nabla is for.
func (l *ledger) of(body []byte) *encounter {
	var b struct {
		Handle    string `json:"handle"`
		Request   string `json:"request"`
		Encounter string `json:"external_encounter_id"`
	}
	if json.Unmarshal(body, &b) != nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case b.Handle != "":
		return l.links[b.Handle]
	case b.Request != "":
		return l.links[b.Request]
	}
	return l.encounters[b.Encounter]
}

func (l *ledger) happened(pair Pair, kind Kind) {
	if kind == "" {
		return
	}
	l.mu.Lock()
	l.faults[string(pair)+": "+string(kind)]++
	l.mu.Unlock()
}

// chooseBackend is what happens to a call of a launcher to its backend.
func (l *ledger) chooseBackend(e *Exchange) (Kind, time.Duration) {
	if e.Method != http.MethodPost {
		return "", 0
	}
	its := l.of(e.Body)
	if its == nil {
		l.violate(-1, "the backend was asked for an encounter that nobody has clicked: %s", e.Path)
		return "", 0
	}
	id := e.Header.Get("X-Request-Id")
	l.mu.Lock()
	if l.calls[id] == nil {
		l.calls[id] = &call{encounter: its}
	}
	l.mu.Unlock()
	kind, delay := its.station.fault(LauncherBackend)
	l.happened(LauncherBackend, kind)
	return kind, delay
}

// answered notes the pages that the backend has given, whether they arrive or not.
func (l *ledger) answered(e *Exchange) {
	if e.Carried == 0 || e.Status != http.StatusOK || e.Method != http.MethodPost {
		return
	}
	var a struct {
		URL string `json:"encounter_url"`
	}
	if json.Unmarshal(e.Answer, &a) != nil || a.URL == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.calls[e.Header.Get("X-Request-Id")]
	if c == nil {
		return
	}
	c.pages += e.Carried
	l.urls[a.URL] = &page{encounter: c.encounter}
}

// chooseNabla is what happens to a call of the backend to Nabla.
func (l *ledger) chooseNabla(e *Exchange) (Kind, time.Duration) {
	its := l.of(e.Body)
	if its == nil {
		return "", 0 // a token
	}
	kind, delay := its.station.fault(BackendNabla)
	l.happened(BackendNabla, kind)
	return kind, delay
}

func (l *ledger) created(e *Exchange) {
	if e.Carried > 0 && e.Status == http.StatusOK && strings.HasSuffix(e.Path, "/encounters") {
		if its := l.of(e.Body); its != nil {
			l.mu.Lock()
			l.atNabla[its.id] += e.Carried
			l.mu.Unlock()
		}
	}
}

// whose finds the station whose token is asked for.
func (l *ledger) whose(body []byte) *station {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range []string{"refresh_token", "code"} {
		if s := l.tokens[form.Get(name)]; s != nil {
			return s
		}
	}
	return nil
}

// signsIn notes whose sign-in page has this state.
func (l *ledger) signsIn(state string, s *station) {
	l.mu.Lock()
	l.tokens[state] = s
	l.mu.Unlock()
}

func isToken(e *Exchange) bool {
	return e.Method == http.MethodPost && strings.HasSuffix(e.Path, "/token")
}

// chooseIssuer is what happens to a call to the issuer. Only where the answer is a
// token is it known whose call it is.
func (l *ledger) chooseIssuer(e *Exchange, armed func() *station) (Kind, time.Duration) {
	var s *station
	switch {
	case isToken(e):
		if s = l.whose(e.Body); s != nil {
			s.asksForToken()
		}
	case strings.HasSuffix(e.Path, "/.well-known/openid-configuration") || strings.HasSuffix(e.Path, "/keys"):
		s = armed()
	}
	if s == nil {
		return "", 0
	}
	kind, delay := s.fault(LauncherIssuer)
	l.happened(LauncherIssuer, kind)
	return kind, delay
}

// issued notes whose tokens the issuer has given.
func (l *ledger) issued(e *Exchange) {
	if location := e.Reply.Get("Location"); location != "" {
		if q := queryOf(location); q.Get("code") != "" {
			l.mu.Lock()
			l.tokens[q.Get("code")] = l.tokens[q.Get("state")]
			l.mu.Unlock()
		}
		return
	}
	if !isToken(e) || e.Carried == 0 {
		return
	}
	s := l.whose(e.Body)
	if s == nil {
		return
	}
	var a struct {
		Refresh string `json:"refresh_token"`
	}
	if json.Unmarshal(e.Answer, &a) == nil && a.Refresh != "" {
		l.mu.Lock()
		l.tokens[a.Refresh] = s
		l.mu.Unlock()
	}
}

// tokenDone tells the station whose token it was how that went.
func (l *ledger) tokenDone(e *Exchange) {
	if isToken(e) {
		if s := l.whose(e.Body); s != nil {
			s.gotToken(e)
		}
	}
}

// opens notes that the opener of a station was given an address, and returns the
// encounter, or nil and what is wrong.
func (l *ledger) opens(address string, s *station) (*encounter, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.urls[address]
	switch {
	case p == nil:
		return nil, "an address was opened that the backend has not given"
	case p.encounter.station != s:
		return nil, "an encounter was opened at a workstation where nobody has clicked it"
	}
	p.opened++
	p.encounter.tabs++
	if p.opened > 1 {
		return p.encounter, "a one-time address was opened twice"
	}
	return p.encounter, ""
}

func (l *ledger) tabsOf(id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.encounters[id].tabs
}

// secretsIn names what of the one-time addresses, links and tokens a text holds.
func secretsIn(text []byte, pageHost string) string {
	for _, mark := range []string{pageHost + "/open", "launch?handle=", "launch?request=", "refresh_token"} {
		if bytes.Contains(text, []byte(mark)) {
			return mark
		}
	}
	return ""
}
