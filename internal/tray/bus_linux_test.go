package tray

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"

	"encounterlauncher/internal/text"
	"encounterlauncher/internal/view"
)

// The library under the tray has one tray in a process, so each test has a
// process of its own: this binary, started again, is the agent.
const agentVariable = "TRAY_TEST_AGENT"

// order is what a test tells its agent, one JSON object in a line.
type order struct {
	Now      *time.Time     `json:"now,omitempty"`
	Snapshot *view.Snapshot `json:"snapshot,omitempty"`
	Stop     bool           `json:"stop,omitempty"`
}

func TestMain(m *testing.M) {
	if os.Getenv(agentVariable) == "" {
		os.Exit(m.Run())
	}
	if err := beAgent(); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

type printer struct{}

func (printer) Do(_ context.Context, name, id string) error {
	fmt.Println(strings.TrimSpace("intent " + name + " " + id))
	if name == quit {
		return errors.New("a refusal is logged and hurts nothing")
	}
	return nil
}

// beAgent runs the tray with a clock that stands still until it is told otherwise.
// It says "taken" for every order.
func beAgent() error {
	var now atomic.Pointer[time.Time]
	start := noon
	now.Store(&start)
	ctx, cancel := context.WithCancel(context.Background())
	snapshots := make(chan view.Snapshot)
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, snapshots, printer{}, Options{ID: "tray-test", Now: func() time.Time { return *now.Load() }})
	}()
	orders := json.NewDecoder(os.Stdin)
	for {
		var o order
		if err := orders.Decode(&o); err != nil || o.Stop {
			break
		}
		if o.Now != nil {
			now.Store(o.Now)
		}
		if o.Snapshot != nil {
			snapshots <- *o.Snapshot
		}
		fmt.Println("taken")
	}
	cancel()
	err := <-done
	fmt.Println("returned")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return err
}

// bus starts a session bus of its own, without services to activate, and returns
// its address and its process.
func bus(t *testing.T) (string, *exec.Cmd) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return startBus(t, dir)
}

// startBus starts a bus in a folder, also one whose bus was killed.
func startBus(t *testing.T, dir string) (string, *exec.Cmd) {
	t.Helper()
	_ = os.Remove(filepath.Join(dir, "bus"))
	config := filepath.Join(dir, "bus.conf")
	rules := `<busconfig><type>session</type><listen>unix:path=` + dir + `/bus</listen><policy context="default">` +
		`<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`
	if err := os.WriteFile(config, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dbus-daemon", "--config-file="+config, "--nofork", "--nopidfile", "--print-address=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("this test needs dbus-daemon: %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("dbus-daemon did not start")
	}
	return lines.Text(), cmd
}

// agent is the started process.
type agent struct {
	t     *testing.T
	in    io.WriteCloser
	lines chan string
}

func startAgent(t *testing.T, environment ...string) *agent {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), agentVariable+"=1", "GORACE=exitcode=0 atexit_sleep_ms=0"), environment...)
	var log strings.Builder
	cmd.Stderr = &log
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t, in: in, lines: make(chan string, 64)}
	go func() {
		defer close(a.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			a.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = in.Close()
		for range a.lines {
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the agent: %v\n%s", err, log.String())
		}
		// The library numbers a layout without its lock 150 ms after it was first read:
		// a race of its own about one number. Any other is ours.
		for _, race := range strings.Split(log.String(), "WARNING: DATA RACE")[1:] {
			if !strings.Contains(race, "systray.(*tray).GetLayout.func1()") {
				t.Errorf("a race:%s", race)
			}
		}
	})
	return a
}

// patience bounds what never happens when all is well.
const patience = 20 * time.Second

func (a *agent) line() string {
	a.t.Helper()
	select {
	case l := <-a.lines:
		return l
	case <-time.After(patience):
		a.t.Fatal("the agent said nothing")
	}
	return ""
}

