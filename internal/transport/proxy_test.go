package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// system is a stand-in for what a system says, with a clock and a deadline of its own.
type system struct {
	*chooser
	mu        sync.Mutex
	questions []question
	time      time.Time
	changes   atomic.Bool
	late      chan struct{} // closed by a test whose look-up is late
}

func newSystem(t *testing.T, questions ...question) *system {
	t.Helper()
	s := &system{questions: questions, time: time.Unix(1000, 0), late: make(chan struct{})}
	c, err := newChooser(policy.Snapshot{ProxyMode: "system"})
	if err != nil {
		t.Fatal(err)
	}
	c.questions = func() []question { s.mu.Lock(); defer s.mu.Unlock(); return s.questions }
	c.changed = func() bool { return s.changes.Swap(false) }
	c.now = func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.time }
	c.late = func() (<-chan struct{}, context.CancelFunc) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.late, func() {}
	}
	s.chooser = c
	return s
}

func (s *system) pass(d time.Duration) { s.mu.Lock(); s.time = s.time.Add(d); s.mu.Unlock() }

func (s *system) says(q ...question) { s.mu.Lock(); s.questions = q; s.mu.Unlock() }

func (s *system) address(t *testing.T, target string) string {
	t.Helper()
	p, err := s.choose(t.Context(), mustURL(t, target))
	if err != nil {
		t.Fatal(err)
	}
	return p.Address
}

func says(source ProxySource, proxies ...string) question {
	return question{source, false, func(*url.URL) (answer, error) {
		a := answer{found: true}
		for _, p := range proxies {
			u, err := url.Parse(p)
			if err != nil {
				return answer{}, err
			}
			if p == "" {
				u = nil
			}
			a.choices = append(a.choices, u)
		}
		return a, nil
	}}
}

func TestAFailedLookUpNeverDisablesTheRestAndIsSeen(t *testing.T) {
	broken := question{FromScript, true, func(*url.URL) (answer, error) { return answer{}, errors.New("gone") }}
	nothing := question{FromDetection, true, func(*url.URL) (answer, error) { return answer{}, nil }}
	s := newSystem(t, nothing, broken, says(FromSettings, "http://static.example:1"))
	p, err := s.choose(t.Context(), mustURL(t, name))
	if err != nil || p.Address != "http://static.example:1" || p.Source != FromSettings || len(p.Failed) != 1 || p.Failed[0].Source != FromScript || p.Failed[0].Late {
		t.Fatalf("got %+v, %v", p, err)
	}
	s.says(broken)
	s.changes.Store(true)
	if p, err = s.choose(t.Context(), mustURL(t, name)); err != nil || p.Address != "" || p.Source != FromNobody || len(p.Failed) != 1 {
		t.Errorf("nothing is left: %+v, %v", p, err)
	}
}

func TestALateLookUpLetsTheCallGoOnAndCountsWhenItHasCome(t *testing.T) {
	gate, asked := make(chan struct{}), make(chan struct{}, 8)
	slow := question{FromDetection, true, func(*url.URL) (answer, error) {
		asked <- struct{}{}
		<-gate
		return answer{found: true, choices: []*url.URL{{Scheme: "http", Host: "detected.example:8080"}}}, nil
	}}
	s := newSystem(t, slow, says(FromSettings, "http://static.example:1"))
	close(s.late)
	p, err := s.choose(t.Context(), mustURL(t, name))
	if err != nil || p.Address != "http://static.example:1" || len(p.Failed) != 1 || !p.Failed[0].Late {
		t.Fatalf("got %+v, %v", p, err)
	}
	<-asked
	s.mu.Lock()
	s.late = make(chan struct{}) // a second call waits for no stuck question at all
	s.mu.Unlock()
	s.unreachable(mustURL(t, name), false)
	if got := s.address(t, name); got != "http://static.example:1" {
		t.Errorf("while it is stuck: %q", got)
	}
	if len(asked) != 0 {
		t.Error("a stuck question was asked once more beside itself")
	}
	s.comes(t, gate, FromDetection)
	if p, err := s.choose(t.Context(), mustURL(t, name)); err != nil || p.Address != "http://detected.example:8080" || p.Source != FromDetection || p.Failed != nil {
		t.Errorf("the late answer does not count from the next call on: %+v, %v", p, err)
	}
}

