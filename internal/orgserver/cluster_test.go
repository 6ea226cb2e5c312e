package orgserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgstore/natstest"
	"encounterlauncher/internal/problem"
)

const (
	clusterSize = 3
	// clinicians is how many work at once.
	clinicians = 12
	// progress is how many launches must be opened while something is dead, and after.
	progress = 40
	// clusterTime bounds what a cluster may take to elect, on a slow machine.
	clusterTime = 90 * time.Second
	// again is the pause of a launcher, or an EHR, that tries once more.
	again = 20 * time.Millisecond
)

// backends are several on one NATS cluster, behind a load balancer.
type backends struct {
	*world
	cluster  *natstest.Cluster
	balancer string
	config   orgconfig.Config
	at       [clusterSize]string
	mu       sync.Mutex
	running  [clusterSize]*runningBackend // guarded by mu
	next     atomic.Int64
}

type runningBackend struct {
	server *Server
	http   *http.Server
}

func newBackends(t *testing.T) *backends {
	t.Helper()
	b := &backends{world: newWorld(t), cluster: natstest.Start(t, clusterSize)}
	b.config = b.world.config
	b.config.NATS = b.cluster.Config
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			// It knows nothing of who is alive: what it sends to the dead fails.
			r.SetURL(&url.URL{Scheme: "http", Host: b.at[b.next.Add(1)%clusterSize]})
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	})
	t.Cleanup(proxy.Close)
	b.balancer = proxy.URL + "/launcher"
	var listeners [clusterSize]net.Listener
	for i := range listeners {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[i], b.at[i] = l, l.Addr().String()
	}
	t.Cleanup(func() {
		for i := range clusterSize {
			b.kill(i)
		}
	})
	// All at once, as after a rollout: they make the streams in a race.
	var group sync.WaitGroup
	for i, l := range listeners {
		group.Go(func() { b.start(t, i, l) })
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return b
}

func (b *backends) start(t *testing.T, i int, l net.Listener) {
	t.Helper()
	s, err := New(t.Context(), b.config, Deps{Now: b.clock.now})
	if err != nil {
		_ = l.Close()
		t.Error(err)
		return
	}
	r := &runningBackend{server: s, http: &http.Server{Handler: s, ReadHeaderTimeout: clusterTime}}
	b.mu.Lock()
	b.running[i] = r
	b.mu.Unlock()
	go func() { _ = r.http.Serve(l) }()
}

// kill cuts off every call that a backend is at, and its connection to NATS.
func (b *backends) kill(i int) {
	b.mu.Lock()
	r := b.running[i]
	b.running[i] = nil
	b.mu.Unlock()
	if r != nil {
		_ = r.http.Close()
		_ = r.server.Close()
	}
}

func (b *backends) restart(t *testing.T, i int) {
	t.Helper()
	l, err := net.Listen("tcp", b.at[i])
	if err != nil {
		t.Fatal(err)
	}
	if b.start(t, i, l); t.Failed() {
		t.FailNow()
	}
}

// opening is one launch: its encounter, and the handle by which it was opened.
type opening struct {
	encounter, handle, token string
}

// load are clinicians who press the button again and again, each one by one.
type load struct {
	*backends
	ctx  context.Context
	stop chan struct{}
	wait sync.WaitGroup

	mu   sync.Mutex
	done []opening // guarded by mu
}

func (b *backends) load(ctx context.Context, t *testing.T) *load {
	t.Helper()
	l := &load{backends: b, ctx: ctx, stop: make(chan struct{})}
	for n := range clinicians {
		provider, email := fmt.Sprint("D-", n), fmt.Sprintf("d%d@hospital.example", n)
		token := b.token(t, map[string]any{"sub": fmt.Sprint("subject-", n), "external_provider_id": provider, "email": email})
		l.wait.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-l.stop:
					return
				default:
				}
				o := opening{encounter: fmt.Sprintf("E-%d-%d", n, i), token: token}
				if err := l.open(&o, provider, email); err != nil {
					t.Errorf("launch %s: %v", o.encounter, err)
					return
				}
				l.mu.Lock()
				l.done = append(l.done, o)
				l.mu.Unlock()
			}
		})
	}
	return l
}

func (l *load) opened() int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.done) }

// goesOn waits until so many more launches were opened.
func (l *load) goesOn(t *testing.T) {
	t.Helper()
	want := l.opened() + progress
	l.cluster.Until(t, "launches are opened", func() bool { return t.Failed() || l.opened() >= want })
	if t.Failed() {
		t.FailNow()
	}
}