// tell gives an order and waits until the tray has taken it.
func (a *agent) tell(o order) {
	a.t.Helper()
	if err := json.NewEncoder(a.in).Encode(o); err != nil {
		a.t.Fatal(err)
	}
	a.expect("taken")
}

func (a *agent) show(s view.Snapshot) { a.t.Helper(); a.tell(order{Snapshot: &s}) }
func (a *agent) at(now time.Time)     { a.t.Helper(); a.tell(order{Now: &now}) }

func (a *agent) expect(want string) {
	a.t.Helper()
	if got := a.line(); got != want {
		a.t.Fatalf("the agent said %q, want %q", got, want)
	}
}

// stop ends the tray and makes sure that it had nothing more to say.
func (a *agent) stop() {
	a.t.Helper()
	if err := json.NewEncoder(a.in).Encode(order{Stop: true}); err != nil {
		a.t.Fatal(err)
	}
	a.expect("returned")
	_ = a.in.Close()
	if l, more := <-a.lines; more {
		a.t.Fatalf("the agent said %q after the end", l)
	}
}

// host is a desktop's notification area: a StatusNotifierWatcher that draws menus.
type host struct {
	t       *testing.T
	conn    *dbus.Conn
	items   chan dbus.Sender
	signals chan *dbus.Signal
	item    string
	updated map[int32]int // how often the properties of an item were announced
	hidden  string        // what hidden lines said in the menu read last
}

type area struct{ items chan dbus.Sender }

func (w *area) RegisterStatusNotifierItem(_ string, sender dbus.Sender) *dbus.Error {
	w.items <- sender
	return nil
}

func connectTo(t *testing.T, address string) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func startHost(t *testing.T, address string) *host {
	t.Helper()
	conn := connectTo(t, address)
	h := &host{t: t, conn: conn, items: make(chan dbus.Sender, 4), signals: make(chan *dbus.Signal, 4096), updated: map[int32]int{}}
	const name, path = "org.kde.StatusNotifierWatcher", "/StatusNotifierWatcher"
	if _, err := prop.Export(conn, path, prop.Map{name: {
		"RegisteredStatusNotifierItems":  {Value: []string{}, Emit: prop.EmitTrue},
		"IsStatusNotifierHostRegistered": {Value: true, Emit: prop.EmitTrue},
		"ProtocolVersion":                {Value: int32(0), Emit: prop.EmitTrue},
	}}); err != nil {
		t.Fatal(err)
	}
	if err := conn.Export(&area{h.items}, path, name); err != nil {
		t.Fatal(err)
	}
	conn.Signal(h.signals)
	if err := conn.AddMatchSignal(dbus.WithMatchInterface("com.canonical.dbusmenu")); err != nil {
		t.Fatal(err)
	}
	if reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
	return h
}

// wait waits until the agent's icon has come.
func (h *host) wait() {
	h.t.Helper()
	select {
	case sender := <-h.items:
		h.item = string(sender)
	case <-time.After(patience):
		h.t.Fatal("no icon came")
	}
}

func (h *host) property(name string) any {
	h.t.Helper()
	v, err := h.conn.Object(h.item, "/StatusNotifierItem").GetProperty("org.kde.StatusNotifierItem." + name)
	if err != nil {
		h.t.Fatal(err)
	}
	return v.Value()
}

// row is one line as the desktop draws it.
type row struct {
	id      int32
	label   string
	enabled bool
}

// menu reads the menu and returns what is to be seen.
func (h *host) menu() []row {
	h.t.Helper()
	call := h.conn.Object(h.item, "/StatusNotifierItem/menu").Call("com.canonical.dbusmenu.GetLayout", 0, int32(0), int32(-1), []string{})
	if call.Err != nil {
		h.t.Fatal(call.Err)
	}
	h.hidden = ""
	return h.rows(call.Body[1].([]any)[2].([]dbus.Variant), true)
}

