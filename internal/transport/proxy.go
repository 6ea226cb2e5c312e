package transport

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

// ProxySource says who named a proxy, or that there is none.
type ProxySource string

// The sources.
const (
	// FromPolicy is ProxyMode direct or manual.
	FromPolicy ProxySource = "policy"
	// FromPolicyScript is ProxyMode pac: the script at ProxyPACURL.
	FromPolicyScript ProxySource = "policy script"
	// FromEnvironment are HTTPS_PROXY, HTTP_PROXY and NO_PROXY. Windows is never
	// asked for them, as its browsers do not heed them.
	FromEnvironment ProxySource = "environment"
	// FromDetection is Windows' automatic detection (WPAD).
	FromDetection ProxySource = "detection"
	// FromScript is the script that Windows' Internet settings name (PAC).
	FromScript ProxySource = "system script"
	// FromSettings are the proxy and the exceptions in the person's Internet settings.
	FromSettings ProxySource = "system settings"
	// FromComputer is what "netsh winhttp" has set for the whole computer.
	FromComputer ProxySource = "computer settings"
	// FromNobody: nothing on this computer names a proxy.
	FromNobody ProxySource = "nothing set"
	// ThisComputer: what goes to this computer itself never takes a proxy.
	ThisComputer ProxySource = "this computer"
)

// Limits of a look-up.
const (
	// lookupTimeout is how long a call waits for a look-up before it goes on with
	// what a weaker source says. Detection where nothing answers takes seconds.
	lookupTimeout = 3 * time.Second
	// proxyFresh is how long an answer is taken as it is; afterwards it is still
	// taken, while a new look-up is under way. proxyFreshFailed is the same for an
	// answer on whose way a look-up has failed.
	proxyFresh       = 10 * time.Minute
	proxyFreshFailed = time.Minute
	// proxyShunned is how long a proxy that could not be reached comes last.
	proxyShunned = 5 * time.Minute
	// maxProxyHosts bounds the answers that are kept.
	maxProxyHosts = 64
)

// Proxy is which proxy leads to a host, and how that is known.
type Proxy struct {
	// Address is http://host:port or https://host:port, without a user name; empty
	// for a direct connection.
	Address string
	// Source is who said so.
	Source ProxySource
	// Others are what the same source names for when Address cannot be reached, in
	// its order; an empty one is a direct connection. nil when there are none.
	Others []string
	// Failed are the stronger sources that should have been heard and could not be,
	// strongest first; nil when all is well. Not empty means that Address is a
	// fallback.
	Failed []ProxyFailure

	choices []*url.URL // nil elements are direct; empty is direct
}

// ProxyFailure is a look-up that gave no answer.
type ProxyFailure struct {
	// Source is who was asked.
	Source ProxySource
	// Late says that the answer did not come within the time that a call may wait.
	Late bool
	// Cause is for the log; it holds no address.
	Cause error
}

// LookupProxy says which proxy a client of this policy would take to a host. It
// looks anew, keeps nothing, asks no proxy for anything, and ends with ctx or after
// three seconds, whichever comes first; a look-up that is late by then stands in
// Failed, as one that failed does. host is a name or an address, with or without a
// port; https is what would be spoken.
//
// The error is policy_invalid where the policy cannot be used, and else ctx's own
// or request_invalid for a host that is none. A look-up that fails is no error.
func LookupProxy(ctx context.Context, p policy.Snapshot, host string) (Proxy, error) {
	target, err := url.Parse("https://" + host + "/")
	if err != nil || target.Hostname() == "" || target.Path != "/" || target.User != nil {
		return Proxy{}, problem.New(problem.RequestInvalid, errors.New("looking up a proxy: this is not a host"))
	}
	c, err := newChooser(p)
	if err != nil {
		return Proxy{}, err
	}
	defer c.stop()
	chosen, err := c.choose(ctx, target)
	if err != nil {
		return Proxy{}, err
	}
	return chosen, nil
}

// answer is what one source says of a target.
type answer struct {
	// found says that the source decides; without it the next one is asked.
	found bool
	// choices are the proxies in the order in which to try them; nil is direct.
	choices []*url.URL
}