// open is one press of the button: the EHR registers, the launcher opens, and both
// try again what may be tried again, wherever the balancer sends them.
func (l *load) open(o *opening, provider, email string) error {
	launch := goodLaunch()
	launch.ExternalEncounterID, launch.ExternalProviderID, launch.ProviderEmail = o.encounter, provider, email
	var minted orgapi.LaunchAnswer
	if err := l.until200(l.balancer, orgapi.PathLaunches, ehrSecret, "", launch, &minted); err != nil {
		return fmt.Errorf("launches: %w", err)
	}
	o.handle = minted.Handle
	var created orgapi.CreateAnswer
	if err := l.until200(l.balancer, orgapi.PathEncounters, o.token, "key-of-"+o.encounter, orgapi.CreateRequest{Handle: o.handle}, &created); err != nil {
		return fmt.Errorf("encounters: %w", err)
	}
	if created.Encounter.ExternalEncounterID != o.encounter {
		return fmt.Errorf("another encounter was opened: %s", created.Encounter.ExternalEncounterID)
	}
	return nil
}

// until200 calls until the answer is 200, or one that is final.
func (l *load) until200(base, path, bearer, key string, body, into any) error {
	for {
		status, code, err := post(l.ctx, base+path, bearer, key, body, into)
		switch {
		case err == nil && status == http.StatusOK:
			return nil
		case err == nil && status != http.StatusBadGateway && status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests:
			return fmt.Errorf("%d %s", status, code)
		}
		select {
		case <-l.ctx.Done():
			return fmt.Errorf("there is no end to %d %s (%w): %w", status, code, err, l.ctx.Err())
		case <-time.After(again):
		}
	}
}

func post(ctx context.Context, address, bearer, key string, body, into any) (int, problem.Code, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second) // a launcher's
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(text))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+bearer)
	if key != "" {
		r.Header.Set(orgapi.HeaderIdempotencyKey, key)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err = io.ReadAll(answer.Body)
	if err != nil {
		return 0, "", err
	}
	if answer.StatusCode == http.StatusOK {
		return http.StatusOK, "", json.Unmarshal(text, into)
	}
	var p orgapi.Problem
	if answer.Header.Get("Content-Type") == orgapi.ProblemContentType {
		err = json.Unmarshal(text, &p)
	}
	return answer.StatusCode, p.Code, err
}

// Three servers of NATS and three backends; each dies once while clinicians work, the
// leader of the handles first.
func TestWhateverDiesEveryLaunchGetsItsOneEncounterAndEveryHandleIsSpentOnce(t *testing.T) {
	b := newBackends(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*clusterTime)
	defer cancel()
	js := b.cluster.Client(t)
	l := b.load(ctx, t)
	defer l.wait.Wait()
	defer cancel()
	l.goesOn(t)
	b.cluster.Healed(t, js)
	first := b.cluster.Leader(t, js, "handles")
	for i := range clusterSize {
		n := (first + i) % clusterSize
		b.cluster.Kill(n)
		l.goesOn(t)
		b.cluster.Restart(t, n)
		b.cluster.Healed(t, js)
		l.goesOn(t)
	}
	for n := range clusterSize {
		b.kill(n)
		l.goesOn(t)
		b.restart(t, n)
		l.goesOn(t)
	}
	close(l.stop)
	l.wait.Wait()

	t.Logf("%d launches", len(l.done))
	encounters := map[string]int{}
	for _, e := range b.sim.Encounters() {
		encounters[e.ExternalEncounterID]++
	}
	if len(encounters) != len(l.done) {
		t.Errorf("%d launches, %d encounters", len(l.done), len(encounters))
	}
	for _, o := range l.done {
		if encounters[o.encounter] != 1 {
			t.Errorf("launch %s has %d encounters", o.encounter, encounters[o.encounter])
		}
	}
	l.spentEverywhere(t)
}

// spentEverywhere tries every handle with another key at every backend.
func (l *load) spentEverywhere(t *testing.T) {
	t.Helper()
	todo := make(chan opening)
	var group sync.WaitGroup
	for range clinicians {
		group.Go(func() {
			for o := range todo {
				for i, at := range l.at {
					err := l.until200("http://"+at+"/launcher", orgapi.PathEncounters, o.token, fmt.Sprint("another-", i, "-", o.encounter), orgapi.CreateRequest{Handle: o.handle}, nil)
					if want := fmt.Sprintf("%d %s", http.StatusGone, problem.HandleSpent); err == nil || err.Error() != want {
						t.Errorf("launch %s by another key at backend %d: %v", o.encounter, i, err)
					}
				}
			}
		})
	}
	for _, o := range l.done {
		todo <- o
	}
	close(todo)
	group.Wait()
}