// rows returns the lines that can be seen, those of a submenu after the line that
// opens it.
func (h *host) rows(children []dbus.Variant, seen bool) []row {
	h.t.Helper()
	var rows []row
	for _, child := range children {
		fields := child.Value().([]any)
		properties := fields[1].(map[string]dbus.Variant)
		shown, said := properties["visible"].Value().(bool)
		label, _ := properties["label"].Value().(string)
		if kind, _ := properties["type"].Value().(string); kind == "separator" {
			continue
		}
		visible := seen && (shown || !said)
		if visible {
			enabled, _ := properties["enabled"].Value().(bool)
			rows = append(rows, row{fields[0].(int32), label, enabled})
		} else {
			h.hidden += label
		}
		inside := h.rows(fields[2].([]dbus.Variant), visible)
		if display, _ := properties["children-display"].Value().(string); len(inside) > 0 && display != "submenu" {
			h.t.Error("lines inside a line that is no submenu")
		}
		rows = append(rows, inside...)
	}
	return rows
}

func labels(rows []row) []string {
	var out []string
	for _, r := range rows {
		if r.enabled {
			out = append(out, r.label)
		} else {
			out = append(out, "("+r.label+")")
		}
	}
	return out
}

// until reads the menu again after every announcement until it shows these lines.
func (h *host) until(want ...string) []row {
	h.t.Helper()
	for {
		rows := h.menu()
		if slices.Equal(labels(rows), want) {
			if h.hidden != "" {
				h.t.Errorf("hidden lines still say %q", h.hidden)
			}
			return rows
		}
		h.signal(fmt.Sprintf("the menu shows %q, want %q", labels(rows), want))
	}
}

func (h *host) signal(otherwise string) { h.t.Helper(); h.next(otherwise) }

// told waits for a signal of this name.
func (h *host) told(name, otherwise string) {
	h.t.Helper()
	for !strings.HasSuffix(h.next(otherwise), "."+name) {
	}
}

func (h *host) next(otherwise string) (name string) {
	h.t.Helper()
	select {
	case s := <-h.signals:
		name = s.Name
		if strings.HasSuffix(s.Name, ".ItemsPropertiesUpdated") {
			for _, item := range s.Body[0].([][]any) {
				h.updated[item[0].(int32)]++
			}
		}
	case <-time.After(patience):
		h.t.Fatal(otherwise)
	}
	return name
}

func (h *host) click(r row) { h.t.Helper(); h.event(r.id, "clicked") }

func (h *host) event(id int32, name string) {
	h.t.Helper()
	if err := h.conn.Object(h.item, "/StatusNotifierItem/menu").Call("com.canonical.dbusmenu.Event", 0, id, name, dbus.MakeVariant(""), uint32(0)).Err; err != nil {
		h.t.Fatal(err)
	}
}

func shortCheck(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a session bus of its own")
	}
}

