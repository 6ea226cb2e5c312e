package sandbox

import (
	"net/http"
	"sync"
	"time"
)

// clock is the backend's clock. It can be set back for one request, so that the
// stale link is a real handle that has really expired. While it is set back no
// other request is served, so nobody else sees the wrong time.
type clock struct {
	// pass is what the one request bears in headerPass.
	pass string
	gate sync.RWMutex // held for writing while the clock is set back

	mu   sync.Mutex
	back time.Duration // guarded by mu
}

const headerPass = "X-Sandbox-Clock"

func newClock() *clock { return &clock{pass: randomText()} }

// Now is the time as the backend sees it.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(-c.back)
}

// setBack waits for the running requests and sets the clock back until the
// returned function is called.
func (c *clock) setBack(by time.Duration) (restore func()) {
	c.gate.Lock()
	c.set(by)
	return func() {
		c.set(0)
		c.gate.Unlock()
	}
}

func (c *clock) set(by time.Duration) {
	c.mu.Lock()
	c.back = by
	c.mu.Unlock()
}

// guard lets requests wait while the clock is set back, but for the one that
// bears the pass and for those that never end.
func (c *clock) guard(endless func(*http.Request) bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(headerPass) != c.pass && !endless(r) {
			c.gate.RLock()
			defer c.gate.RUnlock()
		}
		next.ServeHTTP(w, r)
	})
}
