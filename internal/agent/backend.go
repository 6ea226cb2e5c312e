package agent

import (
	"time"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// metBackend is the organisation's backend as it was met last.
type metBackend struct {
	state   view.BackendState
	problem *problem.Problem
	at      time.Time
}

// backendMet notes the outcome of a call to the backend, whoever made it: nil, or
// the problem that the call ended with. A refusal by the backend itself shows
// that it can be reached; an outcome that says nothing of it changes nothing.
func (a *Agent) backendMet(err error) {
	met := metBackend{state: view.BackendReachable, at: a.now()}
	p := problem.Of(err)
	if p != nil {
		switch p.Code {
		case problem.Cancelled, problem.Internal:
			return
		case problem.OrgUnreachable, problem.OrgBusy, problem.OrgAnswerInvalid, problem.TLSUntrusted, problem.ProxyAuthNeeded:
			met.state, met.problem = view.BackendTrouble, p
		}
	}
	a.mu.Lock()
	a.met = met
	a.mu.Unlock()
	a.showBackend()
}

// backendReplaced forgets the backend: policy now names another one.
func (a *Agent) backendReplaced() {
	a.mu.Lock()
	a.met = metBackend{}
	a.mu.Unlock()
}

// showBackend publishes how the backend was met last, in the language of now.
func (a *Agent) showBackend() {
	// It is read inside, so that the newest is published last.
	a.board.change(func(s *view.Snapshot) {
		a.mu.Lock()
		met := a.met
		a.mu.Unlock()
		if met.state == "" {
			s.Backend = view.Backend{State: view.BackendUnknown}
			return
		}
		s.Backend = view.Backend{State: met.state, At: &met.at}
		if met.problem != nil {
			p := a.describe(met.problem)
			s.Backend.Problem = &p
		}
	})
}
