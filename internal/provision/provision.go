// Package provision makes users at Nabla ahead of their first encounter: one, or a
// list of them from CSV, with a record by which an interrupted run goes on.
//
// The vendor's lists of specialties and locales are not documented where we could
// read them: a specialty is a word of capitals, digits and underscores, a locale one
// of letters, digits, underscores and hyphens, each of at most 64 characters, and
// Nabla refuses those that it does not know. The specialty OTHER has a name beside it.
//
// It never changes a user whose e-mail address and id point at two people: such
// conflicts are reported. It never sends a line of a list of which another line is
// wrong, and never writes an address or an id anywhere but into the file that it was
// asked for.
package provision

import (
	"context"
	"errors"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/problem"
)

const (
	maxEmail  = 254 // RFC 5321 §4.5.3.1.3, without the angle brackets
	maxID     = 256
	maxWord   = 64
	maxOther  = 128
	firstWait = 2 * time.Second
	// mostWait is for how long a run waits at a time; a vendor who asks for more is
	// better asked by another run.
	mostWait = 5 * time.Minute
	// mostOutages is how often in a row the vendor may fail before a run ends.
	mostOutages = 6
)

// Check says everything that is wrong with a user before it is sent, naming fields as
// Nabla does and quoting nothing.
func Check(u nabla.User) error {
	var faults []error
	fault := func(text string) { faults = append(faults, errors.New(text)) }
	for name, value := range map[string]string{
		"provider_email": u.ProviderEmail, "external_provider_id": u.ExternalProviderID, "speech_locale": u.Settings.SpeechLocale,
		"secondary_speech_locale": u.Settings.SecondarySpeechLocale,
	} {
		if unfit(value) {
			fault(name + " begins or ends with a space, or holds a character that cannot be seen")
		}
	}
	if a, err := mail.ParseAddress(u.ProviderEmail); err != nil || a.Address != u.ProviderEmail || len(u.ProviderEmail) > maxEmail {
		fault("provider_email is not an e-mail address")
	}
	if n := utf8.RuneCountInString(u.ExternalProviderID); n == 0 || n > maxID {
		fault("external_provider_id does not have 1 to 256 characters")
	}
	if s := u.Settings.Specialty; s != nil {
		switch {
		case !word(s.Kind, "_", false):
			fault("specialty is not a word of at most 64 capitals, digits and underscores")
		case (s.Kind == nabla.OtherSpecialty) != (s.OtherName != ""):
			fault("other_specialty_name belongs to the specialty OTHER, and only to it")
		case unfit(s.OtherName) || utf8.RuneCountInString(s.OtherName) > maxOther:
			fault("other_specialty_name does not have at most 128 visible characters")
		}
	}
	for name, value := range map[string]string{"speech_locale": u.Settings.SpeechLocale, "secondary_speech_locale": u.Settings.SecondarySpeechLocale} {
		if value != "" && !word(value, "_-", true) {
			fault(name + " is not a word of at most 64 letters, digits, underscores and hyphens")
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

func unfit(s string) bool {
	return strings.TrimSpace(s) != s || !utf8.ValidString(s) ||
		strings.ContainsFunc(s, func(c rune) bool { return unicode.IsControl(c) || unicode.Is(unicode.Cf, c) || c == utf8.RuneError })
}

func word(s, more string, small bool) bool {
	if s == "" || len(s) > maxWord || strings.Contains(more, s[:1]) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && (!small || c < 'a' || c > 'z') && strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return true
}

// User returns a user of plain texts; empty ones are left as they are at Nabla. It
// does not check them.
func User(email, id, specialty, otherName, locale, secondary string) nabla.User {
	u := nabla.User{ProviderEmail: email, ExternalProviderID: id, Settings: nabla.UserSettings{SpeechLocale: locale, SecondarySpeechLocale: secondary}}
	if specialty != "" || otherName != "" {
		u.Settings.Specialty = &nabla.Specialty{Kind: specialty, OtherName: otherName}
	}
	return u
}

// Users is Nabla, as far as a run needs it.
type Users interface {
	CreateUser(context.Context, nabla.User) (nabla.Provisioned, error)
}

// Job is one run over a list.
type Job struct {
	Users Users
	Lines []Line
	// Record knows what earlier runs have done; see OpenRecord.
	Record *Record
	// Parallel is how many calls are under way at once; 0 means 4.
	Parallel int
	// Progress is told after every line how many of how many are over, one call at a
	// time; nil is told nothing.
	Progress func(over, of int)
	// Waiting is told how long a run waits for the vendor; nil is told nothing.
	Waiting func(time.Duration)
	// Now and Sleep are for tests; nil means the machine's.
	Now   func() time.Time
	Sleep func(context.Context, time.Duration) error
}

// Result is how a run ended.
type Result struct {
	// Total is the number of lines; the other numbers add up to it. Created and Found
	// are of this run, Before of earlier ones.
	Total, Created, Found, Before, NotTried int
	// Conflicts are lines whose e-mail address and id belong to two users, Refused
	// those that Nabla refused for another reason; in the order of the list.
	Conflicts, Refused []Line
	// Interrupted says that the context ended.
	Interrupted bool
	// Stopped says why the run ended before its last line, unless it was interrupted.
	Stopped error
}

// Done reports whether every user of the list is at Nabla.
func (r Result) Done() bool { return r.Created+r.Found+r.Before == r.Total && r.Stopped == nil }

// run is a Job under way.
type run struct {
	Job
	mu      sync.Mutex
	next    int
	pending []Line
	over    int
	result  Result
	outages int
	// until is when the vendor may be called again.
	until time.Time
	ended bool
}

// Run provisions every line that the record does not know. When ctx ends, the calls
// under way are awaited and no further one is made. A vendor who does not answer is
// waited for, as long as it asks; after six failures in a row the run ends.
func Run(ctx context.Context, job Job) Result {
	if job.Parallel == 0 {
		job.Parallel = 4
	}
	if job.Now == nil {
		job.Now = time.Now
	}
	if job.Sleep == nil {
		job.Sleep = sleep
	}
	r := &run{Job: job, result: Result{Total: len(job.Lines)}}
	for _, l := range job.Lines {
		if job.Record.Has(l.User) {
			r.result.Before++
			continue
		}
		r.pending = append(r.pending, l)
	}
	r.over = r.result.Before
	var group sync.WaitGroup
	for range job.Parallel {
		group.Go(func() { r.work(ctx) })
	}
	group.Wait()
	byLine := func(a, b Line) int { return a.Number - b.Number }
	slices.SortFunc(r.result.Conflicts, byLine)
	slices.SortFunc(r.result.Refused, byLine)
	r.result.NotTried = r.result.Total - r.over
	r.result.Interrupted = ctx.Err() != nil && r.result.NotTried > 0
	if r.result.Interrupted {
		r.result.Stopped = nil
	}
	return r.result
}

func (r *run) work(ctx context.Context) {
	for {
		line, ok := r.take(ctx)
		if !ok {
			return
		}
		for {
			began, ok := r.turn(ctx)
			if !ok {
				return
			}
			// A call under way is awaited: nobody could say else whether it was done.
			p, err := r.Users.CreateUser(context.WithoutCancel(ctx), line.User)
			if r.settle(line, began, p, err) {
				break
			}
		}
	}
}

func (r *run) take(ctx context.Context) (Line, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || ctx.Err() != nil || r.next == len(r.pending) {
		return Line{}, false
	}
	r.next++
	return r.pending[r.next-1], true
}

// turn waits until the vendor may be called.
func (r *run) turn(ctx context.Context) (began time.Time, ok bool) {
	for {
		r.mu.Lock()
		now, wait, ended := r.Now(), r.until.Sub(r.Now()), r.ended
		r.mu.Unlock()
		if ended || ctx.Err() != nil {
			return now, false
		}
		if wait <= 0 {
			return now, true
		}
		if r.Sleep(ctx, wait) != nil {
			return now, false
		}
	}
}

// settle notes how a call ended, and reports whether its line is over.
func (r *run) settle(line Line, began time.Time, p nabla.Provisioned, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch problem.CodeOf(err) {
	case "":
		if p.Found {
			r.result.Found++
		} else {
			r.result.Created++
		}
		r.outages = 0
		if err := r.Record.add(line.User); err != nil {
			r.stop(err)
		}
	case problem.ProviderConflict:
		r.result.Conflicts = append(r.result.Conflicts, line)
		r.outages = 0
	case problem.VendorUnavailable:
		r.outage(began, err)
		return false
	case problem.RequestInvalid:
		r.result.Refused = append(r.result.Refused, line)
		r.outages = 0
	default:
		r.stop(err)
		return false
	}
	r.over++
	if r.Progress != nil {
		r.Progress(r.over, r.result.Total)
	}
	return true
}

// outage makes everybody wait. Calls that began before the last wait was ordered tell
// nothing new.
func (r *run) outage(began time.Time, err error) {
	asked := nabla.RetryAfter(err)
	now := r.Now()
	wait := max(asked, firstWait<<r.outages)
	if began.Before(r.until) {
		wait = asked
	} else if r.outages++; r.outages == mostOutages {
		r.stop(err)
		return
	}
	if wait > mostWait {
		r.stop(err)
		return
	}
	if at := now.Add(wait); at.After(r.until) {
		r.until = at
		if r.Waiting != nil {
			r.Waiting(wait)
		}
	}
}

func (r *run) stop(err error) {
	if !r.ended {
		r.ended, r.result.Stopped = true, err
	}
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