// question asks one source. Its error never quotes what it read.
type question struct {
	source ProxySource
	// slow says that ask may block for as long as it likes; one that is not is
	// asked in place, however late it is, because it is what a late one falls back to.
	slow bool
	ask  func(target *url.URL) (answer, error)
}

// chooser finds the proxy of each request. It is safe for concurrent use.
type chooser struct {
	// questions reads which sources this system has now, strongest first.
	questions func() []question
	// fixed is the answer that needs no question, where there is one.
	fixed *Proxy
	// changed reports whether the network has changed since it was last asked. It
	// costs microseconds. It and unwatch are called under mu, and it never again after
	// unwatch.
	changed func() bool
	unwatch func()
	now     func() time.Time
	// late is closed when a look-up that began now has taken too long.
	late func() (<-chan struct{}, context.CancelFunc)

	mu sync.Mutex
	// stopped says that stop was called; guarded by mu.
	stopped bool
	// network counts the networks so far: what was asked in one says nothing of the
	// next; guarded by mu.
	network int
	// known are the answers by scheme and host; guarded by mu.
	known map[string]*known
	// asking are the questions under way, so that a stuck one is not asked again
	// beside itself; guarded by mu.
	asking map[askKey]*asked
	// shunned are proxies that could not be reached, and until when; guarded by mu.
	shunned map[string]time.Time
}

type known struct {
	proxy      Proxy
	until      time.Time
	refreshing bool
}

type askKey struct {
	source ProxySource
	target string
}

// asked is one question under way. done is closed after answer and err are set.
type asked struct {
	done   chan struct{}
	answer answer
	err    error
	// stuck says that a call has waited long enough for it; guarded by mu.
	stuck bool
}

// newChooser reads the policy's Proxy keys; the error is policy_invalid.
func newChooser(p policy.Snapshot) (*chooser, error) {
	c := &chooser{
		changed: func() bool { return false }, unwatch: func() {}, now: time.Now, late: lateAfter(lookupTimeout),
		known: map[string]*known{}, asking: map[askKey]*asked{}, shunned: map[string]time.Time{},
	}
	switch p.ProxyMode {
	case "", "system":
		c.questions = systemQuestions
		c.changed, c.unwatch = watchNetwork()
	case "direct":
		c.fixed = &Proxy{Source: FromPolicy}
	case "manual":
		u, err := proxyAddress(p.ProxyURL)
		if err != nil {
			return nil, problem.With(problem.PolicyInvalid, "ProxyURL cannot be used.", err)
		}
		fixed := proxyOf(FromPolicy, []*url.URL{u}, nil)
		c.fixed = &fixed
	case "pac":
		ask, err := scriptQuestion(p.ProxyPACURL)
		if err != nil {
			return nil, problem.With(problem.PolicyInvalid, "ProxyMode pac cannot be used on this computer.", err)
		}
		c.questions = func() []question { return []question{{FromPolicyScript, true, ask}} }
		c.changed, c.unwatch = watchNetwork()
	default:
		return nil, problem.With(problem.PolicyInvalid, "ProxyMode is none of system, direct, manual and pac.", nil)
	}
	return c, nil
}

func lateAfter(d time.Duration) func() (<-chan struct{}, context.CancelFunc) {
	return func() (<-chan struct{}, context.CancelFunc) {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		return ctx.Done(), cancel
	}
}

// proxyAddress checks ProxyURL: http or https, a host, and nothing else.
func proxyAddress(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || raw == "" || len(raw) > 2048:
		return nil, errors.New("the proxy's address is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("the proxy's address is neither http nor https")
	case u.User != nil:
		return nil, errors.New("the proxy's address holds a user name")
	case u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("the proxy's address is not a host and a port")
	}
	return u, nil
}

// proxyOf puts an answer into words.
func proxyOf(source ProxySource, choices []*url.URL, failed []ProxyFailure) Proxy {
	p := Proxy{Source: source, Failed: failed, choices: choices}
	for i, u := range choices {
		if i == 0 {
			p.Address = shown(u)
			continue
		}
		p.Others = append(p.Others, shown(u))
	}
	return p
}

