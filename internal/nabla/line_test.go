package nabla

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"encounterlauncher/internal/assertion"
	"encounterlauncher/internal/problem"
)

// pipes are a network of pipes inside one bubble of synctest, so that what the
// circuit breaker does by the machine's clock can be tried without waiting.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// inBubble runs a test against the vendor with a clock that jumps.
func inBubble(t *testing.T, run func(t *testing.T, f *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		f := &fixture{vendor: &vendor{answers: []func(http.ResponseWriter){goodURL}}}
		f.token = func(w http.ResponseWriter, _ int) { body(w, http.StatusOK, `{"access_token":"a","expires_in":86400}`) }
		server := &http.Server{Handler: f.vendor}
		go func() { _ = server.Serve(p) }()
		transport := newTransport()
		transport.DialContext = p.dial
		var err error
		f.client, err = New(Config{
			BaseURL: "http://127.0.0.1:1/v1/connect/server", ClientID: testClient, Keys: []assertion.Key{{ID: "k1", Signer: ecKey(t)}},
			HTTP: &http.Client{Transport: transport},
		})
		if err != nil {
			t.Fatal(err)
		}
		run(t, f)
		transport.CloseIdleConnections()
		_ = server.Close()
	})
}

func (v *vendor) answer(with ...func(http.ResponseWriter)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.answers = with
}

func (v *vendor) count() int { v.mu.Lock(); defer v.mu.Unlock(); return len(v.calls) }

// refresh is one call and its error.
func (f *fixture) refresh(ctx context.Context) error {
	_, err := f.client.Refresh(ctx, "D-17", "E-1")
	return err
}