// comes lets the answer of a stuck question come.
func (s *system) comes(t *testing.T, gate chan struct{}, source ProxySource) {
	t.Helper()
	s.chooser.mu.Lock()
	stuck := s.asking[askKey{source, name}]
	s.chooser.mu.Unlock()
	if stuck == nil {
		t.Fatal("there is no such question")
	}
	close(gate)
	<-stuck.done
}

// gated is a slow source that answers when its gate is closed.
func gated(source ProxySource, said answer, err error) (question, chan struct{}) {
	gate := make(chan struct{})
	return question{source, true, func(*url.URL) (answer, error) { <-gate; return said, err }}, gate
}

func proxies(addresses ...string) answer {
	a := answer{found: true}
	for _, host := range addresses {
		a.choices = append(a.choices, &url.URL{Scheme: "http", Host: host})
	}
	return a
}

func TestALateAnswerCountsThoughTheHostCouldNotBeReachedMeanwhile(t *testing.T) {
	slow, gate := gated(FromDetection, proxies("detected.example:8080"), nil)
	s := newSystem(t, slow)
	close(s.late) // and every look-up after it is late too
	if got := s.address(t, name); got != "" {
		t.Fatalf("got %q", got)
	}
	s.unreachable(mustURL(t, name), false)
	s.comes(t, gate, FromDetection)
	if got := s.address(t, name); got != "http://detected.example:8080" {
		t.Errorf("got %q", got)
	}
}

func TestOfTwoLateAnswersTheStrongerDecidesWhicheverComesFirst(t *testing.T) {
	for _, weakFirst := range []bool{true, false} {
		detection, detected := gated(FromDetection, proxies("detected.example:1"), nil)
		script, evaluated := gated(FromScript, proxies("script.example:1"), nil)
		s := newSystem(t, detection, script)
		close(s.late)
		s.address(t, name)
		if weakFirst {
			s.comes(t, evaluated, FromScript)
			if p, _ := s.choose(t.Context(), mustURL(t, name)); p.Address != "http://script.example:1" || len(p.Failed) != 1 || p.Failed[0].Source != FromDetection {
				t.Errorf("the weaker alone: %+v", p)
			}
			s.comes(t, detected, FromDetection)
		} else {
			s.comes(t, detected, FromDetection)
			s.comes(t, evaluated, FromScript)
		}
		if p, _ := s.choose(t.Context(), mustURL(t, name)); p.Address != "http://detected.example:1" || p.Failed != nil {
			t.Errorf("weaker first %v: %+v", weakFirst, p)
		}
	}
}

func TestALateAnswerThatNamesNothingLeavesTheWeakerOneInForceAndAFailureIsToldAsSuch(t *testing.T) {
	for _, err := range []error{nil, errors.New("gone")} {
		slow, gate := gated(FromDetection, answer{}, err)
		s := newSystem(t, slow, says(FromSettings, "http://static.example:1"))
		close(s.late)
		s.address(t, name)
		s.comes(t, gate, FromDetection)
		p, _ := s.choose(t.Context(), mustURL(t, name))
		if p.Address != "http://static.example:1" || (err == nil) != (p.Failed == nil) || err != nil && p.Failed[0].Late {
			t.Errorf("%v: %+v", err, p)
		}
	}
}

func TestALookUpThatIsLateLaterLeavesWhatItSaidBeforeInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSystem(t, says(FromDetection, "http://first.example:1"), says(FromSettings, "http://static.example:1"))
		s.address(t, name)
		slow, gate := gated(FromDetection, proxies("second.example:1"), nil)
		s.says(slow, says(FromSettings, "http://static.example:1"))
		close(s.late)
		s.pass(proxyFresh)
		s.address(t, name) // begins the look-up
		synctest.Wait()
		if got := s.address(t, name); got != "http://first.example:1" {
			t.Errorf("while it is late: %q", got)
		}
		s.comes(t, gate, FromDetection)
		if got := s.address(t, name); got != "http://second.example:1" {
			t.Errorf("when it has come: %q", got)
		}
	})
}

