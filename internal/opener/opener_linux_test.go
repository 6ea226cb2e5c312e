package opener

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// call is what the fake xdg-open was started with.
type call struct {
	Args           []string
	Token, Startup *string
	Display        bool
}

// TestMain also plays two programs, which are links to this test binary: the
// fake xdg-open, and one that opens an address.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "xdg-open":
		os.Exit(fakeOpener())
	case openOne:
		os.Exit(runOpenOne())
	}
	os.Exit(m.Run())
}

func fakeOpener() int {
	c := call{Args: os.Args[1:]}
	if v, ok := os.LookupEnv("XDG_ACTIVATION_TOKEN"); ok {
		c.Token = &v
	}
	if v, ok := os.LookupEnv("DESKTOP_STARTUP_ID"); ok {
		c.Startup = &v
	}
	_, c.Display = os.LookupEnv("DISPLAY")
	line, err := json.Marshal(c)
	if err != nil {
		return 90
	}
	f, err := os.OpenFile(os.Getenv("FAKE_RECORD"), os.O_WRONLY, 0)
	if err != nil {
		return 91
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return 92
	}
	os.Stdout.WriteString("noise on stdout\n")
	os.Stderr.WriteString("noise on stderr\n")
	if gate := os.Getenv("FAKE_GATE"); gate != "" {
		// Opening a pipe for reading blocks until the test opens it for writing.
		if _, err := os.Open(gate); err != nil {
			return 93
		}
	}
	if os.Getenv("FAKE_FAILS") != "" {
		return 3
	}
	return 0
}

func pipe(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// fake puts the fake xdg-open on an otherwise empty PATH and returns a function
// that waits for the next call.
func fake(t *testing.T) (calls *bufio.Reader) {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "xdg-open")); err != nil {
		t.Fatal(err)
	}
	record := pipe(t)
	t.Setenv("PATH", dir)
	t.Setenv("FAKE_RECORD", record)
	t.Setenv("DISPLAY", "")
	os.Unsetenv("DISPLAY")
	// Open for both, so that reading waits instead of ending between two calls.
	f, err := os.OpenFile(record, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return bufio.NewReader(f)
}

