package orgserver

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// PathReady is where a load balancer asks whether to send calls here; PathHealth only
// says that the process lives.
const PathReady = "/readyz"

const (
	readyTime = 3 * time.Second
	// readyPause is for how long it is believed what the store has said: anybody may ask
	// us, as often as they like, and in a cluster every question of ours is a dozen for
	// servers that others need too.
	readyPause = time.Second
)

// storeState is what the store has said last.
type storeState struct {
	mu    sync.Mutex
	asked time.Time // guarded by mu
	err   error     // guarded by mu
}

// of asks the store, once for all callers of a second. (Those who come meanwhile wait
// for as long as one question takes, which check bounds.)
func (s *storeState) of(ctx context.Context, now func() time.Time, check func(context.Context) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if since := now().Sub(s.asked); s.asked.IsZero() || since < 0 || since >= readyPause {
		// Whoever gives up has not learnt anything of the store.
		s.err = check(context.WithoutCancel(ctx))
		s.asked = now()
	}
	return s.err
}

// readiness is the body of PathReady. Each part is "ok" or what is wrong with it.
type readiness struct {
	Ready bool              `json:"ready"`
	Parts map[string]string `json:"parts"`
}

// Drain makes the backend not ready: it still answers, and load balancers send
// nobody any more.
func (s *Server) Drain() { s.draining.Store(true) }

// ready is GET /readyz: 200, or 503 with the part that fails.
func (s *Server) ready(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTime)
	defer cancel()
	answer := readiness{Ready: true, Parts: map[string]string{"store": "ok", "issuer": "ok", "process": "ok"}}
	fail := func(part, what string) { answer.Ready, answer.Parts[part] = false, what }
	if s.draining.Load() {
		fail("process", "it is ending")
	}
	if s.store.of(ctx, s.now, s.conn.Check) != nil {
		fail("store", "JetStream does not answer")
	}
	// Keys that were fetched once go on serving, so an issuer that is away for a
	// while does not make a backend unready that can verify tokens.
	if _, _, err := s.tokens.current(ctx, false); err != nil {
		fail("issuer", "it does not answer, and its keys are not known")
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return 0, nil, err
	}
	status := http.StatusOK
	if !answer.Ready {
		status = http.StatusServiceUnavailable
	}
	return status, raw{"application/json", body}, nil
}
