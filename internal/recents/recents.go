// Package recents is the list of encounters that a person opened on this
// machine: one file per person, sealed with age to an identity that lives in the
// keyring, bounded by number and by hours.
//
// It never holds a URL: an entry has no field for one. It never writes anything
// in clear, file names included, never keeps an entry past its hours on disk
// once it looks at it, and never fails a launch over a file that cannot be read:
// such a file is set aside and the list starts anew.
package recents

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"

	"filippo.io/age"
)

// Entry is one encounter that can be reopened.
type Entry struct {
	// ID is set by Add: stable for one encounter, and without meaning outside
	// this machine (a keyed hash).
	ID string
	// ExternalEncounterID and ExternalProviderID are what a fresh URL is asked
	// with; each 1 to 256 characters.
	ExternalEncounterID string
	ExternalProviderID  string
	// Label is display text, as policy allows one; may be empty. Add drops control
	// and bidirectional characters and cuts it to 128 characters.
	Label string
	// OpenedAt is when it was last opened. Add takes now for zero and for a time
	// to come.
	OpenedAt time.Time
	// Status is a word of lower-case letters and underscores, such as Opened or
	// Exported; at most 32 bytes.
	Status string
}

// The statuses that the launcher knows.
const (
	Opened = "opened"
	// Exported is what an encounter stays once its note was exported, however often
	// it is opened again.
	Exported = "exported"
)

// Limits bound a list. Where either is zero or less, nothing is kept.
type Limits struct {
	// Max is the number of entries; more than 1,000 count as 1,000.
	Max int
	// Age is how long an entry is kept after it was opened.
	Age time.Duration
}

// Lock is the lock that the sessions of one user share. A List takes it around
// every call, so the caller must not hold it.
type Lock func(ctx context.Context) (unlock func(), err error)

// The bounds of what is written and of what is believed.
const (
	maxEntries         = 1000
	maxLabelRunes      = 128
	maxIdentifierRunes = 256
	maxStatusBytes     = 32
)

// List is the recents of one person. Its methods may be called from several
// goroutines, and from several processes through Lock.
type List struct {
	mu       sync.Mutex
	store    *file   // nil: memory only
	memory   []Entry // used when store is nil; guarded by mu
	setAside error   // guarded by mu

	encounterKey []byte
	lock         Lock
	limits       func() Limits
	now          func() time.Time
}

// NewIdentity returns a fresh age X25519 identity in its text form. It belongs
// in the keyring and nowhere else: who has it reads every list of this user.
func NewIdentity() (secret.Text, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return secret.Text{}, problem.New(problem.Internal, fmt.Errorf("making an identity: %w", err))
	}
	return secret.New(identity.String()), nil
}

// Open returns the list of a person, named by issuer and subject. dir is the
// folder of the lists, created with mode 0700 on the first write; an existing
// one that is open to others is refused then. An empty dir means that the list
// lives in memory only and identity is not used. limits is read at every call,
// so that lowering it trims; now may be nil for the real clock, lock nil for a
// list that nobody shares. An identity that is not one is keyring_corrupt. Open
// does no I/O.
func Open(dir string, identity secret.Text, person string, lock Lock, limits func() Limits, now func() time.Time) (*List, error) {
	if person == "" || limits == nil {
		return nil, problem.New(problem.Internal, errors.New("opening recents of nobody"))
	}
	if now == nil {
		now = time.Now
	}
	if dir == "" {
		var err error
		if identity, err = NewIdentity(); err != nil {
			return nil, err
		}
		lock = nil
	}
	parsed, err := age.ParseX25519Identity(identity.Reveal())
	if err != nil {
		// age's error quotes what it stumbled over.
		return nil, problem.New(problem.KeyringCorrupt, errors.New("the identity of the recents is not one"))
	}
	l := &List{lock: lock, limits: limits, now: now}
	if l.encounterKey, err = keyFor(identity, "encounter ids"); err != nil {
		return nil, problem.New(problem.Internal, err)
	}
	if dir != "" {
		personKey, err := keyFor(identity, "file names")
		if err != nil {
			return nil, problem.New(problem.Internal, err)
		}
		l.store = &file{dir: dir, name: keyedName(personKey, person), identity: parsed}
	}
	return l, nil
}

// keyFor derives a key from the identity (RFC 5869), so that a name in the
// folder or an id on a command line tells nothing without the keyring.
func keyFor(identity secret.Text, use string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, []byte(identity.Reveal()), nil, "encounter launcher recents: "+use, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	return key, nil
}

