package recents

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

var start = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// world is one machine: a folder, an identity, a clock, limits and a lock.
type world struct {
	t        *testing.T
	dir      string
	identity secret.Text
	now      time.Time
	limits   Limits
	mu       sync.Mutex
}

func newWorld(t *testing.T) *world {
	t.Helper()
	identity, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, dir: filepath.Join(t.TempDir(), "recents"), identity: identity, now: start, limits: Limits{Max: 10, Age: 24 * time.Hour}}
}

func (w *world) lock(context.Context) (func(), error) { w.mu.Lock(); return w.mu.Unlock, nil }

func (w *world) open(person string) *List {
	w.t.Helper()
	l, err := Open(w.dir, w.identity, person, w.lock, func() Limits { return w.limits }, func() time.Time { return w.now })
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

func encounter(n int) Entry {
	return Entry{ExternalEncounterID: fmt.Sprintf("enc-%d", n), ExternalProviderID: "prov-1", Label: fmt.Sprintf("P. %d", n), Status: "opened"}
}

func add(t *testing.T, l *List, e Entry) Entry {
	t.Helper()
	e, err := l.Add(context.Background(), e)
	if err != nil {
		t.Fatal(problem.Of(err).LogValue())
	}
	return e
}

func labels(t *testing.T, l *List) string {
	t.Helper()
	all, err := l.All(context.Background())
	if err != nil {
		t.Fatal(problem.Of(err).LogValue())
	}
	var out []string
	for _, e := range all {
		out = append(out, e.Label)
	}
	return strings.Join(out, ", ")
}

func (w *world) files() []string {
	w.t.Helper()
	found, err := os.ReadDir(w.dir)
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	var names []string
	for _, f := range found {
		names = append(names, f.Name())
	}
	return names
}

func TestTheNewestComesFirstAndTheSameEncounterOnce(t *testing.T) {
	for _, memory := range []bool{false, true} {
		w := newWorld(t)
		if memory {
			w.dir = ""
		}
		l := w.open("issuer dr-a")
		first := add(t, l, encounter(1))
		add(t, l, encounter(2))
		w.now = w.now.Add(time.Minute)
		changed := encounter(1)
		changed.Label, changed.Status = "P. one", "exported"
		again := add(t, l, changed)
		if again.ID != first.ID || first.ID == "" {
			t.Errorf("ids %q and %q", first.ID, again.ID)
		}
		if got := labels(t, l); got != "P. one, P. 2" {
			t.Errorf("memory %v: %s", memory, got)
		}
		got, found, err := l.Get(context.Background(), first.ID)
		if err != nil || !found || got != again || !got.OpenedAt.Equal(w.now) {
			t.Errorf("Get: %+v, %v, %v", got, found, err)
		}
		if _, found, err := l.Get(context.Background(), "0123"); found || err != nil {
			t.Errorf("Get of nothing: %v, %v", found, err)
		}
		if _, found, err := l.Remove(context.Background(), first.ID); err != nil || !found {
			t.Fatal(err)
		}
		if got := labels(t, l); got != "P. 2" {
			t.Errorf("after Remove: %s", got)
		}
		if !memory {
			if got := labels(t, w.open("issuer dr-a")); got != "P. 2" {
				t.Errorf("after a restart: %s", got)
			}
		} else if names := w.files(); len(names) != 0 {
			t.Errorf("memory wrote %v", names)
		}
		if err := l.Clear(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got := labels(t, l); got != "" || !memory && len(w.files()) != 0 {
			t.Errorf("after Clear: %q, %v", got, w.files())
		}
	}
}

func TestTheSameEncounterOfAnotherProviderIsAnother(t *testing.T) {
	w := newWorld(t)
	l := w.open("issuer dr-a")
	a := add(t, l, Entry{ExternalEncounterID: "1", ExternalProviderID: "p", Status: "opened"})
	b := add(t, l, Entry{ExternalEncounterID: "1", ExternalProviderID: "q", Status: "opened"})
	if a.ID == b.ID {
		t.Error("they share an id")
	}
	other := newWorld(t)
	if c := add(t, other.open("issuer dr-a"), Entry{ExternalEncounterID: "1", ExternalProviderID: "p", Status: "opened"}); c.ID == a.ID {
		t.Error("an id means something on another machine")
	}
}

func TestWhatIsOlderThanItsHoursIsGoneFromTheDiskToo(t *testing.T) {
	w := newWorld(t)
	l := w.open("issuer dr-a")
	add(t, l, encounter(1))
	w.now = w.now.Add(23 * time.Hour)
	add(t, l, encounter(2))
	w.now = w.now.Add(time.Hour)
	if got := labels(t, l); got != "P. 2" {
		t.Errorf("after a day: %s", got)
	}
	w.now = w.now.Add(-time.Hour)
	if got := labels(t, l); got != "P. 2" {
		t.Errorf("turning the clock back brings it back: %s", got)
	}
	w.now = w.now.Add(24 * time.Hour)
	if got := labels(t, l); got != "" || len(w.files()) != 0 {
		t.Errorf("after two days: %q, %v", got, w.files())
	}
}

func TestATimeToComeIsNowAndAWrongClockKeepsNothing(t *testing.T) {
	w := newWorld(t)
	l := w.open("issuer dr-a")
	e := encounter(1)
	e.OpenedAt = w.now.Add(time.Hour)
	if got := add(t, l, e); !got.OpenedAt.Equal(w.now) {
		t.Errorf("opened at %v", got.OpenedAt)
	}
	w.now = w.now.AddDate(-4, 0, 0)
	if got := labels(t, l); got != "" {
		t.Errorf("kept %s", got)
	}
}

func TestLimitsAreReadAtEveryCallAndLoweringThemTrims(t *testing.T) {
	w := newWorld(t)
	l := w.open("issuer dr-a")
	for n := range 15 {
		add(t, l, encounter(n))
	}
	if got := labels(t, l); got != "P. 14, P. 13, P. 12, P. 11, P. 10, P. 9, P. 8, P. 7, P. 6, P. 5" {
		t.Errorf("ten: %s", got)
	}
	w.limits.Max = 2
	if got := labels(t, l); got != "P. 14, P. 13" {
		t.Errorf("two: %s", got)
	}
	w.limits.Max = 10
	if got := labels(t, l); got != "P. 14, P. 13" {
		t.Errorf("raising it again: %s", got)
	}
	w.limits.Max = 0
	if got := labels(t, l); got != "" || len(w.files()) != 0 {
		t.Errorf("none: %q, %v", got, w.files())
	}
	add(t, l, encounter(1))
	w.limits.Max = 10
	if got := labels(t, l); got != "" || len(w.files()) != 0 {
		t.Errorf("added while none are kept: %q, %v", got, w.files())
	}
	w.limits = Limits{Max: 1 << 30, Age: time.Hour}
	for n := range 3 {
		add(t, l, encounter(n))
	}
	w.limits.Age = 0
	if got := labels(t, l); got != "" {
		t.Errorf("no hours: %s", got)
	}
}

func TestPeopleDoNotSeeEachOther(t *testing.T) {
	w := newWorld(t)
	a, b := w.open("issuer dr-a"), w.open("issuer dr-b")
	add(t, a, encounter(1))
	if got := labels(t, b); got != "" {
		t.Errorf("b sees %s", got)
	}
	add(t, b, encounter(2))
	if labels(t, a) != "P. 1" || labels(t, b) != "P. 2" || len(w.files()) != 2 {
		t.Errorf("a %s, b %s, files %v", labels(t, a), labels(t, b), w.files())
	}
	// Even one who renames the files.
	if err := os.Rename(a.store.path(), b.store.path()); err != nil {
		t.Fatal(err)
	}
	if got := labels(t, b); got != "" || b.SetAside() == nil {
		t.Errorf("b sees %s", got)
	}
	add(t, a, encounter(1))
	if err := b.Clear(context.Background()); err != nil {
		t.Fatal(err)
	}
	if labels(t, a) != "P. 1" || len(w.files()) != 1 {
		t.Errorf("clearing b's: a %s, files %v", labels(t, a), w.files())
	}
}

func TestListsOfPeopleWhoDoNotComeBackAreSwept(t *testing.T) {
	w := newWorld(t)
	add(t, w.open("issuer gone"), encounter(1))
	leftover := filepath.Join(w.dir, temporaryPrefix+"123")
	foreign := filepath.Join(w.dir, "README")
	for _, path := range []string{leftover, foreign} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.now = w.now.Add(20 * time.Hour)
	stays := w.open("issuer stays")
	add(t, stays, encounter(2))
	if names := w.files(); len(names) != 3 || slices.Contains(names, temporaryPrefix+"123") {
		t.Errorf("files %v", names)
	}
	w.now = w.now.Add(5 * time.Hour)
	add(t, stays, encounter(3))
	if names := w.files(); len(names) != 2 || !slices.Contains(names, "README") {
		t.Errorf("files %v", names)
	}
	if got := labels(t, stays); got != "P. 3, P. 2" {
		t.Errorf("the one who stays has %s", got)
	}
}

func TestNothingIsReadableInTheFolder(t *testing.T) {
	w := newWorld(t)
	e := Entry{ExternalEncounterID: "ENCOUNTER-CANARY", ExternalProviderID: "PROVIDER-CANARY", Label: "LABEL-CANARY", Status: "opened"}
	kept := add(t, w.open("https://issuer-canary.example SUBJECT-CANARY"), e)
	names := w.files()
	if len(names) != 1 {
		t.Fatalf("files %v", names)
	}
	raw, err := os.ReadFile(filepath.Join(w.dir, names[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, clear := range []string{"CANARY", "canary", "issuer", "opened", kept.ID, "2026"} {
		if bytes.Contains(raw, []byte(clear)) || strings.Contains(names[0], clear) {
			t.Errorf("%q is readable", clear)
		}
	}
}

func TestAFileThatCannotBeReadIsSetAsideAndTheListStartsAnew(t *testing.T) {
	spoil := map[string]func(raw []byte) []byte{
		"empty":            func([]byte) []byte { return nil },
		"torn":             func(raw []byte) []byte { return raw[:len(raw)-5] },
		"torn in header":   func(raw []byte) []byte { return raw[:40] },
		"a byte changed":   func(raw []byte) []byte { raw[len(raw)-20] ^= 1; return raw },
		"never was sealed": func([]byte) []byte { return []byte(`{"v":1}`) },
		"far too large":    func([]byte) []byte { return make([]byte, maxFileBytes+1) },
		"another identity": func([]byte) []byte {
			identity, err := NewIdentity()
			if err != nil {
				t.Fatal(err)
			}
			other, err := Open("unused", identity, "issuer dr-a", nil, func() Limits { return Limits{} }, nil)
			if err != nil {
				t.Fatal(err)
			}
			var sealed bytes.Buffer
			if err := other.store.seal(&sealed, []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
			return sealed.Bytes()
		},
	}
	for name, change := range spoil {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			l := w.open("issuer dr-a")
			add(t, l, encounter(1))
			for range 2 { // one set-aside file is kept, not two
				raw, err := os.ReadFile(l.store.path())
				if err != nil {
					t.Fatal(err)
				}
				spoiled := change(raw)
				if err := os.WriteFile(l.store.path(), spoiled, 0o600); err != nil {
					t.Fatal(err)
				}
				if got := labels(t, l); got != "" {
					t.Errorf("believed %s", got)
				}
				if err := l.SetAside(); problem.CodeOf(err) != problem.Internal || strings.Contains(problem.Of(err).LogValue().String(), w.dir) {
					t.Errorf("reported %v", err)
				}
				if err := l.SetAside(); err != nil {
					t.Errorf("reported twice: %v", err)
				}
				kept, err := os.ReadFile(l.store.path() + ".unreadable")
				if err != nil || !bytes.Equal(kept, spoiled) {
					t.Errorf("set aside: %v", err)
				}
				add(t, l, encounter(2))
				if got := labels(t, l); got != "P. 2" || l.SetAside() != nil {
					t.Errorf("anew: %s", got)
				}
				if names := w.files(); len(names) != 2 {
					t.Errorf("files %v", names)
				}
			}
		})
	}
}

func TestAFileThatCannotBeOpenedIsAnErrorAndStays(t *testing.T) {
	w := newWorld(t)
	l := w.open("issuer dr-a")
	// A folder in its place stands for every error that says nothing of the content.
	if err := os.MkdirAll(filepath.Join(l.store.path(), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := l.All(context.Background())
	if problem.CodeOf(err) != problem.Internal || strings.Contains(problem.Of(err).LogValue().String(), w.dir) {
		t.Errorf("got %v", problem.Of(err).LogValue())
	}
	if l.SetAside() != nil || !slices.Contains(w.files(), l.store.name+".age") {
		t.Errorf("it was set aside: %v", w.files())
	}
}

func TestTwoListsOnOneFileLoseNothing(t *testing.T) {
	w := newWorld(t)
	w.limits.Max = 1000
	const each = 40
	var all sync.WaitGroup
	for list := range 2 {
		l := w.open("issuer dr-a")
		all.Go(func() {
			for n := range each {
				if _, err := l.Add(context.Background(), encounter(list*each+n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got, err := w.open("issuer dr-a").All(context.Background())
	if err != nil || len(got) != 2*each {
		t.Errorf("%d entries, %v", len(got), err)
	}
}

func TestALockThatIsNotGivenIsPassedOnAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	l, err := Open(w.dir, w.identity, "p", func(context.Context) (func(), error) {
		return nil, problem.New(problem.Cancelled, errors.New("no"))
	}, func() Limits { return w.limits }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Add(context.Background(), encounter(1)); problem.CodeOf(err) != problem.Cancelled {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.open("p").Add(ctx, encounter(1)); problem.CodeOf(err) != problem.Cancelled {
		t.Errorf("cancelled: %v", err)
	}
	if names := w.files(); len(names) != 0 {
		t.Errorf("wrote %v", names)
	}
}

func TestWipeAllRemovesEveryListAndNothingElse(t *testing.T) {
	w := newWorld(t)
	a := w.open("issuer dr-a")
	add(t, a, encounter(1))
	add(t, w.open("issuer dr-b"), encounter(2))
	for _, name := range []string{"x.age.unreadable", temporaryPrefix + "9", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := WipeAll(w.dir); err != nil {
			t.Fatal(err)
		}
		if names := w.files(); !slices.Equal(names, []string{"notes.txt"}) {
			t.Errorf("left %v", names)
		}
	}
	if err := errors.Join(WipeAll(""), WipeAll(filepath.Join(w.dir, "missing"))); err != nil {
		t.Error(err)
	}
	if got := labels(t, a); got != "" {
		t.Errorf("a still has %s", got)
	}
}

func TestALabelIsOneLineThatHidesNothing(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "",
		"  A. Müller \n":           "A. Müller",
		"a\x00b\x1b[31mc\u0085d":   "ab[31mcd",
		"abc\u202egnp.exe\u2066":   "abcgnp.exe",
		"x\u200by\ufeffz\u2028w":   "xyzw",
		"\xffbad\xfe":              "bad",
		"می\u200cخواهم":            "می\u200cخواهم",
		strings.Repeat("é", 500):   strings.Repeat("é", 128),
		strings.Repeat("a ", 100):  strings.TrimSpace(strings.Repeat("a ", 64)),
		"\ue000private\U000e0041x": "privatex",
	} {
		if got := cleanLabel(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestAnEntryOutOfBoundsIsRefused(t *testing.T) {
	w := newWorld(t)
	l := w.open("issuer dr-a")
	good := encounter(1)
	for name, spoil := range map[string]func(e *Entry){
		"no encounter":        func(e *Entry) { e.ExternalEncounterID = "" },
		"no provider":         func(e *Entry) { e.ExternalProviderID = "" },
		"a long encounter":    func(e *Entry) { e.ExternalEncounterID = strings.Repeat("é", 257) },
		"a control character": func(e *Entry) { e.ExternalProviderID = "a\nb" },
		"no UTF-8":            func(e *Entry) { e.ExternalEncounterID = "\xff" },
		"no status":           func(e *Entry) { e.Status = "" },
		"an address":          func(e *Entry) { e.Status = "https://x.example" },
	} {
		e := good
		spoil(&e)
		if _, err := l.Add(context.Background(), e); problem.CodeOf(err) != problem.RequestInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if names := w.files(); len(names) != 0 {
		t.Errorf("wrote %v", names)
	}
	longest := good
	longest.ExternalEncounterID, longest.ExternalProviderID = strings.Repeat("é", 256), strings.Repeat("€", 256)
	if got := add(t, l, longest); got.ExternalEncounterID != longest.ExternalEncounterID {
		t.Error("changed")
	}
}

func TestAThousandOfTheLargestEntriesFitInTheFile(t *testing.T) {
	w := newWorld(t)
	l := w.open("issuer dr-a")
	var entries []Entry
	for n := range maxEntries {
		entries = append(entries, Entry{
			ID: fmt.Sprintf("%020x", n), ExternalEncounterID: strings.Repeat("<", 256), ExternalProviderID: strings.Repeat("𝒳", 256),
			Label: strings.Repeat("<", 128), OpenedAt: start, Status: strings.Repeat("s", 32),
		})
	}
	if err := l.store.write(entries, w.now, time.Hour); err != nil {
		t.Fatal(err)
	}
	got, err := l.store.read()
	if err != nil || !slices.Equal(got, entries) {
		t.Errorf("%d entries, %v", len(got), err)
	}
}

func TestAnIdentityThatIsNotOneIsCorrupt(t *testing.T) {
	for _, text := range []string{"", "canary", "AGE-SECRET-KEY-1CANARY"} {
		_, err := Open("dir", secret.New(text), "p", nil, func() Limits { return Limits{} }, nil)
		if problem.CodeOf(err) != problem.KeyringCorrupt || strings.Contains(strings.ToLower(problem.Of(err).LogValue().String()), "canary") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Open("", secret.Text{}, "p", nil, func() Limits { return Limits{} }, nil); err != nil {
		t.Errorf("memory needs no identity: %v", err)
	}
	if _, err := Open("", secret.Text{}, "", nil, func() Limits { return Limits{} }, nil); err == nil {
		t.Error("nobody has a list")
	}
}

func FuzzWhatIsReadStaysWithinBounds(f *testing.F) {
	identity, err := NewIdentity()
	if err != nil {
		f.Fatal(err)
	}
	l, err := Open("unused", identity, "p", nil, func() Limits { return Limits{Max: 10, Age: time.Hour} }, nil)
	if err != nil {
		f.Fatal(err)
	}
	good, err := encode([]Entry{{ID: strings.Repeat("0", 20), ExternalEncounterID: "e", ExternalProviderID: "p", Label: "L", OpenedAt: start, Status: "opened"}}, l.store.name)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(good), "", "{}", `{"v":1,"owner":"` + l.store.name + `","entries":[]}`, "age-encryption.org/v1\n-> X25519 a\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		var bad *unreadable
		if _, err := unseal(input, l.store.name, l.store.identity); err == nil || !errors.As(err, &bad) {
			t.Fatalf("what was not sealed to the identity: %v", err)
		}
		// And once somebody has the recipient and seals what he likes.
		var sealed bytes.Buffer
		if err := l.store.seal(&sealed, input); err != nil {
			t.Fatal(err)
		}
		// One bit of it changed, and nothing of it is read.
		if changed := bytes.Clone(sealed.Bytes()); len(input) > 0 {
			at := int(input[0]) * len(changed) / 256
			changed[at] ^= 1 << (len(input) % 8)
			if entries, err := unseal(changed, l.store.name, l.store.identity); !errors.As(err, &bad) || entries != nil {
				t.Fatalf("byte %d was changed, and %d entries are read, %v", at, len(entries), err)
			}
		}
		entries, err := unseal(sealed.Bytes(), l.store.name, l.store.identity)
		if entries2, err := unseal(sealed.Bytes(), l.store.name+"x", l.store.identity); err == nil || entries2 != nil {
			t.Fatal("another person's list was read")
		}
		if err != nil {
			if !errors.As(err, &bad) {
				t.Fatalf("outcome %v", err)
			}
			return
		}
		if len(entries) > maxEntries {
			t.Fatalf("%d entries", len(entries))
		}
		for _, e := range entries {
			if utf8.RuneCountInString(e.Label) > maxLabelRunes || cleanLabel(e.Label) != e.Label || len(e.Status) > maxStatusBytes ||
				utf8.RuneCountInString(e.ExternalEncounterID) > 256 || utf8.RuneCountInString(e.ExternalProviderID) > 256 {
				t.Fatalf("out of bounds: %+v", e)
			}
		}
		again, err := encode(entries, l.store.name)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parse(again, l.store.name)
		if err != nil || !slices.Equal(back, entries) {
			t.Fatalf("it does not come back: %v", err)
		}
	})
}
