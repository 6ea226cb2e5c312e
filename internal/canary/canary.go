// Package canary sends marked data through the real programs and then looks for the
// marks wherever something could have been left: files, logs, audits, arguments,
// environments, the session bus, notices, window titles, the clipboard, archives for
// support, metrics, traces, and what a crash leaves. A mark that stands anywhere but
// in a place of Allowed, for the reason written there, is a find.
//
// It knows the programs from outside only, as the desktop and the network do. It never
// shows a mark: a find names the mark's kind, the place, and how it was written. It
// never looks at anything that it has not started itself.
package canary

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Kind is what a mark stands for.
type Kind string

// The kinds of marks.
const (
	PatientName    Kind = "patient's name"
	BirthDate      Kind = "birth date"
	PatientID      Kind = "patient's id"
	EncounterID    Kind = "encounter's id"
	FreeText       Kind = "free text of a launch"
	Note           Kind = "exported note"
	Handle         Kind = "handle"
	SignedRequest  Kind = "signed request"
	OneTimeURL     Kind = "one-time URL"
	AccessToken    Kind = "access token"
	RefreshToken   Kind = "refresh token"
	IDToken        Kind = "ID token"
	SignInCode     Kind = "code of a sign-in"
	Verifier       Kind = "PKCE verifier"
	State          Kind = "state or nonce of a sign-in"
	VendorToken    Kind = "vendor's access token"
	Assertion      Kind = "client assertion"
	ClientSecret   Kind = "secret of a server"
	PrivateKey     Kind = "private key"
	ProxyPassword  Kind = "proxy's password"
	IdempotencyKey Kind = "idempotency key"
)

// Kinds are all kinds, in the order of a report.
func Kinds() []Kind {
	return []Kind{
		PatientName, BirthDate, PatientID, EncounterID, FreeText, Note, Handle, SignedRequest, OneTimeURL, AccessToken, RefreshToken, IDToken,
		SignInCode, Verifier, State, VendorToken, Assertion, ClientSecret, PrivateKey, ProxyPassword, IdempotencyKey,
	}
}

// shortest is the least number of bytes of a mark: less would be found by chance.
const shortest = 8

// Marks collects what is looked for. It is safe for concurrent use: servers add what
// they hand out while they do.
type Marks struct {
	mu    sync.Mutex
	known map[string]Kind // guarded by mu
	order []string        // guarded by mu
}

// Add takes a text as a mark of a kind; the first kind of a text stays. Of a JWT the
// header is left out, which says nothing and is alike in all of them. It panics for a
// text that is too short to be told from chance, which is a mistake of whoever chose it.
func (m *Marks) Add(kind Kind, text string) {
	if header, rest, ok := strings.Cut(text, "."); ok && strings.HasPrefix(header, "eyJ") && strings.Count(rest, ".") == 1 {
		_, text, _ = strings.Cut(rest, ".") // the signature: nobody else's
	}
	if len(text) < shortest {
		panic(fmt.Sprintf("canary: a mark of the kind %q has %d bytes", kind, len(text)))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil {
		m.known = map[string]Kind{}
	}
	if _, there := m.known[text]; !there {
		m.known[text] = kind
		m.order = append(m.order, text)
	}
}

// Count returns how many marks there are of each kind.
func (m *Marks) Count() map[Kind]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	count := map[Kind]int{}
	for _, kind := range m.known {
		count[kind]++
	}
	return count
}

// Find is a mark that stands somewhere.
type Find struct {
	Place PlaceName
	// Where says it more closely: the name of a file, a program.
	Where string
	Kind  Kind
	// Form is how it was written: plain, base64 and so on.
	Form string
	// Reason is why it may stand there; empty where it may not.
	Reason string
	// Times is how often.
	Times int
}

func (f Find) String() string {
	return fmt.Sprintf("%s (%s): %s, %s, %d×", f.Place, f.Where, f.Kind, f.Form, f.Times)
}

// Look is how much of a place was searched.
type Look struct {
	Place PlaceName
	Items int
	Bytes int64
}

// Report is what a run has seen.
type Report struct {
	// Looks has every place of Places, in that order.
	Looks []Look
	// Marks is how many marks there were of each kind.
	Marks map[Kind]int
	// Finds are marks where none may be; Met are those that may stand where they were.
	Finds, Met []Find
	// Wrong says what else keeps the run from showing anything: a place that was
	// empty, a kind that never flowed, a row of Allowed that nothing needed, a path
	// that did not do what it should.
	Wrong []string
	// Tried are the paths that were gone, with how each ended.
	Tried []Path
}

// Path is one way through the programs.
type Path struct {
	Name string
	// End is what was expected, and came: a code of a problem, or what happened.
	End string
}

// Good reports whether nothing was found and the run shows it.
func (r Report) Good() bool { return len(r.Finds) == 0 && len(r.Wrong) == 0 }

// judge turns what was found into a report. Without the window its places are left out.
func judge(s *Searcher, count map[Kind]int, allowed []Allowance, withWindow bool) Report {
	r := Report{Marks: count}
	used := make([]bool, len(allowed))
	for _, place := range Places() {
		look := s.looks[place.Name]
		if look == nil {
			look = &Look{Place: place.Name}
		}
		switch {
		case look.Items == 0 && place.Window && !withWindow:
			continue
		case look.Items == 0:
			r.Wrong = append(r.Wrong, fmt.Sprintf("nothing of the place %q was searched", place.Name))
		}
		r.Looks = append(r.Looks, *look)
	}
	for _, kind := range Kinds() {
		if count[kind] == 0 {
			r.Wrong = append(r.Wrong, fmt.Sprintf("no mark of the kind %q flowed", kind))
		}
	}
	for _, f := range s.finds {
		found := *f
		for i, a := range allowed {
			if a.Place == f.Place && slices.Contains(a.Kinds, f.Kind) {
				used[i] = true
				found.Reason = a.Reason
			}
		}
		if found.Reason == "" {
			r.Finds = append(r.Finds, found)
		} else {
			r.Met = append(r.Met, found)
		}
	}
	for i, a := range allowed {
		if !used[i] {
			r.Wrong = append(r.Wrong, fmt.Sprintf("nothing stood in %q that needs its row (%s)", a.Place, a.Kinds))
		}
	}
	order := func(a, b Find) int { return strings.Compare(a.String(), b.String()) }
	slices.SortFunc(r.Finds, order)
	slices.SortFunc(r.Met, order)
	return r
}
