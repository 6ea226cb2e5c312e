package agent

import (
	"sync"
	"time"

	"encounterlauncher/internal/problem"
)

const (
	// finishPatience is how long the agent goes on, told to finish, until nothing
	// is in flight: a launch takes about a second, and one that waits for somebody
	// to sign in is not waited for to its end.
	finishPatience = 4 * time.Second
	// endPatience bounds the wait for work at the agent's end, and the last answers
	// with it: one call to the keyring at its slowest (keyringDeadline), which is
	// what loses a sign-in, and a second for what goes before. An issuer that does
	// not answer in that time is not waited for.
	endPatience = 5 * time.Second
	// EndsWithin is how long an agent may take to end that was told to finish. Who
	// tells it waits longer (quitTimeout in cli), else an agent that stores a token
	// would count as one that does not end.
	EndsWithin = finishPatience + endPatience
)

// work counts what must not be torn by the agent's end: a token that was just
// rotated and is not stored yet, half a sign-out. It is safe for concurrent use;
// the zero value is ready.
type work struct {
	mu     sync.Mutex
	closed bool          // guarded by mu
	count  int           // guarded by mu
	done   chan struct{} // guarded by mu: closed when count is 0 after close
	ended  bell          // rung whenever a piece of work has ended; may be nil
}

// begin announces a piece of work; every begin that returned nil is followed by
// one end. It refuses once close was called.
func (w *work) begin() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return problem.With(problem.Cancelled, "The program is ending.", nil)
	}
	w.count++
	return nil
}

func (w *work) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count--
	w.ended.ring()
	if w.closed && w.count == 0 {
		close(w.done)
	}
}

// idle reports whether no work is under way.
func (w *work) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count == 0
}

// close takes no more work and returns a channel that is closed when the last
// has ended. It is called once.
func (w *work) close() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed, w.done = true, make(chan struct{})
	if w.count == 0 {
		close(w.done)
	}
	return w.done
}