// shown is a proxy without what may be a password.
func shown(u *url.URL) string {
	if u == nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
}

// forRequest is http.Transport's question: nil and no error mean no proxy.
func (c *chooser) forRequest(r *http.Request) (*url.URL, error) {
	p, err := c.choose(r.Context(), r.URL)
	if err != nil || len(p.choices) == 0 {
		return nil, err
	}
	return p.choices[0], nil
}

// choose says which proxy leads to a target. The error is only ever ctx's.
func (c *chooser) choose(ctx context.Context, target *url.URL) (Proxy, error) {
	if loopback(target.Hostname()) {
		return Proxy{Source: ThisComputer}, nil
	}
	if c.fixed != nil {
		return *c.fixed, nil
	}
	key := target.Scheme + "://" + strings.ToLower(target.Host)
	c.mu.Lock()
	if !c.stopped && c.changed() {
		c.network++
		clear(c.known)
		clear(c.shunned)
		clear(c.asking)
	}
	if k := c.known[key]; k != nil {
		if !k.refreshing && !c.now().Before(k.until) {
			// The old answer is good enough for this call; the next has the new one.
			k.refreshing = true
			go func() { _, _ = c.lookUp(context.Background(), target, key) }()
		}
		p := c.reachableFirst(k.proxy)
		c.mu.Unlock()
		return p, nil
	}
	c.mu.Unlock()
	p, err := c.lookUp(ctx, target, key)
	if err != nil {
		return Proxy{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reachableFirst(p), nil
}

// lookUp asks the sources in turn and keeps the answer. What fails, or has not
// answered in time, is passed over and noted.
func (c *chooser) lookUp(ctx context.Context, target *url.URL, key string) (Proxy, error) {
	// The script and Windows see the scheme and the host only, never a path.
	bare := &url.URL{Scheme: target.Scheme, Host: target.Host, Path: "/"}
	late, cancel := c.late()
	defer cancel()
	c.mu.Lock()
	network := c.network
	c.mu.Unlock()
	p := Proxy{Source: FromNobody}
	var failed []ProxyFailure
	for _, q := range c.questions() {
		said, err := c.ask(ctx, q, bare, key, late, failed)
		if done := ctx.Err(); done != nil && q.slow {
			return Proxy{}, done
		}
		if err != nil {
			failed = append(failed, ProxyFailure{Source: q.source, Late: errors.Is(err, errLate), Cause: err})
			continue
		}
		if said.found {
			p = proxyOf(q.source, said.choices, nil)
			break
		}
	}
	p.Failed = failed
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.network != network {
		return p, nil
	}
	if k := c.known[key]; k != nil && lateAmong(failed, k.proxy.Source) {
		// What is late now has said this before, or just now: better than a weaker one.
		p = k.proxy
	}
	c.keep(key, p)
	return p, nil
}

// keep keeps an answer for a scheme and host. The caller holds mu.
func (c *chooser) keep(key string, p Proxy) {
	fresh := proxyFresh
	if p.Failed != nil {
		fresh = proxyFreshFailed
	}
	if _, there := c.known[key]; !there && len(c.known) >= maxProxyHosts {
		clear(c.known)
	}
	c.known[key] = &known{proxy: p, until: c.now().Add(fresh)}
}

// lateAmong reports whether a source's answer was late.
func lateAmong(failed []ProxyFailure, source ProxySource) bool {
	return slices.ContainsFunc(failed, func(f ProxyFailure) bool { return f.Late && f.Source == source })
}

var errLate = errors.New("the look-up took too long")

// ask asks one source, and waits for a slow one until ctx ends or it is late. stronger
// are the sources that have failed before it.
func (c *chooser) ask(ctx context.Context, q question, bare *url.URL, key string, late <-chan struct{}, stronger []ProxyFailure) (answer, error) {
	if !q.slow {
		return q.ask(bare)
	}
	a, stuck := c.begin(q, bare, key, stronger)
	if stuck {
		// One call has waited for it; the next attempts of that call must not.
		return answer{}, errLate
	}
	select {
	case <-a.done:
		return a.answer, a.err
	case <-late:
		c.mu.Lock()
		defer c.mu.Unlock()
		select {
		case <-a.done:
			return a.answer, a.err // in the same moment
		default:
		}
		a.stuck = true
		return answer{}, errLate
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

// begin begins a question, or joins the same one where it is under way already. An
// answer for which nobody waits any more counts from the next call on.
func (c *chooser) begin(q question, bare *url.URL, key string, stronger []ProxyFailure) (a *asked, stuck bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := askKey{q.source, key}
	if a := c.asking[id]; a != nil {
		return a, a.stuck
	}
	a = &asked{done: make(chan struct{})}
	c.asking[id] = a
	stronger = slices.Clone(stronger)
	go func() {
		a.answer, a.err = q.ask(bare)
		c.mu.Lock()
		defer c.mu.Unlock()
		defer close(a.done)
		if c.asking[id] != a {
			return // the network is another by now
		}
		delete(c.asking, id)
		c.came(key, q.source, a, stronger)
	}()
	return a, false
}

// came keeps a slow source's answer, which may be late for those who have asked, unless
// a stronger source has decided. The caller holds mu.
func (c *chooser) came(key string, source ProxySource, a *asked, stronger []ProxyFailure) {
	k, found := c.known[key], a.err == nil && a.answer.found
	if k == nil {
		if found {
			c.keep(key, proxyOf(source, a.answer.choices, stronger))
		}
		return
	}
	at := slices.IndexFunc(k.proxy.Failed, func(f ProxyFailure) bool { return f.Late && f.Source == source })
	p, failed := k.proxy, slices.Clone(k.proxy.Failed)
	switch {
	case at < 0 && p.Source != source:
		return // it was not waited for in vain
	case found && at < 0:
		p = proxyOf(source, a.answer.choices, failed)
	case found:
		p = proxyOf(source, a.answer.choices, failed[:at])
	case at < 0:
		k.until = c.now() // it names no proxy any more
		return
	case a.err != nil:
		failed[at] = ProxyFailure{Source: source, Cause: a.err}
		p.Failed = failed
	default:
		p.Failed = slices.Delete(failed, at, at+1) // the weaker one decides
	}
	if len(p.Failed) == 0 {
		p.Failed = nil
	}
	c.keep(key, p)
}

// reachableFirst puts what could not be reached lately behind the rest. The caller
// holds mu.
func (c *chooser) reachableFirst(p Proxy) Proxy {
	if len(p.choices) < 2 || len(c.shunned) == 0 {
		return p
	}
	var good, bad []*url.URL
	for _, u := range p.choices {
		if until, ok := c.shunned[shown(u)]; ok && c.now().Before(until) {
			bad = append(bad, u)
		} else {
			good = append(good, u)
		}
	}
	return proxyOf(p.Source, append(good, bad...), p.Failed)
}

// unreachable notes that a target could not be reached the way that was chosen: the
// next call looks up anew, and where the proxy was at fault, tries its next choice.
func (c *chooser) unreachable(target *url.URL, proxyAtFault bool) {
	if c.fixed != nil {
		return
	}
	key := target.Scheme + "://" + strings.ToLower(target.Host)
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.known[key]
	if k == nil {
		return
	}
	delete(c.known, key)
	if proxyAtFault && len(k.proxy.choices) > 0 {
		if len(c.shunned) >= maxProxyHosts {
			clear(c.shunned)
		}
		c.shunned[c.reachableFirst(k.proxy).Address] = c.now().Add(proxyShunned)
	}
}

// failedFor reports whether the answer that is kept for a target is a fallback.
func (c *chooser) failedFor(target *url.URL) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.known[target.Scheme+"://"+strings.ToLower(target.Host)]
	return k != nil && k.proxy.Failed != nil
}

// stop gives back what watches the network, for good: a later call does not watch it
// again, because nobody would give that back.
func (c *chooser) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.stopped = true
		c.unwatch()
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