// keyedName is 80 bits in lower-case hexadecimal: easy to type, no collision
// among a thousand, and never an option of a command line.
func keyedName(key []byte, text string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil)[:10])
}

// Add puts an encounter at the front and returns it as it was kept. One that is
// in the list already is replaced, with the same ID; it stays Exported where it
// was. It returns request_invalid for an entry out of bounds, and then changes
// nothing.
func (l *List) Add(ctx context.Context, e Entry) (Entry, error) {
	now := l.now()
	if e.OpenedAt.IsZero() || e.OpenedAt.After(now) {
		e.OpenedAt = now
	}
	e.OpenedAt = e.OpenedAt.Round(0).UTC()
	e.Label = cleanLabel(e.Label)
	e.ID = l.id(e.ExternalEncounterID, e.ExternalProviderID)
	if !validEntry(e) {
		return Entry{}, problem.New(problem.RequestInvalid, errors.New("adding to recents: the entry is out of bounds"))
	}
	err := l.change(ctx, func(entries []Entry) []Entry {
		if n := position(entries, e.ID); n >= 0 {
			if entries[n].Status == Exported {
				e.Status = Exported
			}
			entries = slices.Delete(entries, n, n+1)
		}
		return append([]Entry{e}, entries...)
	})
	if err != nil {
		return Entry{}, err
	}
	return e, nil
}

// id names an encounter. The provider belongs to it: an encounter id is unique
// for a provider only.
func (l *List) id(encounterID, providerID string) string {
	return keyedName(l.encounterKey, providerID+"\x00"+encounterID)
}

func position(entries []Entry, id string) int {
	return slices.IndexFunc(entries, func(e Entry) bool { return e.ID == id })
}

// SetStatus gives an encounter of the list a status and reports whether that
// changed anything. One that is not in the list is not put there. A status out of
// bounds is request_invalid.
func (l *List) SetStatus(ctx context.Context, encounterID, providerID, status string) (changed bool, err error) {
	if !validStatus(status) {
		return false, problem.New(problem.RequestInvalid, errors.New("the status of a recent entry is out of bounds"))
	}
	id := l.id(encounterID, providerID)
	err = l.change(ctx, func(entries []Entry) []Entry {
		if n := position(entries, id); n >= 0 && entries[n].Status != status {
			entries[n].Status, changed = status, true
		}
		return entries
	})
	return changed && err == nil, err
}

// All returns the entries within the limits, newest first. What is beyond them
// is removed for good.
func (l *List) All(ctx context.Context) ([]Entry, error) {
	var all []Entry
	err := l.change(ctx, func(entries []Entry) []Entry {
		all = slices.Clone(l.within(entries))
		return entries
	})
	return all, err
}

// Get returns the entry of an ID; found is false when there is none any more.
func (l *List) Get(ctx context.Context, id string) (e Entry, found bool, err error) {
	all, err := l.All(ctx)
	for _, e := range all {
		if e.ID == id {
			return e, true, nil
		}
	}
	return Entry{}, false, err
}

// Remove takes one entry out and returns it, for Restore; found is false when it
// is not there any more.
func (l *List) Remove(ctx context.Context, id string) (removed Entry, found bool, err error) {
	err = l.change(ctx, func(entries []Entry) []Entry {
		n := position(entries, id)
		if n < 0 {
			return entries
		}
		removed, found = entries[n], true
		return slices.Delete(entries, n, n+1)
	})
	if err != nil {
		return Entry{}, false, err
	}
	return removed, found, nil
}

// RemoveAll is Clear, and returns what was in the list within the limits, for
// Restore. A list that cannot be read is removed all the same.
func (l *List) RemoveAll(ctx context.Context) (removed []Entry, err error) {
	err = l.locked(ctx, func() error {
		removed = slices.Clone(l.within(l.memory))
		l.memory = nil
		if l.store == nil {
			return nil
		}
		if before, err := l.store.read(); err == nil {
			removed = slices.Clone(l.within(before))
		}
		return l.store.remove()
	})
	if err != nil {
		return nil, err
	}
	return removed, nil
}

