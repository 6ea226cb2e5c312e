package nablasim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The calls that a Fault may be of.
const (
	CallToken   = "token"
	CallCreate  = "create"
	CallRefresh = "refresh"
	CallUsers   = "users"
	CallPage    = "page"
	CallExport  = "export"
)

// The kinds of Fault. Those of the second group do the call and spoil its answer;
// those of the last are of callbacks only.
const (
	Fault429   = "429"   // too many requests; see RetryAfterSeconds
	Fault500   = "500"   // internal server error
	Fault503   = "503"   // service unavailable; see RetryAfterSeconds
	FaultSlow  = "slow"  // the answer comes after DelayMS
	FaultReset = "reset" // the connection is reset, and nothing was done
	FaultHTML  = "html"  // 200 with a page of HTML, as a proxy in between sends
	FaultBig   = "big"   // 200 with 2 MiB of JSON

	FaultLostAnswer = "lost_answer" // the call is done, and then the connection is reset
	FaultTruncated  = "truncated"   // half of the answer, and then the connection is closed
	FaultWrongType  = "wrong_type"  // the answer says that it is text/plain
	FaultSpentURL   = "spent_url"   // the one-time URL of the answer is used up already

	FaultBadSignature = "bad_signature" // no signature is of a shared secret
	FaultStale        = "stale"         // the timestamp is two minutes old
	FaultUnknownType  = "unknown_type"  // the type is none of the two
	FaultReplay       = "replay"        // the callback is sent twice; the second answer is told
)

// kindsOf says which kinds each call may have.
var kindsOf = map[string][]string{
	CallToken:   {Fault429, Fault500, Fault503, FaultSlow, FaultReset, FaultHTML, FaultBig, FaultLostAnswer, FaultTruncated, FaultWrongType},
	CallCreate:  {Fault429, Fault500, Fault503, FaultSlow, FaultReset, FaultHTML, FaultBig, FaultLostAnswer, FaultTruncated, FaultWrongType, FaultSpentURL},
	CallRefresh: {Fault429, Fault500, Fault503, FaultSlow, FaultReset, FaultHTML, FaultBig, FaultLostAnswer, FaultTruncated, FaultWrongType, FaultSpentURL},
	CallUsers:   {Fault429, Fault500, Fault503, FaultSlow, FaultReset, FaultHTML, FaultBig, FaultLostAnswer, FaultTruncated, FaultWrongType},
	CallPage:    {Fault429, Fault500, Fault503, FaultSlow, FaultReset, FaultLostAnswer, FaultTruncated},
	CallExport:  {FaultSlow, FaultLostAnswer, FaultBadSignature, FaultStale, FaultUnknownType, FaultReplay},
}

// The bounds of a Fault.
const (
	maxFaults     = 64
	maxTimes      = 1_000_000
	maxDelay      = 2 * time.Minute
	maxRetryAfter = time.Hour
	bigBytes      = 2 << 20
	staleBy       = 2 * time.Minute
)

// Fault is something that goes wrong on purpose.
type Fault struct {
	// ID is given by AddFault.
	ID int `json:"id"`
	// Call and Kind are of the lists above.
	Call string `json:"call"`
	Kind string `json:"kind"`
	// Times is how often it happens; 0 means once. Always is without an end.
	Times  int  `json:"times,omitempty"`
	Always bool `json:"always,omitempty"`
	// Probability is how likely it happens to a call, above 0 and at most 1; 0 means
	// 1. The same Seed gives the same calls.
	Probability float64 `json:"probability,omitempty"`
	Seed        uint64  `json:"seed,omitempty"`
	// RetryAfterSeconds, for 429 and 503, is the header Retry-After; 0 means none.
	RetryAfterSeconds int `json:"retry_after_seconds,omitempty"`
	// DelayMS, for slow, is in milliseconds.
	DelayMS int `json:"delay_ms,omitempty"`
	// Happened counts.
	Happened int `json:"happened"`
}

func (f Fault) check() error {
	kinds, known := kindsOf[f.Call]
	switch {
	case !known:
		return errors.New("call is not one of token, create, refresh, users, page and export")
	case !slices.Contains(kinds, f.Kind):
		return fmt.Errorf("kind is not one of those that %s may have: %s", f.Call, strings.Join(kinds, ", "))
	case f.ID != 0 || f.Happened != 0:
		return errors.New("id and happened are the simulator's")
	case f.Times < 0 || f.Times > maxTimes:
		return errors.New("times is not between 0 and 1000000")
	case f.Times > 0 && f.Always:
		return errors.New("times and always exclude each other")
	case f.Probability < 0 || f.Probability > 1:
		return errors.New("probability is not between 0 and 1")
	case f.Seed != 0 && f.Probability == 0:
		return errors.New("seed is of use with probability only")
	case f.RetryAfterSeconds != 0 && f.Kind != Fault429 && f.Kind != Fault503:
		return errors.New("retry_after_seconds is of 429 and 503 only")
	case f.RetryAfterSeconds < 0 || f.RetryAfterSeconds > int(maxRetryAfter/time.Second):
		return errors.New("retry_after_seconds is not between 0 and 3600")
	case (f.Kind == FaultSlow) != (f.DelayMS != 0):
		return errors.New("delay_ms belongs to slow, and slow needs it")
	case f.DelayMS < 0 || f.DelayMS > int(maxDelay/time.Millisecond):
		return errors.New("delay_ms is not between 1 and 120000")
	}
	return nil
}