func TestTheDesktopShowsTheMenuAndEveryLineAsksForItsIntent(t *testing.T) {
	shortCheck(t)
	address, _ := bus(t)
	h := startHost(t, address)
	a := startAgent(t, "DBUS_SESSION_BUS_ADDRESS="+address)
	h.wait()
	if got := h.property("Id"); got != "tray-test" {
		t.Errorf("Id %q", got)
	}

	a.show(view.Snapshot{SignIn: view.SignIn{State: view.SignedOut}})
	rows := h.until("(Not signed in)", "Sign in", "(No recent encounters)", "Open Encounter Launcher", "Quit")
	h.click(rows[1])
	a.expect("intent sign-in")
	out := h.property("IconPixmap")

	fresh := noon.Add(time.Hour)
	s := recents("r_1", "r2")
	s.Recents[1].Status = "exported"
	s.OrganizationName, s.HelpDeskURL = "Clinic", "https://help.clinic.example/"
	s.Launch = &view.Launch{ID: "l1", Stage: view.Failed, Retryable: true, FreshUntil: &fresh, Problem: &view.Problem{Sentence: "It failed."}}
	a.show(s)
	rows = h.until("(Signed in as a)", "Sign out", "(Needs attention: It failed.)", "Try again", "Didn't open? Get a fresh link",
		"Recent encounters", "12:00 · r__1", "12:00 · r2 · note exported", "Open Encounter Launcher", "Managed by Clinic", "Help desk", "Quit")
	a.at(noon.Add(settle))
	for n, want := range []string{"", "sign-out", "", "retry l1", "fresh-link l1", "", "open-recent r_1", "open-recent r2", "open-window", "open-help-desk", "open-help-desk", "quit"} {
		h.click(rows[n])
		if want != "" {
			a.expect("intent " + want)
		}
	}
	if in := h.property("IconPixmap"); fmt.Sprint(in) == fmt.Sprint(out) {
		t.Error("the picture did not change with the state")
	}

	s.Launch = &view.Launch{ID: "l2", Stage: view.Opening}
	a.show(s)
	rows = h.until("(Signed in as a)", "Sign out", "(Opening the browser)", "Cancel opening", "Recent encounters", "12:00 · r__1", "12:00 · r2 · note exported", "Open Encounter Launcher", "Managed by Clinic", "Help desk", "Quit")
	h.click(rows[3])
	a.expect("intent cancel l2")

	a.show(view.Snapshot{SignIn: view.SignIn{State: view.SigningInNow, PageOpen: true}})
	rows = h.until("(Waiting for you to sign in)", "Open the sign-in page again", "Cancel sign-in", "(No recent encounters)", "Open Encounter Launcher", "Quit")
	h.click(rows[1])
	a.expect("intent show-sign-in")
	h.click(rows[2])
	a.expect("intent cancel")

	s.Launch, s.Hidden = nil, []string{view.HideSignOut, view.HideRecents, view.HideQuit}
	a.show(s)
	h.until("(Signed in as a)", "Open Encounter Launcher", "Managed by Clinic", "Help desk")
	a.stop()
}

func TestAReorderBetweenDisplayAndClickOpensNothingAndDrawsTheMenuAgain(t *testing.T) {
	shortCheck(t)
	address, _ := bus(t)
	h := startHost(t, address)
	a := startAgent(t, "DBUS_SESSION_BUS_ADDRESS="+address)
	h.wait()
	a.show(recents("r1", "r2"))
	seen := h.until("(Signed in as a)", "Sign out", "Recent encounters", "12:00 · r1", "12:00 · r2", "Open Encounter Launcher", "Quit")
	a.at(noon.Add(time.Minute))
	h.click(seen[3])
	a.expect("intent open-recent r1")

	// The person looks at r1, the list turns round, the person clicks.
	a.show(recents("r2", "r1"))
	h.until("(Signed in as a)", "Sign out", "Recent encounters", "12:00 · r2", "12:00 · r1", "Open Encounter Launcher", "Quit")
	for len(h.signals) > 0 {
		h.signal("")
	}
	clear(h.updated)
	a.at(noon.Add(time.Minute + settle - 1))
	h.click(seen[3])
	for h.updated[seen[3].id] == 0 {
		h.signal("the menu was not drawn again")
	}
	h.click(seen[5])
	a.expect("intent open-window")

	a.at(noon.Add(time.Minute + settle))
	h.click(seen[3])
	a.expect("intent open-recent r2")
	a.stop() // nothing else was asked for
}

func TestTheTimeForAFreshLinkRunsOutInAnOpenMenuToo(t *testing.T) {
	shortCheck(t)
	address, _ := bus(t)
	h := startHost(t, address)
	a := startAgent(t, "DBUS_SESSION_BUS_ADDRESS="+address)
	h.wait()
	fresh := noon.Add(10 * time.Minute)
	s := view.Snapshot{SignIn: signedInAs("a"), Launch: &view.Launch{ID: "l1", Stage: view.Opened, FreshUntil: &fresh}}
	a.show(s)
	rows := h.until("(Signed in as a)", "Sign out", "Didn't open? Get a fresh link", "(No recent encounters)", "Open Encounter Launcher", "Quit")
	a.at(noon.Add(settle))
	h.click(rows[2])
	a.expect("intent fresh-link l1")
	a.at(fresh)
	h.event(0, "opened")
	h.until("(Signed in as a)", "Sign out", "(No recent encounters)", "Open Encounter Launcher", "Quit")
	h.click(rows[2])
	a.stop() // nothing was asked for
}