func TestWhatWasAskedInOneNetworkSaysNothingInTheNext(t *testing.T) {
	slow, gate := gated(FromDetection, proxies("old.example:1"), nil)
	s := newSystem(t, slow)
	close(s.late)
	s.address(t, name)
	s.chooser.mu.Lock()
	old := s.asking[askKey{FromDetection, name}]
	s.chooser.mu.Unlock()
	s.changes.Store(true)
	s.says(says(FromDetection, "http://new.example:1"))
	if got := s.address(t, name); got != "http://new.example:1" {
		t.Errorf("got %q", got)
	}
	close(gate)
	<-old.done
	if got := s.address(t, name); got != "http://new.example:1" {
		t.Errorf("got %q, which is of the network before", got)
	}
}

func TestALookUpThatEndsInAnotherNetworkThanItBeganInIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, gate := gated(FromDetection, proxies("old.example:1"), nil)
		s := newSystem(t, slow)
		go func() { _, _ = s.choose(t.Context(), mustURL(t, name)) }()
		synctest.Wait()
		s.changes.Store(true)
		s.says(says(FromDetection, "http://new.example:1"))
		s.address(t, "https://other.example") // hears of the change
		close(gate)
		synctest.Wait()
		if got := s.address(t, name); got != "http://new.example:1" {
			t.Errorf("got %q, which is of the network before", got)
		}
	})
}