func next(t *testing.T, calls *bufio.Reader) call {
	t.Helper()
	line, err := calls.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var c call
	if err := json.Unmarshal(line, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func target(t *testing.T, address string) launch.Target {
	t.Helper()
	target, err := launch.Addresses{Hosts: []string{".nabla.com", "connect.nabla.com"}}.Check(secret.New(address))
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// patient is an Opener that waits for its opener for ever.
func patient(log io.Writer) *Opener {
	o := New(slog.New(slog.NewJSONHandler(log, nil)))
	o.grace = func() <-chan time.Time { return nil }
	return o
}

func TestTheOpenerGetsExactlyTheBytesOfEveryPermittedAddressAndNothingElseStarts(t *testing.T) {
	calls := fake(t)
	var log bytes.Buffer
	o := patient(&log)
	file, err := os.Open("testdata/addresses.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines, opened, refused := bufio.NewScanner(file), 0, 0
	for lines.Scan() {
		var v struct {
			Name, URL, Expect string
			Hosts             []string
		}
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		checked, err := launch.Addresses{Hosts: v.Hosts}.Check(secret.New(v.URL))
		if (err == nil) != (v.Expect == "open") {
			t.Errorf("%s: %v", v.Name, err)
		}
		err = o.Open(context.Background(), checked, Activation{})
		if v.Expect == "refuse" {
			refused++
			if !problem.IsCode(err, problem.AddressNotAllowed) {
				t.Errorf("%s: %v", v.Name, err)
			}
			continue
		}
		opened++
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		// The calls come in order, so one that a refused address had started
		// would be read here in place of the right one.
		if c := next(t, calls); len(c.Args) != 1 || c.Args[0] != v.URL || c.Display {
			t.Errorf("%s: the opener got %q", v.Name, c.Args)
		}
	}
	if opened < 4 || refused < 20 || calls.Buffered() != 0 || log.Len() != 0 {
		t.Errorf("%d opened, %d refused, %d bytes more, log %s", opened, refused, calls.Buffered(), &log)
	}
}

func TestTheClickTravelsWithItsOwnAddressOnly(t *testing.T) {
	calls := fake(t)
	t.Setenv("XDG_ACTIVATION_TOKEN", "of the agent's own start")
	t.Setenv("DESKTOP_STARTUP_ID", "of the agent's own start")
	o := patient(io.Discard)
	for _, a := range []Activation{{"t-1", "s-1"}, {}, {Token: "t-3"}, {StartupID: "s-4"}, {Token: "a\x00b", StartupID: strings.Repeat("s", maxTokenBytes+1)}} {
		if err := o.Open(context.Background(), target(t, "https://app.nabla.com/e"), a); err != nil {
			t.Fatal(err)
		}
		c := next(t, calls)
		if strings.Contains(a.Token, "\x00") {
			a = Activation{}
		}
		if token, startup := text(c.Token), text(c.Startup); token != a.Token || startup != a.StartupID {
			t.Errorf("want %+v, got %q and %q", a, token, startup)
		}
		for _, name := range []string{"XDG_ACTIVATION_TOKEN", "DESKTOP_STARTUP_ID"} {
			if v, ok := os.LookupEnv(name); ok {
				t.Errorf("%s stays behind: %q", name, v)
			}
		}
	}
}

func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func TestAnOpenerThatBlocksUntilTheBrowserEndsDoesNotHoldTheLaunch(t *testing.T) {
	calls := fake(t)
	t.Setenv("FAKE_FAILS", "1")
	var log bytes.Buffer
	o := New(slog.New(slog.NewJSONHandler(&log, nil)))
	grace := make(chan time.Time)
	o.grace = func() <-chan time.Time { return grace }

	done := make(chan error)
	var gates []string
	open := func(address string) {
		gates = append(gates, pipe(t))
		t.Setenv("FAKE_GATE", gates[len(gates)-1])
		go func() { done <- o.Open(context.Background(), target(t, address), Activation{Token: "t"}) }()
		if c := next(t, calls); c.Args[0] != address || text(c.Token) != "t" {
			t.Errorf("got %+v", c)
		}
		grace <- time.Time{}
		if err := <-done; err != nil {
			t.Errorf("a running opener is an error: %v", err)
		}
	}
	open("https://app.nabla.com/e?t=canary-1")
	open("https://app.nabla.com/e?t=canary-2")
	if _, ok := os.LookupEnv("XDG_ACTIVATION_TOKEN"); ok {
		t.Error("the token stays behind while the opener runs")
	}
	// The browsers end, badly: that is a line in the log and nothing else.
	for _, gate := range gates {
		w, err := os.OpenFile(gate, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	o.started.Wait()
	if strings.Contains(log.String(), "canary") || !strings.Contains(log.String(), "status 3") {
		t.Errorf("log: %s", &log)
	}
}

func TestWithoutAnOpenerThereIsNoBrowser(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := patient(io.Discard).Open(context.Background(), target(t, "https://app.nabla.com/e?t=canary"), Activation{})
	checkUnavailable(t, err)
}

func TestWhatOthersSetWhileABrowserStartsStays(t *testing.T) {
	calls := fake(t)
	good := os.Getenv("PATH")
	for _, first := range []string{"", t.TempDir() + ":"} {
		t.Setenv("PATH", first+good)
		forget := activate(Activation{})
		other := t.TempDir() + ":" + good
		t.Setenv("PATH", other)
		if forget(); os.Getenv("PATH") != other {
			t.Errorf("PATH becomes %q", os.Getenv("PATH"))
		}
	}
	if err := patient(io.Discard).Open(context.Background(), target(t, "https://app.nabla.com/e"), Activation{}); err != nil {
		t.Fatal(err)
	}
	next(t, calls)
}

func TestAProgramThatAnybodyCanPutIntoThePathNeverGetsAnAddress(t *testing.T) {
	calls := fake(t)
	good := os.Getenv("PATH")
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	got := filepath.Join(t.TempDir(), "got")
	planted := "#!/bin/sh\necho \"$1\" >" + got + "\n"
	if err := os.WriteFile(filepath.Join(open, "xdg-open"), []byte(planted), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(open)
	for _, mode := range []os.FileMode{0o777, 0o777 | os.ModeSticky} {
		if err := os.Chmod(open, mode); err != nil {
			t.Fatal(err)
		}
		for _, first := range []string{open, ".", "", "../open"} {
			t.Setenv("PATH", first+":"+good)
			if err := patient(io.Discard).Open(context.Background(), target(t, "https://app.nabla.com/e"), Activation{}); err != nil {
				t.Fatalf("%q first: %v", first, err)
			}
			next(t, calls) // the right one
			if path := os.Getenv("PATH"); path != good {
				t.Errorf("PATH stays as %q", path)
			}
			t.Setenv("PATH", first)
			checkUnavailable(t, patient(io.Discard).Open(context.Background(), target(t, "https://app.nabla.com/e?t=canary"), Activation{}))
		}
	}
	if _, err := os.Stat(got); err == nil {
		t.Error("what was planted was started")
	}
}

func TestAnOpenerThatFailsAtOnceIsReported(t *testing.T) {
	fake(t)
	t.Setenv("FAKE_FAILS", "1")
	err := patient(io.Discard).Open(context.Background(), target(t, "https://app.nabla.com/e?t=canary"), Activation{})
	checkUnavailable(t, err)
	if !strings.Contains(problem.Of(err).LogValue().String(), "status 3") {
		t.Errorf("the log does not say how: %v", problem.Of(err).LogValue())
	}
}

func TestNoErrorOfTheOpenerShowsTheAddress(t *testing.T) {
	o := patient(io.Discard)
	for _, err := range []error{
		errors.New("opening https://app.nabla.com/e?t=canary"),
		&exec.Error{Name: "canary", Err: exec.ErrNotFound},
		&os.PathError{Op: "fork/exec", Path: "canary", Err: syscall.E2BIG},
		&exec.ExitError{Stderr: []byte("canary"), ProcessState: &os.ProcessState{}},
	} {
		o.start = func(string) error { return err }
		checkUnavailable(t, o.Open(context.Background(), target(t, "https://app.nabla.com/e?t=canary"), Activation{}))
	}
}

func checkUnavailable(t *testing.T, err error) {
	t.Helper()
	if !problem.IsCode(err, problem.BrowserUnavailable) {
		t.Fatalf("got %v", err)
	}
	if shown := problem.Of(err).LogValue().String() + err.Error(); strings.Contains(shown, "canary") {
		t.Errorf("the address is shown: %s", shown)
	}
}

func TestACancelledLaunchStartsNothing(t *testing.T) {
	o := patient(io.Discard)
	o.start = func(string) error { t.Error("started"); return nil }
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := o.Open(ctx, target(t, "https://app.nabla.com/e"), Activation{}); !problem.IsCode(err, problem.Cancelled) {
		t.Errorf("got %v", err)
	}
	// Also while another address has its turn.
	<-o.turn
	ctx, cancel = context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- o.Open(ctx, target(t, "https://app.nabla.com/e"), Activation{}) }()
	cancel()
	if err := <-done; !problem.IsCode(err, problem.Cancelled) {
		t.Errorf("waiting: %v", err)
	}
}

func TestATargetThatNobodyCheckedIsNotOpened(t *testing.T) {
	o := patient(io.Discard)
	o.start = func(string) error { t.Error("started"); return nil }
	if err := o.Open(context.Background(), launch.Target{}, Activation{}); !problem.IsCode(err, problem.AddressNotAllowed) {
		t.Errorf("got %v", err)
	}
}

func TestTheOpenersNoiseGoesNowhere(t *testing.T) {
	calls := fake(t)
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The library took our streams when this process began, so only a process
	// of its own shows what reaches them.
	opens := filepath.Join(dir, openOne)
	if err := os.Symlink(self, opens); err != nil {
		t.Fatal(err)
	}
	noise, err := exec.Command(opens).CombinedOutput()
	next(t, calls)
	if err != nil || len(noise) != 0 {
		t.Errorf("%v, %q", err, noise)
	}
}

// openOne is the name under which this test binary opens one address.
const openOne = "open-one"

func runOpenOne() int {
	t, err := launch.Addresses{Hosts: []string{".nabla.com"}}.Check(secret.New("https://app.nabla.com/e"))
	if err == nil {
		err = patient(io.Discard).Open(context.Background(), t, Activation{})
	}
	if err != nil {
		return 1
	}
	return 0
}
