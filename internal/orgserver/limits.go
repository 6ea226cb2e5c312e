package orgserver

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

const (
	personPerMinute = 120
	ehrPerMinute    = 1200
	// burstPart of a minute's calls may come at once: an EHR's screen that opens
	// many encounters in a morning is no attack.
	burstPart = 4
)

// limits bound how often each caller of one kind may call, in this process. Only
// callers who have proved who they are are counted, so a stranger can use up
// nobody's share and fill no memory. (What strangers cost is a signature's check;
// the addresses that they come from are not looked at, since a hospital's
// workstations often share one.)
type limits struct {
	every rate.Limit
	burst int
	// full is how long an empty bucket takes to be full. One that was not used for
	// so long is like a new one, and forgotten.
	full time.Duration
	now  func() time.Time

	mu      sync.Mutex
	buckets map[[2]string]*bucket // guarded by mu
	swept   time.Time             // guarded by mu
}

type bucket struct {
	limiter *rate.Limiter
	used    time.Time
}

// newLimits makes those of persons, and of EHR servers.
func newLimits(cfg orgconfig.Limits, now func() time.Time) (persons, servers *limits) {
	of := func(perMinute, otherwise int) *limits {
		if perMinute <= 0 {
			perMinute = otherwise
		}
		burst := max(1, perMinute/burstPart)
		return &limits{
			every: rate.Every(time.Minute / time.Duration(perMinute)), burst: burst,
			full: time.Duration(float64(time.Minute) * float64(burst) / float64(perMinute)),
			now:  now, buckets: make(map[[2]string]*bucket),
		}
	}
	return of(cfg.PersonPerMinute, personPerMinute), of(cfg.EHRPerMinute, ehrPerMinute)
}

// take counts one call of the caller whom two words name, or answers org_busy and
// when to come back.
func (l *limits) take(realm, name string) error {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	key := [2]string{realm, name}
	b := l.buckets[key]
	if b == nil {
		b = &bucket{limiter: rate.NewLimiter(l.every, l.burst)}
		l.buckets[key] = b
	}
	b.used = now
	r := b.limiter.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	// A refused call costs nothing: who waits as long as told gets in.
	r.CancelAt(now)
	return &statusError{
		status: http.StatusTooManyRequests, after: wait,
		Problem: problem.With(problem.OrgBusy, "There were too many calls in a minute.", errors.New("a caller is over its limit")),
	}
}

func (l *limits) sweep(now time.Time) {
	// Time that went backwards must not stop this for ever.
	if since := now.Sub(l.swept); since >= 0 && since < l.full {
		return
	}
	l.swept = now
	for key, b := range l.buckets {
		if unused := now.Sub(b.used); unused >= l.full {
			delete(l.buckets, key)
		}
	}
}