// Restore puts entries back that this List has returned before, each at the place
// that its time gives it. One that was opened again meanwhile stays as it is now,
// and what is beyond the limits does not come back. Entries out of bounds are
// request_invalid, and then nothing is put back.
func (l *List) Restore(ctx context.Context, back []Entry) error {
	for _, e := range back {
		if !validEntry(e) || e.ID != l.id(e.ExternalEncounterID, e.ExternalProviderID) {
			return problem.New(problem.RequestInvalid, errors.New("restoring recents: an entry is out of bounds"))
		}
	}
	return l.change(ctx, func(entries []Entry) []Entry {
		for _, e := range back {
			if position(entries, e.ID) < 0 {
				entries = append(entries, e)
			}
		}
		slices.SortStableFunc(entries, func(a, b Entry) int { return b.OpenedAt.Compare(a.OpenedAt) })
		return entries
	})
}

// Clear removes the person's list and what was set aside of it, without reading
// it.
func (l *List) Clear(ctx context.Context) error {
	return l.locked(ctx, func() error {
		l.memory = nil
		if l.store == nil {
			return nil
		}
		return l.store.remove()
	})
}

// SetAside returns, once, that a file could not be read and was renamed to
// "<name>.unreadable", so that the list started anew; nil when there is nothing
// to tell. It is for the log: no call fails because of it. The problem is
// internal, and its cause says what was wrong with the file and nothing of what
// was in it.
func (l *List) SetAside() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.setAside
	l.setAside = nil
	if err == nil {
		return nil
	}
	return problem.New(problem.Internal, fmt.Errorf("recents were set aside and start anew: %w", err))
}

func (l *List) locked(ctx context.Context, do func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return problem.New(problem.Cancelled, fmt.Errorf("opening recents: %w", err))
	}
	if l.lock != nil {
		unlock, err := l.lock(ctx)
		if err != nil {
			return problem.New(problem.CodeOf(err), fmt.Errorf("locking recents: %w", err))
		}
		defer unlock()
	}
	if err := do(); err != nil {
		return problem.New(problem.Internal, fmt.Errorf("recents: %w", withoutPath(err)))
	}
	return nil
}

// change is the one read-modify-write. It writes only when something is
// different afterwards.
func (l *List) change(ctx context.Context, edit func([]Entry) []Entry) error {
	return l.locked(ctx, func() error {
		before := l.memory
		if l.store != nil {
			var err error
			before, err = l.store.read()
			var bad *unreadable
			if errors.As(err, &bad) {
				err = l.store.putAside()
				l.setAside = bad
			}
			if err != nil {
				return err
			}
		}
		after := l.within(edit(slices.Clone(before)))
		if slices.Equal(before, after) {
			return nil
		}
		if l.store == nil {
			l.memory = after
			return nil
		}
		return l.store.write(after, l.now(), l.limits().Age)
	})
}

// within drops what is beyond the limits. An entry further from now than Age, in
// either direction, has expired: a clock that was once wrong keeps nothing.
func (l *List) within(entries []Entry) []Entry {
	limits, now := l.limits(), l.now()
	var kept []Entry
	for _, e := range entries {
		if len(kept) >= min(limits.Max, maxEntries) {
			break
		}
		if age := now.Sub(e.OpenedAt); age.Abs() < limits.Age {
			kept = append(kept, e)
		}
	}
	return kept
}

func validEntry(e Entry) bool {
	return validIdentifier(e.ExternalEncounterID) && validIdentifier(e.ExternalProviderID) &&
		e.Label == cleanLabel(e.Label) && validStatus(e.Status) &&
		len(e.ID) == 20 && strings.Trim(e.ID, "0123456789abcdef") == "" && !e.OpenedAt.IsZero()
}

func validIdentifier(id string) bool {
	n := utf8.RuneCountInString(id)
	return n > 0 && n <= maxIdentifierRunes && utf8.ValidString(id) && strings.IndexFunc(id, unicode.IsControl) < 0
}

func validStatus(status string) bool {
	return status != "" && len(status) <= maxStatusBytes && strings.Trim(status, "abcdefghijklmnopqrstuvwxyz_") == ""
}

// cleanLabel makes display text: one line of at most 128 characters, in which
// nothing hides or turns the reading direction. The joiners stay, since names in
// several scripts need them. It is idempotent.
func cleanLabel(label string) string {
	const zeroWidthNonJoiner, zeroWidthJoiner = '\u200c', '\u200d'
	var out strings.Builder
	n := 0
	for _, r := range strings.TrimSpace(label) {
		if n == maxLabelRunes {
			break
		}
		shown := unicode.IsGraphic(r) && !unicode.In(r, unicode.Zl, unicode.Zp) && r != utf8.RuneError
		if shown || r == zeroWidthNonJoiner || r == zeroWidthJoiner {
			out.WriteRune(r)
			n++
		}
	}
	return strings.TrimSpace(out.String())
}