func TestALookUpEndsWithItsCall(t *testing.T) {
	gate := make(chan struct{})
	defer close(gate)
	s := newSystem(t, question{FromScript, true, func(*url.URL) (answer, error) { <-gate; return answer{}, nil }})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.choose(ctx, mustURL(t, name)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAnAnswerIsKeptForEachHostUntilItIsOldOrTheNetworkChanges(t *testing.T) {
	synctest.Test(t, keptUntilOld)
}

func keptUntilOld(t *testing.T) {
	var asked atomic.Int32
	var seen sync.Map
	s := newSystem(t, question{FromScript, true, func(u *url.URL) (answer, error) {
		asked.Add(1)
		seen.Store(u.String(), true)
		return answer{found: true, choices: []*url.URL{{Scheme: "http", Host: fmt.Sprintf("proxy%d.example:1", asked.Load())}}}, nil
	}})
	first := s.address(t, "https://a.example/patient/canary?x=canary")
	if again := s.address(t, "https://A.example/other"); again != first || asked.Load() != 1 {
		t.Errorf("%q then %q, asked %d times", first, again, asked.Load())
	}
	if s.address(t, "https://b.example") == first {
		t.Error("another host has its own answer")
	}
	seen.Range(func(k, _ any) bool {
		if strings.Contains(k.(string), "canary") {
			t.Errorf("the source was shown %v", k)
		}
		return true
	})
	s.changes.Store(true)
	if s.address(t, "https://a.example") != "http://proxy3.example:1" {
		t.Error("after a change of network it is looked up anew")
	}
	s.pass(proxyFresh)
	if got := s.address(t, "https://a.example"); got != "http://proxy3.example:1" {
		t.Errorf("an old answer does for the call that finds it old, got %q", got)
	}
	synctest.Wait()
	if got := s.address(t, "https://a.example"); got != "http://proxy4.example:1" {
		t.Errorf("it was not looked up anew: %q", got)
	}
}

// watched is a stand-in for a watch over the network, which begins when it is first
// asked, as that of Windows does.
type watched struct{ begun, ended, signalled bool }

func (w *watched) changed() bool {
	if !w.begun {
		w.begun, w.signalled = true, false
	}
	was := w.signalled
	w.signalled = false
	return was
}

func (w *watched) unwatch() { *w = watched{ended: true} }

func TestAChangeOfNetworkIsHeardOfAfterAnExchangeThatFailed(t *testing.T) {
	var w watched
	s := newSystem(t, says(FromScript, "http://old.example:1"))
	s.chooser.changed, s.chooser.unwatch = w.changed, w.unwatch
	c := client(t, policy.Snapshot{})
	rt := c.Transport.(*roundTripper)
	rt.proxies, rt.base.Proxy = s.chooser, s.forRequest
	if got := s.address(t, "https://issuer.example"); got != "http://old.example:1" {
		t.Fatalf("got %q", got)
	}
	w.signalled = true
	s.says(says(FromScript, "http://new.example:1"))
	c.CloseIdleConnections() // as orgclient does after every exchange that failed
	if got := s.address(t, "https://issuer.example"); got != "http://new.example:1" {
		t.Errorf("got %q: the change was lost", got)
	}
}

func TestAClientThatWasReplacedGivesItsWatchBackAndBeginsNoOther(t *testing.T) {
	var w watched
	s := newSystem(t, says(FromScript, "http://proxy.example:1"))
	s.chooser.changed, s.chooser.unwatch = w.changed, w.unwatch
	c := client(t, policy.Snapshot{})
	rt := c.Transport.(*roundTripper)
	rt.proxies, rt.base.Proxy = s.chooser, s.forRequest
	s.address(t, "https://a.example")
	Retire(c)
	if !w.ended {
		t.Error("it still watches")
	}
	if got := s.address(t, "https://b.example"); got != "http://proxy.example:1" || w.begun {
		t.Errorf("a call that was under way: %q, watches again: %v", got, w.begun)
	}
	Retire(c)
	Retire(&http.Client{}) // one of another kind
}

func TestAProxyThatCannotBeReachedComesLastForAWhile(t *testing.T) {
	s := newSystem(t, says(FromScript, "http://a.example:1", "http://b.example:1", ""))
	u := mustURL(t, name)
	p, err := s.choose(t.Context(), u)
	if err != nil || p.Address != "http://a.example:1" || !slices.Equal(p.Others, []string{"http://b.example:1", ""}) {
		t.Fatalf("got %+v, %v", p, err)
	}
	s.unreachable(u, false) // the host itself did not answer
	if got := s.address(t, name); got != "http://a.example:1" {
		t.Errorf("got %q", got)
	}
	s.unreachable(u, true)
	if got := s.address(t, name); got != "http://b.example:1" {
		t.Errorf("got %q", got)
	}
	s.unreachable(u, true)
	if got := s.address(t, name); got != "" {
		t.Errorf("got %q, want a direct connection", got)
	}
	s.pass(proxyShunned)
	s.changes.Store(true)
	if got := s.address(t, name); got != "http://a.example:1" {
		t.Errorf("got %q", got)
	}
}

func TestTheNextAttemptTakesTheNextProxyOfAScript(t *testing.T) {
	backend := server(t, greeting)
	good, _ := connectProxy(t, backend.Listener.Addr().String(), "")
	s := newSystem(t, says(FromScript, "http://127.0.0.1:1", good.URL))
	c := client(t, policy.Snapshot{ExtraCAFile: caFile(t, backend)})
	rt := c.Transport.(*roundTripper)
	rt.proxies, rt.base.Proxy = s.chooser, s.forRequest
	_, err := get(t, c, name)
	wantCode(t, err, problem.OrgUnreachable)
	if got, err := get(t, c, name); err != nil || got != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestTheProxyToTheBackendIsLookedUpBeforeAnybodyClicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client(t, policy.Snapshot{BackendURL: "https://backend.hospital.example/api"})
		proxies := c.Transport.(*roundTripper).proxies
		synctest.Wait()
		proxies.mu.Lock()
		defer proxies.mu.Unlock()
		if proxies.known["https://backend.hospital.example"] == nil {
			t.Error("it was not looked up")
		}
	})
}