func TestHostileTextsReachTheDesktopAsOneShortLineEach(t *testing.T) {
	shortCheck(t)
	address, _ := bus(t)
	h := startHost(t, address)
	a := startAgent(t, "DBUS_SESSION_BUS_ADDRESS="+address)
	h.wait()
	for name, from := range hostile {
		if name == "broken" {
			continue // no JSON carries it, and so no order of this test
		}
		s := everywhere(from)
		a.show(s)
		want := []string{}
		for n, l := range menu(s, text.For("en"), noon).lines {
			switch {
			case l.title == "":
			case l.intent == "" && n != recentsLine:
				want = append(want, "("+literal(l.title)+")")
			default:
				want = append(want, literal(l.title))
			}
		}
		for _, r := range h.until(want...) {
			if len(r.label) > 800 || strings.ContainsAny(r.label, "\n\r\t\v\x00\x1b\u2028\u2029\u202e\u2066") {
				t.Errorf("%s: the desktop was given %.200q", name, r.label)
			}
			if strings.Contains(strings.ReplaceAll(r.label, "__", ""), "_") {
				t.Errorf("%s: an access key in %.200q", name, r.label)
			}
		}
		// Some desktops read markup in a tooltip, so nothing from outside is there.
		tip := h.property("ToolTip").([]any)
		if tip[2] != "Encounter Launcher needs your attention" || tip[3] != "" {
			t.Errorf("%s: tooltip %q", name, tip)
		}
	}
	a.stop()
}

func TestASnapshotThatChangesOneLineTouchesOneLine(t *testing.T) {
	shortCheck(t)
	address, _ := bus(t)
	h := startHost(t, address)
	a := startAgent(t, "DBUS_SESSION_BUS_ADDRESS="+address)
	h.wait()
	a.show(recents("r1"))
	h.until("(Signed in as a)", "Sign out", "Recent encounters", "12:00 · r1", "Open Encounter Launcher", "Quit")
	// The library announces a whole layout once more after it was first read.
	a.show(recents("r1", "r2"))
	h.until("(Signed in as a)", "Sign out", "Recent encounters", "12:00 · r1", "12:00 · r2", "Open Encounter Launcher", "Quit")
	for len(h.signals) > 0 {
		h.signal("")
	}
	clear(h.updated)
	for revision := range uint64(50) {
		s := recents("r1", "r2")
		s.Revision = revision
		a.show(s)
	}
	s := recents("r1", "r2")
	s.OrganizationName = "Clinic"
	a.show(s)
	rows := h.until("(Signed in as a)", "Sign out", "Recent encounters", "12:00 · r1", "12:00 · r2", "Open Encounter Launcher", "(Managed by Clinic)", "Quit")
	for h.updated[rows[6].id] == 0 {
		h.signal("the new line was not announced")
	}
	if len(h.updated) != 1 {
		t.Errorf("touched lines: %v", h.updated)
	}
	a.stop()
}

func TestOpeningTheMenuAfterMidnightSaysYesterday(t *testing.T) {
	shortCheck(t)
	address, _ := bus(t)
	h := startHost(t, address)
	a := startAgent(t, "DBUS_SESSION_BUS_ADDRESS="+address)
	h.wait()
	a.show(recents("r1"))
	h.until("(Signed in as a)", "Sign out", "Recent encounters", "12:00 · r1", "Open Encounter Launcher", "Quit")
	a.at(noon.Add(24 * time.Hour))
	h.event(0, "opened")
	rows := h.until("(Signed in as a)", "Sign out", "Recent encounters", "yesterday 12:00 · r1", "Open Encounter Launcher", "Quit")
	h.click(rows[3])
	a.expect("intent open-recent r1")
	a.stop()
}