func TestAVendorWhoFailsAgainAndAgainIsLeftAloneAndThenTriedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.answer(status(503))
		for f.count() < failuresInARow {
			if err := f.refresh(t.Context()); !problem.IsCode(err, problem.VendorUnavailable) {
				t.Fatal(err)
			}
		}
		sent, began := f.count(), time.Now()
		err := f.refresh(t.Context())
		if !problem.IsCode(err, problem.VendorUnavailable) || !strings.Contains(err.Error(), "tried again in a few seconds") || RetryAfter(err) != leftAlone {
			t.Errorf("%v", err)
		}
		if f.count() != sent || time.Since(began) != 0 {
			t.Errorf("it was called, or the caller waited %v", time.Since(began))
		}

		// A trial that fails leaves it alone for as long again.
		time.Sleep(leftAlone + time.Millisecond)
		if err := f.refresh(t.Context()); err == nil || f.count() != sent+1 {
			t.Errorf("%v, %d calls", err, f.count()-sent)
		}
		time.Sleep(leftAlone - time.Second)
		if err := f.refresh(t.Context()); err == nil || f.count() != sent+1 {
			t.Errorf("%v, %d calls", err, f.count()-sent)
		}

		// While one trial is under way nobody else calls; when it works everybody may.
		time.Sleep(2 * time.Second)
		release := make(chan struct{})
		f.answer(func(w http.ResponseWriter) { <-release; goodURL(w) }, goodURL)
		trial := make(chan error, 1)
		go func() { trial <- f.refresh(t.Context()) }()
		synctest.Wait()
		if err := f.refresh(t.Context()); !strings.Contains(err.Error(), "tried again in a few seconds") {
			t.Errorf("%v", err)
		}
		close(release)
		if err := <-trial; err != nil {
			t.Error(err)
		}
		if err := f.refresh(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestNeitherRefusalsNorCallersWhoGoAwayCountAsFailures(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		for _, n := range []int{400, 404, 429, 403, 501} {
			f.answer(status(n))
			for range failuresInARow {
				_ = f.refresh(t.Context())
			}
		}
		for range failuresInARow {
			ctx, cancel := context.WithCancel(t.Context())
			f.answer(func(w http.ResponseWriter) { cancel(); time.Sleep(time.Minute) })
			if err := f.refresh(ctx); !problem.IsCode(err, problem.Cancelled) {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
		}
		f.answer(goodURL)
		if err := f.refresh(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestTimeOutsAndResetsCountAsFailures(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){
		"a time-out": func(http.ResponseWriter) { time.Sleep(attemptTime + time.Second) },
		"a reset":    func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"half an answer": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fixture) {
				f.answer(answer)
				began := time.Now()
				err := f.refresh(t.Context())
				if !problem.IsCode(err, problem.VendorUnavailable) || time.Since(began) > callTime {
					t.Fatalf("%v after %v", err, time.Since(began))
				}
				var group sync.WaitGroup
				for range failuresInARow {
					group.Go(func() { _ = f.refresh(t.Context()) })
				}
				group.Wait()
				if err := f.refresh(t.Context()); !strings.Contains(err.Error(), "tried again in a few seconds") {
					t.Errorf("%v", err)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

func TestACallerHearsHowLongTheVendorAsksToWait(t *testing.T) {
	f := newFixture(t, func(w http.ResponseWriter) { w.Header().Set("Retry-After", "60"); status(429)(w) })
	if err := f.refresh(t.Context()); RetryAfter(err) != time.Minute || !problem.IsCode(err, problem.VendorUnavailable) {
		t.Errorf("%v", err)
	}
	f = newFixture(t, func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", callbackTime.Add(90*time.Second).Format(http.TimeFormat))
		status(503)(w)
	})
	if err := f.refresh(t.Context()); RetryAfter(err) != 90*time.Second {
		t.Errorf("%v", RetryAfter(err))
	}
	for value, want := range map[string]time.Duration{"99999999999999999999": 0, "4294967295": time.Hour, "-5": 0, "soon": 0, "0": 0} {
		if got := f.client.retryAfter(vendorAnswer{retryAfter: value}); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
	if RetryAfter(errors.New("another")) != 0 || RetryAfter(nil) != 0 {
		t.Error("an error that asks for nothing asks for a wait")
	}
}

// counted is a server that counts the connections that it accepts and the
// versions of HTTP that it is spoken to in.
func counted(t *testing.T, v *vendor, start func(*httptest.Server)) (url string, accepted *atomic.Int32, client *http.Client) {
	t.Helper()
	accepted = &atomic.Int32{}
	server := httptest.NewUnstartedServer(v)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			accepted.Add(1)
		}
	}
	start(server)
	t.Cleanup(server.Close)
	transport := newTransport()
	if client := server.Client().Transport.(*http.Transport); client.TLSClientConfig != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: client.TLSClientConfig.RootCAs}
	}
	t.Cleanup(transport.CloseIdleConnections)
	return server.URL, accepted, &http.Client{Transport: transport}
}

func newCounted(t *testing.T, url string, h *http.Client) *Client {
	t.Helper()
	c, err := New(Config{
		BaseURL: url + "/v1/connect/server", ClientID: testClient, Keys: []assertion.Key{{Signer: ecKey(t)}}, HTTP: h,
		Sleep: func(context.Context, time.Duration) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	v := &vendor{answers: []func(http.ResponseWriter){goodURL}}
	url, accepted, h := counted(t, v, (*httptest.Server).Start)
	c := newCounted(t, url, h)
	long := strings.Repeat("x", 20<<10)
	for _, answer := range []func(http.ResponseWriter){
		goodURL, status(409), status(404), status(429),
		func(w http.ResponseWriter) { body(w, 400, `{"reason":"`+long+`"}`) },
		func(w http.ResponseWriter) { w.(http.Flusher).Flush(); _, _ = io.WriteString(w, long) },
	} {
		v.answer(answer)
		for range 20 {
			_, _ = c.Create(t.Context(), payload())
		}
	}
	if n := accepted.Load(); n != 1 {
		t.Errorf("%d connections for calls one after another", n)
	}
	const callers = 64
	v.answer(goodURL)
	for range 4 {
		var group sync.WaitGroup
		for range callers {
			group.Go(func() {
				for range 4 {
					if _, err := c.Create(t.Context(), payload()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
	}
	// Some more than callers are dialled while others come free.
	if n := accepted.Load(); n > 2*callers {
		t.Errorf("%d connections for %d callers at once", n, callers)
	}
}

func TestOneHTTP2ConnectionServesAllCallersWhereTLSOffersIt(t *testing.T) {
	v := &vendor{answers: []func(http.ResponseWriter){goodURL}}
	url, accepted, h := counted(t, v, func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() })
	c := newCounted(t, url, h)
	if _, err := c.Create(t.Context(), payload()); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			if _, err := c.Create(t.Context(), payload()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, r := range v.calls {
		if r.ProtoMajor != 2 {
			t.Fatalf("%s", r.Proto)
		}
	}
	if n := accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestAConnectionThatTheVendorClosedMeanwhileCostsTheCallerNothing(t *testing.T) {
	v := &vendor{answers: []func(http.ResponseWriter){goodURL}}
	var server *httptest.Server
	url, accepted, h := counted(t, v, func(s *httptest.Server) { server = s; s.Start() })
	c := newCounted(t, url, h)
	c.sleep = func(context.Context, time.Duration) error { t.Error("the caller waited"); return nil }
	for n := range 5 {
		if _, err := c.Create(t.Context(), payload()); err != nil {
			t.Fatal(err)
		}
		server.CloseClientConnections()
		if accepted.Load() != int32(n+1) {
			t.Errorf("%d connections", accepted.Load())
		}
	}
	if v.calls[0].Header.Get("Idempotency-Key") != "" {
		t.Error("a header that the vendor does not know was sent")
	}
}

func BenchmarkCreateAt64Callers(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, tokenPath) {
			_, _ = io.WriteString(w, `{"access_token":"a","expires_in":3600}`)
			return
		}
		_, _ = io.WriteString(w, `{"encounter_url":"https://app.nabla.example/open/x"}`)
	}))
	defer server.Close()
	c, err := New(Config{BaseURL: server.URL, ClientID: testClient, Keys: []assertion.Key{{Signer: ecKey(b)}}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := c.Create(b.Context(), payload()); err != nil {
				b.Error(problem.Of(err).LogValue())
			}
		}
	})
}

func TestNobodyWaitsForATokenWhileOneLives(t *testing.T) {
	f := newFixture(t, goodURL)
	asked, release := make(chan struct{}), make(chan struct{})
	f.token = func(w http.ResponseWriter, n int) {
		if n == 2 {
			close(asked)
			<-release
		}
		body(w, 200, `{"access_token":"token-`+strconv.Itoa(n)+`","expires_in":300}`)
	}
	if err := f.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(225 * time.Second)
	for range 5 {
		if err := f.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	<-asked
	for n, r := range f.calls {
		if r.Header.Get("Authorization") != "Bearer token-1" {
			t.Errorf("call %d waited for the new token", n)
		}
	}
	close(release)
	eventually(t, func() bool {
		_ = f.refresh(t.Context())
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.calls[len(f.calls)-1].Header.Get("Authorization") == "Bearer token-2"
	})
	if f.tokens != 2 {
		t.Errorf("%d tokens", f.tokens)
	}
}

func TestARenewalThatFailsDisturbsNobodyAndIsTriedAgainAfterAPause(t *testing.T) {
	f := newFixture(t, goodURL)
	f.token = func(w http.ResponseWriter, n int) {
		if n > 1 {
			body(w, 401, `{"error":"invalid_client"}`)
			return
		}
		body(w, 200, `{"access_token":"token-1","expires_in":300}`)
	}
	tokens := func() int { f.mu.Lock(); defer f.mu.Unlock(); return f.tokens }
	_ = f.refresh(t.Context())
	f.clock.advance(225 * time.Second)
	for want := 2; want < 4; want++ {
		for range 5 {
			if err := f.refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, func() bool { return tokens() == want && !f.client.auth.renewing.Load() })
		for range 5 {
			if err := f.refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := tokens(); n != want {
			t.Errorf("%d tokens were asked for, want %d", n, want)
		}
		f.clock.advance(renewalPause)
	}
	f.clock.advance(time.Minute)
	if err := f.refresh(t.Context()); !problem.IsCode(err, problem.VendorUnavailable) {
		t.Errorf("after its end: %v", err)
	}
}

func eventually(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen within ten seconds")
		}
	}
}
