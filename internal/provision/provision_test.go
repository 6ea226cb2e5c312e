package provision

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"encounterlauncher/internal/assertion"
	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/nablasim"
)

const (
	testClient = "6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11"
	head       = "provider_email,external_provider_id,specialty,other_specialty_name,speech_locale,secondary_speech_locale\n"
)

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }
func (c *clock) sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
	return ctx.Err()
}

// world is the real client before the real simulator.
type world struct {
	clock  *clock
	sim    *nablasim.Sim
	client *nabla.Client
	// users counts the calls of POST /users, and most how many were under way at once.
	users, under, most atomic.Int32
	// onUser, when set, is called within each.
	onUser func(n int32)
	folder string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{clock: &clock{t: time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)}, folder: t.TempDir()}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/users") {
			n, under := w.users.Add(1), w.under.Add(1)
			for most := w.most.Load(); under > most && !w.most.CompareAndSwap(most, under); most = w.most.Load() {
			}
			defer w.under.Add(-1)
			if w.onUser != nil {
				w.onUser(n)
			}
		}
		w.sim.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w.client, err = nabla.New(nabla.Config{
		BaseURL: server.URL + "/v1/connect/server", ClientID: testClient, Keys: []assertion.Key{{Signer: key}}, Now: w.clock.now,
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.sim, err = nablasim.New(nablasim.Config{
		BaseURL: server.URL + "/v1/connect/server", Now: w.clock.now, Clients: map[string]nablasim.Client{testClient: {JWKS: w.client.JWKS()}},
		TokenLife: 12 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) record(t *testing.T) *Record {
	t.Helper()
	r, err := OpenRecord(filepath.Join(w.folder, "users.csv.done"), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func (w *world) run(ctx context.Context, lines []Line, record *Record) Result {
	return Run(ctx, Job{Users: w.client, Lines: lines, Record: record, Now: w.clock.now, Sleep: w.clock.sleep})
}

// list makes n users, from line 2 on, with the domain of their addresses.
func list(t *testing.T, n int, domain string) []Line {
	t.Helper()
	var text strings.Builder
	text.WriteString(head)
	for i := range n {
		fmt.Fprintf(&text, "u%d@%s,D-%d,CARDIOLOGY,,GERMAN_DE,\n", i, domain, i)
	}
	lines, err := ReadCSV(strings.NewReader(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestAListIsProvisionedOnceAndThenKnown(t *testing.T) {
	w := newWorld(t)
	lines := list(t, 40, "a.example")
	var told []int
	record := w.record(t)
	got := Run(t.Context(), Job{
		Users: w.client, Lines: lines, Record: record, Now: w.clock.now, Sleep: w.clock.sleep, Progress: func(over, _ int) { told = append(told, over) },
	})
	if !got.Done() || got.Created != 40 || w.users.Load() != 40 || w.most.Load() > 4 || len(told) != 40 || told[39] != 40 {
		t.Errorf("%+v, %d calls, %d at once, told %v", got, w.users.Load(), w.most.Load(), told)
	}
	if got := w.run(t.Context(), lines, w.record(t)); !got.Done() || got.Before != 40 || w.users.Load() != 40 {
		t.Errorf("again: %+v, %d calls", got, w.users.Load())
	}
	// Without the record they are found.
	w.clock.sleep(t.Context(), time.Hour)
	if got := w.run(t.Context(), lines, nil); !got.Done() || got.Found != 40 {
		t.Errorf("found: %+v", got)
	}
}

func TestOnlyTheLinesThatChangedAreSentAgain(t *testing.T) {
	w := newWorld(t)
	lines := list(t, 10, "a.example")
	if got := w.run(t.Context(), lines, w.record(t)); !got.Done() {
		t.Fatalf("%+v", got)
	}
	lines[3].User.Settings.SpeechLocale = "FRENCH_FR"
	lines[0], lines[9] = lines[9], lines[0]
	if got := w.run(t.Context(), lines[:8], w.record(t)); !got.Done() || got.Before != 7 || w.users.Load() != 11 {
		t.Errorf("%+v, %d calls", got, w.users.Load())
	}
	other, err := OpenRecord(filepath.Join(w.folder, "users.csv.done"), "another account")
	if err != nil || other.Count(lines) != 0 {
		t.Errorf("what was done at one account is done at another: %v", err)
	}
	_ = other.Close()
}

func TestConflictsAndRefusalsAreCollectedAndTheOthersProvisioned(t *testing.T) {
	w := newWorld(t)
	if got := w.run(t.Context(), list(t, 3, "other.example"), nil); !got.Done() {
		t.Fatalf("%+v", got)
	}
	lines := list(t, 20, "a.example")
	// Nabla refuses an enum's word that it does not know; the simulator one that is no word.
	lines[19].User.Settings.SpeechLocale = "_"
	record := w.record(t)
	got := w.run(t.Context(), lines, record)
	if got.Done() || got.Created != 16 || len(got.Conflicts) != 3 || len(got.Refused) != 1 || got.Conflicts[0].Number != 2 || got.Conflicts[2].Number != 4 || got.Refused[0].Number != 21 {
		t.Errorf("%+v", got)
	}
	if record.Count(lines) != 16 {
		t.Error("a refused line counts as done")
	}
	if text := got.Summary(""); text != "16 of 20 provisioned, 3 conflicts (lines 2, 3, 4), 1 refused (line 21)" {
		t.Error(text)
	}
	var file bytes.Buffer
	if err := WriteConflicts(&file, got); err != nil {
		t.Fatal(err)
	}
	want := "line,provider_email,external_provider_id,reason\n2,u0@a.example,D-0,conflict\n3,u1@a.example,D-1,conflict\n4,u2@a.example,D-2,conflict\n21,u19@a.example,D-19,refused\n"
	if file.String() != want {
		t.Error(file.String())
	}
}

func (w *world) fault(t *testing.T, f nablasim.Fault) {
	t.Helper()
	if _, err := w.sim.AddFault(f); err != nil {
		t.Fatal(err)
	}
}

func TestARunWaitsAsLongAsTheVendorAsks(t *testing.T) {
	w := newWorld(t)
	w.fault(t, nablasim.Fault{Call: nablasim.CallUsers, Kind: nablasim.Fault429, RetryAfterSeconds: 90, Times: 4})
	began := w.clock.now()
	var waits []time.Duration
	got := Run(t.Context(), Job{
		Users: w.client, Lines: list(t, 20, "a.example"), Now: w.clock.now, Sleep: w.clock.sleep,
		Waiting: func(d time.Duration) { waits = append(waits, d) },
	})
	if took := w.clock.now().Sub(began); !got.Done() || took < 90*time.Second || len(waits) == 0 || waits[0] != 90*time.Second {
		t.Errorf("%+v after %v, waits %v", got, w.clock.now().Sub(began), waits)
	}
}

func TestARunEndsWhenTheVendorDoesNotComeBackAndGoesOnLater(t *testing.T) {
	w := newWorld(t)
	lines := list(t, 20, "a.example")
	w.fault(t, nablasim.Fault{Call: nablasim.CallUsers, Kind: nablasim.Fault503, Always: true})
	record := w.record(t)
	got := w.run(t.Context(), lines, record)
	if got.Done() || got.Stopped == nil || got.NotTried != 20 || got.Interrupted {
		t.Errorf("%+v", got)
	}
	w.sim.ClearFaults()
	w.fault(t, nablasim.Fault{Call: nablasim.CallUsers, Kind: nablasim.Fault429, RetryAfterSeconds: 3600})
	w = sameVendor(t, w)
	if got := w.run(t.Context(), lines, record); got.Stopped == nil || nabla.RetryAfter(got.Stopped) != time.Hour {
		t.Errorf("an hour was waited: %+v", got)
	}
	if got := w.run(t.Context(), lines, record); !got.Done() || got.Before+got.Created+got.Found != 20 {
		t.Errorf("%+v", got)
	}
}

// sameVendor is a later start of the program: its circuit breaker knows nothing.
func sameVendor(t *testing.T, w *world) *world {
	t.Helper()
	next := newWorld(t)
	next.folder = w.folder
	for _, f := range w.sim.Faults() {
		next.fault(t, nablasim.Fault{Call: f.Call, Kind: f.Kind, Times: f.Times, Always: f.Always, RetryAfterSeconds: f.RetryAfterSeconds})
	}
	return next
}

func TestALostAnswerIsAskedForAgain(t *testing.T) {
	w := newWorld(t)
	w.fault(t, nablasim.Fault{Call: nablasim.CallUsers, Kind: nablasim.FaultLostAnswer, Times: 3})
	w.fault(t, nablasim.Fault{Call: nablasim.CallUsers, Kind: nablasim.FaultTruncated, Times: 2})
	if got := w.run(t.Context(), list(t, 20, "a.example"), nil); !got.Done() || got.Created != 20 {
		t.Errorf("%+v", got)
	}
}

func TestAnInterruptionAwaitsTheCallsUnderWayAndTheNextRunGoesOn(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.onUser = func(n int32) {
		if n == 10 {
			cancel()
		}
	}
	lines := list(t, 50, "a.example")
	record := w.record(t)
	got := w.run(ctx, lines, record)
	sent := int(w.users.Load())
	if !got.Interrupted || got.Stopped != nil || got.Done() || got.Created != sent || sent > 10+4 || got.NotTried != 50-sent {
		t.Errorf("%+v, %d calls", got, sent)
	}
	if record.Count(lines) != sent {
		t.Errorf("%d of %d are recorded", record.Count(lines), sent)
	}
	if got := w.run(t.Context(), lines, w.record(t)); !got.Done() || got.Before != sent || int(w.users.Load()) != 50 {
		t.Errorf("%+v, %d calls", got, w.users.Load())
	}
}

func TestARecordThatWasCutOffOrIsSomethingElse(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.done")
	lines := list(t, 3, "a.example")
	r, err := OpenRecord(name, "a")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines[:2] {
		if err := r.add(l.User); err != nil {
			t.Fatal(err)
		}
	}
	_ = r.Close()
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(name)
	if err != nil || bytes.Contains(text, []byte("example")) || bytes.Contains(text, []byte("D-")) {
		t.Fatalf("%s, %v", text, err)
	}
	if err := os.WriteFile(name, text[:len(text)-9], 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err = OpenRecord(name, "a"); err != nil || r.Count(lines) != 1 {
		t.Fatalf("cut off: %v", err)
	}
	for _, l := range lines[1:] {
		if err := r.add(l.User); err != nil {
			t.Fatal(err)
		}
	}
	_ = r.Close()
	if r, err = ReadRecord(name, "a"); err != nil || r.Count(lines) != 3 {
		t.Errorf("gone on: %v", err)
	}
	if err := os.WriteFile(name, []byte("provider_email\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRecord(name, "a"); err == nil {
		t.Error("another's file was taken for a record")
	}
	if _, err := OpenRecord(t.TempDir(), "a"); err == nil {
		t.Error("a folder was taken for a record")
	}
	missing := filepath.Join(t.TempDir(), "none.done")
	if r, err := ReadRecord(missing, "a"); err != nil || r.Has(lines[0].User) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("looking made a record")
	}
}

func TestAListIsReadByTheLetter(t *testing.T) {
	lines, err := ReadCSV(strings.NewReader("\xef\xbb\xbfexternal_provider_id,speech_locale,provider_email,specialty,other_specialty_name\r\n\"D-1, second\",,ada@a.example,OTHER,Médecine tropicale\r\n\r\nD-2,en-GB,\"b@a.example\",,\r\n"))
	if err != nil || len(lines) != 2 || lines[0].Number != 2 || lines[1].Number != 4 || lines[0].User.ExternalProviderID != "D-1, second" ||
		lines[0].User.Settings.Specialty.OtherName != "Médecine tropicale" || lines[1].User.Settings.Specialty != nil || lines[1].User.Settings.SpeechLocale != "en-GB" {
		t.Fatalf("%+v, %v", lines, err)
	}
}

func TestAListWithAFaultIsRefusedWithItsLines(t *testing.T) {
	const good = "a@a.example,D-1,,,,\n"
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"nothing":                 {"", []string{"the list is empty"}},
		"only a header":           {head, []string{"a header and no user"}},
		"no header":               {good, []string{"line 1: ", "column 1 is none of", "provider_email is missing"}},
		"an unknown column":       {"provider_email,external_provider_id,Kanarienvogel\na@a.example,D-1,x\n", []string{"line 1: column 3 is none of"}},
		"a column twice":          {"provider_email,external_provider_id,specialty,specialty\na@a.example,D-1,x,y\n", []string{"line 1: the column specialty is there twice"}},
		"a column missing":        {"provider_email\na@a.example\n", []string{"line 1: the column external_provider_id is missing"}},
		"capitals in the header":  {"Provider_Email,external_provider_id\na@a.example,D-1\n", []string{"column 1 is none of", "provider_email is missing"}},
		"semicolons":              {"provider_email;external_provider_id\na@a.example;D-1\n", []string{"separated by semicolons"}},
		"too few fields":          {head + good + "b@a.example,D-2\n", []string{"line 3: it does not have as many fields as the header"}},
		"too many fields":         {head + "b@a.example,D-2,,,,,\n", []string{"line 2: it does not have as many"}},
		"a stray quotation mark":  {head + good + "b\"@a.example,D-2,,,,\n", []string{"line 3: it is not CSV"}},
		"a quotation without end": {head + "\"b@a.example,D-2,,,,\n", []string{"it is not CSV"}},
		"an id twice":             {head + good + "b@a.example,D-1,,,,\n", []string{"line 3: external_provider_id is that of line 2, too"}},
		"an address twice":        {head + good + "A@A.example,D-2,,,,\n", []string{"line 3: provider_email is that of line 2, too"}},
		"no address":              {head + "Kanarienvogel,D-1,,,,\n", []string{"line 2: provider_email is not an e-mail address"}},
		"a name and an address":   {head + "Ada <a@a.example>,D-1,,,,\n", []string{"line 2: provider_email is not an e-mail address"}},
		"no id":                   {head + "a@a.example,,,,,\n", []string{"line 2: external_provider_id does not have 1 to 256"}},
		"a long id":               {head + "a@a.example," + strings.Repeat("ä", 257) + ",,,,\n", []string{"line 2: external_provider_id"}},
		"a space behind an id":    {head + "a@a.example,D-1 ,,,,\n", []string{"line 2: external_provider_id begins or ends with a space"}},
		"an id over two lines":    {head + "a@a.example,\"D\n1\",,,,\n", []string{"line 2: external_provider_id"}},
		"a turned id":             {head + "a@a.example,D\u202e1,,,,\n", []string{"line 2: external_provider_id"}},
		"small letters":           {head + "a@a.example,D-1,cardiology,,,\n", []string{"line 2: specialty is not a word"}},
		"OTHER without a name":    {head + "a@a.example,D-1,OTHER,,,\n", []string{"line 2: other_specialty_name belongs to"}},
		"a name without OTHER":    {head + "a@a.example,D-1,CARDIOLOGY,x,,\n", []string{"line 2: other_specialty_name belongs to"}},
		"a name alone":            {head + "a@a.example,D-1,,x,,\n", []string{"line 2: specialty is not a word"}},
		"a locale with a space":   {head + "a@a.example,D-1,,,de DE,\n", []string{"line 2: speech_locale is not a word"}},
		"a long locale":           {head + "a@a.example,D-1,,,," + strings.Repeat("X", 65) + "\n", []string{"line 2: secondary_speech_locale"}},
		"Latin 1":                 {head + "a@a.example,D-\xe4,,,,\n", []string{"not UTF-8"}},
		"UTF-16":                  {"\xff\xfep\x00", []string{"not UTF-8"}},
		"several faults":          {head + "x,D-1,,,,\n" + "y,D-1,,,,\n", []string{"line 2: provider_email", "line 3: provider_email", "line 3: external_provider_id is that"}},
		"very many":               {head + strings.Repeat("x\n", 1500), []string{"line 2: ", "line 21: ", "and 1,480 more"}},
	} {
		t.Run(name, func(t *testing.T) {
			lines, err := ReadCSV(strings.NewReader(c.text))
			if err == nil || lines != nil {
				t.Fatalf("%+v was taken", lines)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in %q", want, err.Error())
				}
			}
			if strings.Contains(err.Error(), "Kanarienvogel") {
				t.Errorf("quoted: %v", err)
			}
		})
	}
}

func TestTheSummarySaysWhatHappened(t *testing.T) {
	lines := make([]Line, 12)
	for i := range lines {
		lines[i].Number = i + 995
	}
	for want, r := range map[string]struct {
		Result
		file string
	}{
		"1,203 of 1,250 provisioned, 44 were there, 3 conflicts (see conflicts.csv)":                                                                {Result{Total: 1250, Created: 1203, Found: 44, Conflicts: lines[:3]}, "conflicts.csv"},
		"0 of 1 provisioned, 1 conflict (line 995)":                                                                                                 {Result{Total: 1, Conflicts: lines[:1]}, ""},
		"1 of 15 provisioned, 1 was there, 1 done before, 12 refused (lines 995, 996, 997, 998, 999, 1,000, 1,001, 1,002, 1,003, 1,004 and 2 more)": {Result{Total: 15, Created: 1, Found: 1, Before: 1, Refused: lines}, ""},
		"2 of 1,000,002 provisioned, 1,000,000 not tried":                                                                                           {Result{Total: 1000002, Created: 2, NotTried: 1000000}, ""},
	} {
		if got := r.Summary(r.file); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestWhatASpreadsheetWouldRunIsMadeInert(t *testing.T) {
	var out bytes.Buffer
	err := WriteConflicts(&out, Result{Conflicts: []Line{{Number: 2, User: User("+a@a.example", "=1+1", "", "", "", "")}}})
	if err != nil || !strings.Contains(out.String(), "2,'+a@a.example,'=1+1,conflict") {
		t.Errorf("%s, %v", out.String(), err)
	}
}

func TestProgressIsABarOnATerminalAndLinesElsewhere(t *testing.T) {
	var plain, terminal bytes.Buffer
	for out, isTerminal := range map[*bytes.Buffer]bool{&plain: false, &terminal: true} {
		progress, waiting, end := Show(out, 1250, 0, isTerminal)
		for over := 1; over <= 1250; over++ {
			progress(over, 1250)
		}
		waiting(90 * time.Second)
		end()
	}
	if got := plain.String(); strings.Count(got, "\n") != 11 || !strings.HasPrefix(got, "125 of 1,250\n") || !strings.Contains(got, "waiting for 1m30s") {
		t.Errorf("%s", got)
	}
	if got := terminal.String(); !strings.Contains(got, "\r") || !strings.Contains(got, "/1250") {
		t.Errorf("%q", got)
	}
}