func TestLookupProxySaysWhereAProxyComesFrom(t *testing.T) {
	for _, c := range []struct {
		rules policy.Snapshot
		host  string
		want  Proxy
	}{
		{policy.Snapshot{ProxyMode: "direct"}, "backend.hospital.example", Proxy{Source: FromPolicy}},
		{policy.Snapshot{ProxyMode: "manual", ProxyURL: "http://proxy.hospital.example:3128"}, "backend.hospital.example:8443", Proxy{Address: "http://proxy.hospital.example:3128", Source: FromPolicy}},
		{policy.Snapshot{ProxyMode: "manual", ProxyURL: "http://proxy.hospital.example:3128"}, "localhost:1", Proxy{Source: ThisComputer}},
	} {
		got, err := LookupProxy(t.Context(), c.rules, c.host)
		if err != nil || got.Address != c.want.Address || got.Source != c.want.Source || got.Failed != nil {
			t.Errorf("%s: %+v, %v", c.host, got, err)
		}
	}
	for _, host := range []string{"", "a/b", "user@host", "a b", "https://x"} {
		if _, err := LookupProxy(t.Context(), policy.Snapshot{}, host); !problem.IsCode(err, problem.RequestInvalid) {
			t.Errorf("%q: %v", host, err)
		}
	}
	if _, err := LookupProxy(t.Context(), policy.Snapshot{ProxyMode: "manual"}, "host"); !problem.IsCode(err, problem.PolicyInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestALookUpThatFailedIsNamedWhenTheHostCannotBeReached(t *testing.T) {
	s := newSystem(t, question{FromScript, true, func(*url.URL) (answer, error) { return answer{}, errors.New("canary") }}, says(FromSettings, "http://127.0.0.1:1"))
	c := client(t, policy.Snapshot{})
	rt := c.Transport.(*roundTripper)
	rt.proxies, rt.base.Proxy = s.chooser, s.forRequest
	_, err := get(t, c, name)
	wantCode(t, err, problem.OrgUnreachable)
	wantNoAddress(t, err)
	if fact := problem.Of(err).Fact; fact != "The proxy setting of this computer cannot be read." {
		t.Errorf("fact %q", fact)
	}
}

func TestWindowsListOfProxiesIsRead(t *testing.T) {
	for _, c := range []struct{ list, scheme, want string }{
		{"proxy.example:8080", "https", "http://proxy.example:8080"},
		{"a.example:1;b.example:2 c.example", "https", "http://a.example:1 http://b.example:2 http://c.example"},
		{"http=a.example:1;https=b.example:2", "https", "http://b.example:2"},
		{"http=a.example:1;other.example:3;https=b.example:2", "http", "http://a.example:1"},
		{"http=a.example:1", "https", ""},
		{"https=https://secure.example:443", "https", "https://secure.example:443"},
		{"a.example:1;DIRECT", "https", "http://a.example:1 -"},
		{"", "https", ""},
	} {
		got, err := parseProxies(c.list, c.scheme)
		var all []string
		for _, u := range got {
			if u == nil {
				all = append(all, "-")
				continue
			}
			all = append(all, u.String())
		}
		if err != nil || strings.Join(all, " ") != c.want {
			t.Errorf("%q for %s: %q, %v", c.list, c.scheme, all, err)
		}
	}
	for _, list := range []string{"socks=a.example:1", "http://user:canary@a.example:1", "ftp://a.example", "http://a.example/canary", "a b:c:d"} {
		if got, err := parseProxies(list, "https"); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v, %v", list, got, err)
		}
	}
}

func TestWindowsListOfExceptionsIsRead(t *testing.T) {
	for _, c := range []struct {
		list, target string
		want         bool
	}{
		{"<local>", "https://intranet", true},
		{"<local>", "https://a.example", false},
		{"*.hospital.example;10.*", "https://Backend.Hospital.example/x", true},
		{"*.hospital.example;10.*", "https://hospital.example", false},
		{"*.hospital.example 10.*", "https://10.1.2.3:8443", true},
		{"hospital.example", "https://hospital.example:8443", true},
		{"hospital.example:443", "https://hospital.example", true},
		{"hospital.example:8443", "https://hospital.example", false},
		{"http://hospital.example", "https://hospital.example", false},
		{"https://hospital.example", "https://hospital.example", true},
		{"back*.hospital.*", "https://backend.hospital.example", true},
		{"a*b*b", "https://ab", false},
		{"*", "https://anything", true},
		{"[fe80::1]", "https://[fe80::1]", true},
		{"", "https://anything", false},
	} {
		if got := bypassed(c.list, mustURL(t, c.target)); got != c.want {
			t.Errorf("%q for %s: %v", c.list, c.target, got)
		}
	}
}
