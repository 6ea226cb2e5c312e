//go:build cluster

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
	clinicians = 8
	// progress is how many launches must be opened while something is dead, and after.
	progress = 20
	// clusterTime bounds what a cluster may take to elect, on a slow machine.
	clusterTime = 90 * time.Second
	// again is the pause of a launcher, or an EHR, that tries once more.
	again = 20 * time.Millisecond
	// redeliver is short, so that a note of a backend that died need not be waited for.
	redeliver = 3 * time.Second
	// everywhere is how many launches are tried at every backend; the others at one.
	everywhere = 50
)

// backends are several on one NATS cluster, behind a load balancer.
type backends struct {
	*callbackWorld
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
	b := &backends{callbackWorld: newCallbackWorld(t), cluster: natstest.Start(t, clusterSize)}
	b.config = b.world.config
	b.config.NATS = b.cluster.Config
	b.config.Deliver.Folder = "" // it is for one backend
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
	s, err := New(t.Context(), b.config, Deps{Now: b.clock.now, redeliver: redeliver})
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
		r.server.conn.NATS().Close()
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

// opening is one launch: its encounter, the handle by which it was opened, and the
// callback when its note was exported.
type opening struct {
	encounter, handle, token string
	export                   []byte
	exportID                 string
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
				o.exportID, o.export = exportOf(o.encounter)
				err := l.open(&o, provider, email)
				if err == nil {
					err = l.callBack(o)
				}
				if err != nil {
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

// callBack is Nabla, which calls again until it is answered. That a callback was
// taken before is no answer to the first call, but it is one to a later call, when the
// answer to the first was lost.
func (l *load) callBack(o opening) error {
	last := ""
	for lost := false; ; lost = true {
		status, code, err := l.export(l.balancer, o)
		switch {
		case err == nil && (status == http.StatusOK || lost && status == http.StatusConflict):
			return nil
		case err == nil && status != http.StatusBadGateway && status != http.StatusServiceUnavailable:
			return fmt.Errorf("callback: %d", status)
		}
		select {
		case <-l.ctx.Done():
			return fmt.Errorf("there is no end to callback %s: %w", last, l.ctx.Err())
		case <-time.After(again):
			last = fmt.Sprint(status, " ", code, " ", err)
		}
	}
}

func (l *load) export(base string, o opening) (int, problem.Code, error) {
	return post(l.ctx, base+pathCallbacks, l.signed(o.export, nablaSecret).header, o.export, &callbackAnswer{})
}

// until200 calls until the answer is 200, or one that is final.
func (l *load) until200(base, path, bearer, key string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	last := ""
	for {
		status, code, err := post(l.ctx, base+path, http.Header{"Authorization": {"Bearer " + bearer}, orgapi.HeaderIdempotencyKey: {key}}, text, into)
		switch {
		case err == nil && status == http.StatusOK:
			return nil
		case err == nil && status != http.StatusBadGateway && status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests:
			return fmt.Errorf("%d %s", status, code)
		}
		select {
		case <-l.ctx.Done():
			return fmt.Errorf("there is no end to %s: %w", last, l.ctx.Err())
		case <-time.After(again):
			last = fmt.Sprint(status, " ", code, " ", err)
		}
	}
}

func post(ctx context.Context, address string, header http.Header, body []byte, into any) (int, problem.Code, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second) // a launcher's
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header = header.Clone()
	if r.Header.Get(orgapi.HeaderIdempotencyKey) == "" {
		r.Header.Del(orgapi.HeaderIdempotencyKey)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
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

// Three backends and three servers of NATS; each dies once while clinicians work, of
// the servers the leader of the handles first.
func TestWhateverDiesEveryLaunchGetsItsOneEncounterEveryHandleIsSpentOnceAndEveryNoteArrives(t *testing.T) {
	b := newBackends(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*clusterTime)
	defer cancel()
	begun := time.Now()
	phase := func(what string, n int) { t.Logf("%5.1f s: %s %d", time.Since(begun).Seconds(), what, n) }
	js := b.cluster.Client(t)
	l := b.load(ctx, t)
	defer l.wait.Wait()
	defer cancel()
	l.goesOn(t)
	for n := range clusterSize {
		b.kill(n)
		l.goesOn(t)
		phase("they went on without backend", n)
		b.restart(t, n)
		l.goesOn(t)
	}
	b.cluster.Healed(t, js)
	first := b.cluster.Leader(t, js, "handles")
	for i := range clusterSize {
		n := (first + i) % clusterSize
		b.cluster.Kill(n)
		l.goesOn(t)
		phase("they went on without NATS server", n)
		b.cluster.Restart(t, n)
		b.cluster.Healed(t, js)
		phase("complete again is NATS server", n)
		l.goesOn(t)
	}
	close(l.stop)
	l.wait.Wait()

	phase("the end after launches", len(l.done))
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
	l.takenEverywhere(t)
	phase("each is taken at every backend of", clusterSize)
	b.cluster.Until(t, "every note has arrived", func() bool {
		for _, o := range l.done {
			if b.ehr.has(o.exportID) == nil {
				return false
			}
		}
		return true
	})
	for _, o := range l.done {
		if !bytes.Equal(b.ehr.has(o.exportID), o.export) {
			t.Errorf("the note of launch %s arrived as another one", o.encounter)
		}
	}
}

// takenEverywhere tries every handle with another key, and every callback again: some
// at every backend, the others at each in turn.
func (l *load) takenEverywhere(t *testing.T) {
	t.Helper()
	todo := make(chan int)
	var group sync.WaitGroup
	for range clinicians {
		group.Go(func() {
			for n := range todo {
				o := l.done[n]
				for i, at := range l.at {
					if n >= everywhere && n%clusterSize != i {
						continue
					}
					base := "http://" + at + "/launcher"
					err := l.until200(base, orgapi.PathEncounters, o.token, fmt.Sprint("another-", i, "-", o.encounter), orgapi.CreateRequest{Handle: o.handle}, nil)
					if want := fmt.Sprintf("%d %s", http.StatusGone, problem.HandleSpent); err == nil || err.Error() != want {
						t.Errorf("launch %s by another key at backend %d: %v", o.encounter, i, err)
					}
					if status, _, err := l.export(base, o); err != nil || status != http.StatusConflict {
						t.Errorf("the callback of launch %s again at backend %d: %d, %v", o.encounter, i, status, err)
					}
				}
			}
		})
	}
	for n := range l.done {
		todo <- n
	}
	close(todo)
	group.Wait()
}