type plannedFault struct {
	Fault
	dice *rand.Rand
}

// faults are the plans. They are tried in the order in which they were added, and
// one happens to a call at most.
type faults struct {
	mu      sync.Mutex
	planned []*plannedFault
	made    int
}

// AddFault plans a fault and returns it with its id. The error says what is wrong
// with it; then nothing is planned.
func (s *Sim) AddFault(f Fault) (Fault, error) {
	if err := f.check(); err != nil {
		return Fault{}, err
	}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	if len(s.faults.planned) >= maxFaults {
		return Fault{}, fmt.Errorf("there are %d faults already; take some away", maxFaults)
	}
	if f.Times == 0 && !f.Always {
		f.Times = 1
	}
	s.faults.made++
	f.ID = s.faults.made
	p := &plannedFault{Fault: f}
	if f.Probability > 0 {
		p.dice = rand.New(rand.NewPCG(f.Seed, 0))
	}
	s.faults.planned = append(s.faults.planned, p)
	return f, nil
}

// Faults returns what is planned, and what has happened, oldest first.
func (s *Sim) Faults() []Fault {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	list := make([]Fault, 0, len(s.faults.planned))
	for _, p := range s.faults.planned {
		list = append(list, p.Fault)
	}
	return list
}

// RemoveFault takes a fault away, and says whether there was one of that id.
func (s *Sim) RemoveFault(id int) bool {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	before := len(s.faults.planned)
	s.faults.planned = slices.DeleteFunc(s.faults.planned, func(p *plannedFault) bool { return p.ID == id })
	return len(s.faults.planned) != before
}

// ClearFaults takes all faults away.
func (s *Sim) ClearFaults() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.planned = nil
}

// next returns the fault that happens to a call, or one without a kind.
func (f *faults) next(call string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.planned {
		if p.Call != call || (!p.Always && p.Happened >= p.Times) {
			continue
		}
		if p.dice != nil && p.dice.Float64() >= p.Probability {
			continue
		}
		p.Happened++
		return p.Fault
	}
	return Fault{}
}

// faulty lets the faults of a call happen before, or after, it is done.
func (s *Sim) faulty(call string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f := s.faults.next(call)
		if f.Kind != "" {
			s.log.Info("nabla-sim fault", "call", call, "kind", f.Kind)
		}
		switch f.Kind {
		case "":
			next(w, r)
		case Fault429:
			f.refuse(w, r, http.StatusTooManyRequests)
		case Fault500:
			f.refuse(w, r, http.StatusInternalServerError)
		case Fault503:
			f.refuse(w, r, http.StatusServiceUnavailable)
		case FaultSlow:
			if s.sleep(r.Context(), time.Duration(f.DelayMS)*time.Millisecond) == nil {
				next(w, r)
			}
		case FaultReset:
			reset(w)
		case FaultHTML:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, "<!DOCTYPE html><title>Please sign in to the network</title><p>A proxy in between has answered.")
		case FaultBig:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"padding":"`+strings.Repeat("x", bigBytes)+`"}`)
		default:
			done := &doneAnswer{header: w.Header().Clone()}
			next(done, r)
			s.spoil(w, f.Kind, done)
		}
	}
}

// refuse answers without doing anything.
func (f Fault) refuse(w http.ResponseWriter, r *http.Request, status int) {
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxBodyBytes))
	if f.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfterSeconds))
	}
	refuse(w, status, "fault", "the simulator was told to answer so")
}

// spoil answers with what is left of an answer.
func (s *Sim) spoil(w http.ResponseWriter, kind string, done *doneAnswer) {
	for name, values := range done.header {
		w.Header()[name] = values
	}
	switch kind {
	case FaultLostAnswer:
		reset(w)
	case FaultTruncated:
		w.Header().Set("Content-Length", strconv.Itoa(done.body.Len()))
		w.WriteHeader(done.status)
		_, _ = w.Write(done.body.Bytes()[:done.body.Len()/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case FaultWrongType:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	case FaultSpentURL:
		var a encounterURL
		if json.Unmarshal(done.body.Bytes(), &a) == nil {
			s.mu.Lock()
			if p := s.pages[path.Base(a.EncounterURL)]; p != nil {
				p.spent = true
			}
			s.mu.Unlock()
		}
	}
	w.WriteHeader(done.status)
	_, _ = w.Write(done.body.Bytes())
}

// reset ends the connection as a crashed server or a firewall does (RST), or, where
// the connection cannot be had, without an answer.
func reset(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
	panic(http.ErrAbortHandler)
}

// doneAnswer keeps an answer that has not been sent.
type doneAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (d *doneAnswer) Header() http.Header { return d.header }
func (d *doneAnswer) WriteHeader(status int) {
	if d.status == 0 {
		d.status = status
	}
}
func (d *doneAnswer) Write(p []byte) (int, error) {
	d.WriteHeader(http.StatusOK)
	return d.body.Write(p)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