func TestADesktopThatComesLaterFindsTheIcon(t *testing.T) {
	shortCheck(t)
	address, _ := bus(t)
	a := startAgent(t, "DBUS_SESSION_BUS_ADDRESS="+address)
	a.show(recents("r1"))
	h := startHost(t, address)
	h.wait()
	h.until("(Signed in as a)", "Sign out", "Recent encounters", "12:00 · r1", "Open Encounter Launcher", "Quit")
	_ = h.conn.Close()
	h = startHost(t, address)
	h.wait()
	h.until("(Signed in as a)", "Sign out", "Recent encounters", "12:00 · r1", "Open Encounter Launcher", "Quit")
	a.stop()
}

func TestTheIconIsGoneWhenRunReturns(t *testing.T) {
	shortCheck(t)
	address, _ := bus(t)
	h := startHost(t, address)
	a := startAgent(t, "DBUS_SESSION_BUS_ADDRESS="+address)
	h.wait()
	a.show(recents("r1"))
	if err := json.NewEncoder(a.in).Encode(order{Stop: true}); err != nil {
		t.Fatal(err)
	}
	a.expect("returned") // the process lives on until its standard input ends
	// The bus reads of a connection's end when it comes to it.
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		var owned bool
		if err := h.conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, h.item).Store(&owned); err != nil || owned && time.Now().After(deadline) {
			t.Fatalf("the icon's owner is still there: %v, %v", owned, err)
		} else if !owned {
			return
		}
	}
}

func TestWithoutASessionBusNothingFailsAndNoneIsStarted(t *testing.T) {
	shortCheck(t)
	dir := t.TempDir()
	launched := filepath.Join(dir, "launched")
	if err := os.WriteFile(filepath.Join(dir, "dbus-launch"), []byte("#!/bin/sh\necho x >"+launched+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"", "autolaunch:", "unix:path=" + dir + "/none", "nonsense"} {
		a := startAgent(t, "DBUS_SESSION_BUS_ADDRESS="+address, "PATH="+dir)
		for range 20 {
			a.show(recents("r1"))
		}
		a.stop()
	}
	if _, err := os.Stat(launched); err == nil {
		t.Error("a session bus was started")
	}
}

func TestABusThatNeverAnswersHoldsNothingUp(t *testing.T) {
	shortCheck(t)
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", dir+"/bus")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	a := startAgent(t, "DBUS_SESSION_BUS_ADDRESS=unix:path="+dir+"/bus")
	for range 20 {
		a.show(recents("r1"))
	}
	a.stop()
}

func TestABusThatDiesTakesOnlyTheIconAway(t *testing.T) {
	shortCheck(t)
	address, daemon := bus(t)
	h := startHost(t, address)
	a := startAgent(t, "DBUS_SESSION_BUS_ADDRESS="+address)
	h.wait()
	a.show(recents("r1"))
	_ = daemon.Process.Kill()
	for range 20 {
		a.show(recents("r2"))
		a.show(recents("r1"))
	}
	a.stop()
}

func TestTheIconComesBackWithTheSessionBus(t *testing.T) {
	shortCheck(t)
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	a := startAgent(t, "DBUS_SESSION_BUS_ADDRESS=unix:path="+dir+"/bus") // before there is one
	a.show(recents("r1"))
	for n, id := range []string{"r2", "r3"} {
		address, daemon := startBus(t, dir)
		h := startHost(t, address)
		h.wait()
		a.show(recents(id))
		rows := h.until("(Signed in as a)", "Sign out", "Recent encounters", "12:00 · "+id, "Open Encounter Launcher", "Quit")
		a.at(noon.Add(time.Duration(n+1) * settle))
		h.click(rows[len(rows)-1])
		a.expect("intent quit")
		_ = h.conn.Close()
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
	}
	a.stop()
}
