// Package orgaudit is the organisation's record of who opened what, apart from the
// logs: it holds what logs must never hold, and answers the privacy officer. Each
// record is one line of JSON, in a file of its own, at a syslog server, or both.
//
// It never holds a one-time URL, a handle, a token or anything of a note: a Record
// has no field for one.
package orgaudit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

// What can have happened.
const (
	LaunchRegistered  = "launch_registered"  // an EHR server registered a context
	EncounterOpened   = "encounter_opened"   // a clinician asked for a new page of an encounter by a link
	EncounterReopened = "encounter_reopened" // a clinician asked for a page of an encounter that was opened before
	CallbackReceived  = "callback_received"  // Nabla told of an export
	Delivered         = "delivered"          // an export reached the EHR
	Discarded         = "discarded"          // who operates the backend gave an export up
)

// How it ended.
const (
	Done    = "done"
	Refused = "refused" // somebody asked for what is not theirs, or asked wrongly
	Failed  = "failed"  // it was allowed and did not work
)

// timeForm is RFC 3339 in UTC with the same width always, so that lines sort.
const timeForm = "2006-01-02T15:04:05.000Z"

// maxLine bounds a line in bytes. Ids are at most 256 characters, so that it is
// never met by our own callers.
const maxLine = 64 << 10

// Record is one thing that happened. Every field but Action and Outcome may be
// empty: a call that is refused early knows little.
type Record struct {
	// Time is set by Log.Record.
	Time time.Time `json:"-"`
	// Action and Outcome are of the constants.
	Action  string `json:"action"`
	Outcome string `json:"outcome"`
	// Code says why it was not done.
	Code problem.Code `json:"code,omitempty"`
	// Subject and Email are the person, as the access token names them.
	Subject string `json:"subject,omitempty"`
	Email   string `json:"email,omitempty"`
	// Provider is the person's external_provider_id, AskedProvider the one of the
	// encounter where that is another.
	Provider      string `json:"provider,omitempty"`
	AskedProvider string `json:"asked_provider,omitempty"`
	Tenant        string `json:"tenant,omitempty"`
	// Encounter and Patient are the EHR's own ids. A patient is not known when an
	// encounter is reopened: the record that opened it has it.
	Encounter string `json:"encounter,omitempty"`
	Patient   string `json:"patient,omitempty"`
	// EHR is the name in the configuration of the server that registered the launch.
	EHR string `json:"ehr,omitempty"`
	// RequestID is the X-Request-Id, under which the logs have the call.
	RequestID string `json:"request_id,omitempty"`
}

// MarshalJSON writes a record as its line is, without the line feed.
func (r Record) MarshalJSON() ([]byte, error) { return r.text() }

// plain is Record without its methods.
type plain Record

func (r Record) text() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	// A line is not HTML, and a privacy officer reads it.
	e.SetEscapeHTML(false)
	err := e.Encode(struct {
		Time string `json:"time"`
		plain
	}{r.Time.UTC().Format(timeForm), plain(r)})
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// parse reads one line. It accepts members that a newer version may add.
func parse(text []byte) (Record, error) {
	var l struct {
		Time string `json:"time"`
		plain
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return Record{}, err
	}
	at, err := time.Parse(time.RFC3339Nano, l.Time)
	if err != nil || l.Action == "" {
		return Record{}, errors.New("it has no time or no action")
	}
	r := Record(l.plain)
	r.Time = at.UTC()
	return r, nil
}

// sink takes one line, which ends in a line feed. It is called by one goroutine at
// a time.
type sink interface {
	write(r Record, text []byte) error
	close() error
}

// Log writes records. It is safe for concurrent use; a nil Log takes everything
// and keeps nothing.
type Log struct {
	now    func() time.Time
	failed func(sink string, err error)

	mu     sync.Mutex
	sinks  map[string]sink // guarded by mu
	closed bool            // guarded by mu
}

// Open opens what cfg names, and returns nil where that is nothing. now may be nil
// for the real clock. failed, when not nil, is told of a sink that did not take a
// line, by its name "file" or "syslog"; it must not call back.
//
// A syslog server that does not answer is no error here: it may come later, and
// until then Record says so.
func Open(cfg orgconfig.Audit, now func() time.Time, failed func(sink string, err error)) (*Log, error) {
	if now == nil {
		now = time.Now
	}
	if failed == nil {
		failed = func(string, error) {}
	}
	l := &Log{now: now, failed: failed, sinks: map[string]sink{}}
	if cfg.File != "" {
		f, err := openFile(cfg, now)
		if err != nil {
			return nil, fmt.Errorf("audit.file: %w", err)
		}
		l.sinks["file"] = f
	}
	if cfg.Syslog != "" {
		s, err := newSyslog(cfg.Syslog)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("audit.syslog: %w", err), l.Close())
		}
		l.sinks["syslog"] = s
	}
	if len(l.sinks) == 0 {
		return nil, nil
	}
	return l, nil
}

// Record writes one line before it returns. It returns org_busy when no sink took
// the line: then what it tells of must not be granted. Of two sinks one is enough,
// and the other's failure is reported.
//
// A line that a file took survives the end of this process however that comes; it
// is on the disk within a second, which is what a power cut may cost.
func (l *Log) Record(r Record) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return problem.New(problem.OrgBusy, errors.New("the audit is closed"))
	}
	r.Time = l.now()
	text, err := r.text()
	if err == nil && len(text) >= maxLine {
		err = errors.New("the line is too long")
	}
	if err != nil {
		return problem.New(problem.OrgBusy, fmt.Errorf("writing the audit: %w", err))
	}
	text = append(text, '\n')
	taken, faults := 0, []error{}
	for _, name := range []string{"file", "syslog"} {
		s, ok := l.sinks[name]
		if !ok {
			continue
		}
		if err := s.write(r, text); err != nil {
			l.failed(name, err)
			faults = append(faults, fmt.Errorf("%s: %w", name, err))
			continue
		}
		taken++
	}
	if taken == 0 {
		return problem.With(problem.OrgBusy, "It could not be recorded who opens this.", fmt.Errorf("writing the audit: %w", errors.Join(faults...)))
	}
	return nil
}

// Close writes what is buffered to the disk and ends the sinks. Closing twice, or a
// nil Log, is no error.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var faults []error
	for _, s := range l.sinks {
		faults = append(faults, s.close())
	}
	return errors.Join(faults...)
}
