package notify

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
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

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/text"
	"encounterlauncher/internal/view"
)

// patience bounds what never happens when all is well.
const patience = 20 * time.Second

// bus starts a session bus of the test's own, without services to activate, and
// makes it the one of this process.
func bus(t *testing.T) (string, *exec.Cmd) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a session bus of its own")
	}
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
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
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", lines.Text())
	return lines.Text(), cmd
}

// seen is one note as the desktop received it.
type seen struct {
	number, older        uint32
	app, icon            string
	title, body          string
	actions              []string
	hints                map[string]dbus.Variant
	timeout              int32
	senderOnlyForSignals dbus.Sender
	gone                 int // how many were taken away before it came
}

// daemon is a desktop's notification service.
type daemon struct {
	t      *testing.T
	conn   *dbus.Conn
	can    []string
	next   uint32
	notes  chan seen
	closed chan uint32
	stuck  atomic.Pointer[chan struct{}] // non-nil: Notify waits for it
	props  *prop.Properties
	looked chan struct{}
}

// quiet has the person wish not to be disturbed, or end that.
func (d *daemon) quiet(is bool) {
	d.t.Helper()
	if d.props == nil {
		props, err := prop.Export(d.conn, servicePath, prop.Map{service: {inhibited: {Value: is, Emit: prop.EmitTrue}}})
		if err != nil {
			d.t.Fatal(err)
		}
		d.props = props
		return
	}
	d.props.SetMust(service, inhibited, is)
}

func (d *daemon) GetCapabilities() ([]string, *dbus.Error) {
	select {
	case d.looked <- struct{}{}:
	default:
	}
	return d.can, nil
}

// asked waits until the agent has looked whether it may show something.
func (d *daemon) asked(t *testing.T) { t.Helper(); receive(t, d.looked, "the agent did not ask") }

func (d *daemon) Notify(sender dbus.Sender, app string, older uint32, icon, title, body string, actions []string, hints map[string]dbus.Variant, timeout int32) (uint32, *dbus.Error) {
	if stuck := d.stuck.Load(); stuck != nil {
		<-*stuck
	}
	d.next++
	d.notes <- seen{d.next, older, app, icon, title, body, actions, hints, timeout, sender, len(d.closed)}
	return d.next, nil
}

func (d *daemon) CloseNotification(number uint32) *dbus.Error {
	d.closed <- number
	return nil
}

func startDaemon(t *testing.T, address string, can ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, can: can, looked: make(chan struct{}, 1), notes: make(chan seen, 16), closed: make(chan uint32, 16)}
	d.conn = connectTo(t, address)
	if err := d.conn.Export(d, servicePath, service); err != nil {
		t.Fatal(err)
	}
	if reply, err := d.conn.RequestName(service, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
	return d
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

func (d *daemon) note() seen { d.t.Helper(); return receive(d.t, d.notes, "no note came") }

func (d *daemon) emit(name string, values ...any) {
	d.t.Helper()
	if err := d.conn.Emit(servicePath, service+"."+name, values...); err != nil {
		d.t.Fatal(err)
	}
}

func receive[T any](t *testing.T, from <-chan T, otherwise string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal(otherwise)
	}
	panic("unreachable")
}

// wish is an intent as the agent received it.
type wish struct{ name, id, token string }

type agent struct{ wishes chan wish }

func (a agent) Do(ctx context.Context, name, id string) error {
	a.wishes <- wish{name, id, Token(ctx)}
	return errors.New("a refusal is logged and hurts nothing")
}

// start runs the notices of an agent until the test ends.
func start(t *testing.T) (chan<- view.Snapshot, <-chan wish, func()) {
	t.Helper()
	a := agent{make(chan wish, 16)}
	snapshots := make(chan view.Snapshot)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, snapshots, a, Options{ID: "encounter-launcher"}) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := receive(t, done, "Run did not return"); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return snapshots, a.wishes, stop
}

func noticeOf(id uint64, actions ...string) *view.Notice {
	return &view.Notice{ID: id, Kind: view.NoticeProblem, Actions: actions, Problem: view.Problem{
		Code: problem.OrgUnreachable, Sentence: "The server <b>cannot</b> be reached & so on.", NextStep: "Try again.", Reference: "ABCDEFGH",
	}}
}

func failed(id uint64, launch string) view.Snapshot {
	n := noticeOf(id, view.ActionRetry, view.ActionOpenWindow)
	n.Launch = launch
	return view.Snapshot{Notice: n, Launch: &view.Launch{ID: launch, Stage: view.Failed, Problem: &n.Problem, Label: "A. B.", Retryable: true}}
}

func TestANoticeIsShownWithItsButtonsAndEscaped(t *testing.T) {
	address, _ := bus(t)
	d := startDaemon(t, address, "body", "body-markup", "actions")
	snapshots, wishes, _ := start(t)
	snapshots <- failed(1, "l1")
	n := d.note()
	if n.older != 0 || n.title != "Encounter Launcher" || n.icon != "encounter-launcher" || n.hints["desktop-entry"].Value() != "encounter-launcher" {
		t.Errorf("got %+v", n)
	}
	if want := "The server &lt;b&gt;cannot&lt;/b&gt; be reached &amp; so on. Try again.\nReference ABCDEFGH"; n.body != want {
		t.Errorf("got %q", n.body)
	}
	if want := []string{"retry", "Try again", "open_window", "Show details", "default", ""}; !slices.Equal(n.actions, want) {
		t.Errorf("got %q", n.actions)
	}
	d.emit("ActivationToken", n.number, "token-1")
	d.emit("ActionInvoked", n.number, "retry")
	if got := receive(t, wishes, "no intent came"); got != (wish{"retry", "l1", "token-1"}) {
		t.Errorf("got %+v", got)
	}
}

func TestEveryButtonIsItsIntent(t *testing.T) {
	address, _ := bus(t)
	d := startDaemon(t, address, "body", "actions")
	snapshots, wishes, _ := start(t)
	for n, c := range []struct {
		key  string
		want wish
	}{
		{"sign_in", wish{name: "sign-in"}}, {"help_desk", wish{name: "open-help-desk"}}, {"open_window", wish{name: "open-window"}}, {"default", wish{name: "open-window"}},
		{"retry", wish{name: "retry", id: "l1"}}, {"cancel", wish{name: "cancel", id: "l1"}}, {"fresh_link", wish{name: "fresh-link", id: "l1"}},
	} {
		notice := noticeOf(uint64(n)+1, view.ActionSignIn, view.ActionRetry, view.ActionCancel, view.ActionFreshLink, view.ActionHelpDesk, view.ActionOpenWindow)
		notice.Launch = "l1"
		snapshots <- view.Snapshot{Notice: notice, Launch: &view.Launch{ID: "another", Stage: view.Creating}}
		d.emit("ActionInvoked", d.note().number, c.key)
		if got := receive(t, wishes, "no intent came"); got != c.want {
			t.Errorf("%s: got %+v", c.key, got)
		}
	}
}

func TestAServiceWithoutButtonsOrMarkupGetsPlainText(t *testing.T) {
	address, _ := bus(t)
	d := startDaemon(t, address, "body")
	snapshots, _, _ := start(t)
	snapshots <- failed(1, "l1")
	if n := d.note(); len(n.actions) != 0 || !strings.Contains(n.body, "<b>cannot</b> be reached & so on") {
		t.Errorf("got %+v", n)
	}
}

func TestANewerNoticeReplacesTheOlderAndTheSameIsNotShownTwice(t *testing.T) {
	address, _ := bus(t)
	d := startDaemon(t, address, "body", "actions")
	snapshots, wishes, stop := start(t)
	snapshots <- failed(4, "l1")
	first := d.note()
	again := failed(4, "l1")
	again.Revision = 9
	snapshots <- again
	snapshots <- failed(7, "l2")
	second := d.note()
	if got := receive(t, d.closed, "the older note stayed"); got != first.number || second.older != 0 {
		t.Errorf("closed %d, then %+v", got, second)
	}
	snapshots <- failed(6, "l0")
	d.emit("ActionInvoked", first.number, "open_window") // pressed as it was taken away
	d.emit("ActionInvoked", second.number, "retry")
	if got := receive(t, wishes, "no intent came"); got != (wish{name: "retry", id: "l2"}) {
		t.Errorf("got %+v", got)
	}
	stop()
	if len(d.notes) != 0 {
		t.Errorf("also shown: %+v", <-d.notes)
	}
}

func TestANoticeGoesWhenItsReasonHasGone(t *testing.T) {
	address, _ := bus(t)
	d := startDaemon(t, address, "body", "actions")
	snapshots, wishes, stop := start(t)

	snapshots <- failed(1, "l1")
	n := d.note()
	s := failed(1, "l1")
	s.Launch = &view.Launch{ID: "l2", Stage: view.Creating}
	snapshots <- s
	s.Launch = &view.Launch{ID: "l2", Stage: view.Opened}
	snapshots <- s
	if got := receive(t, d.closed, "it stayed after a launch went well"); got != n.number {
		t.Errorf("closed %d", got)
	}

	snapshots <- view.Snapshot{Notice: noticeOf(2)}
	n = d.note()
	snapshots <- view.Snapshot{}
	if got := receive(t, d.closed, "it stayed without its reason"); got != n.number {
		t.Errorf("closed %d", got)
	}

	snapshots <- view.Snapshot{Notice: noticeOf(3)}
	n = d.note()
	d.emit("ActionInvoked", n.number, "default")
	receive(t, wishes, "no intent came")
	stop()
	if got := receive(t, d.closed, "it stayed when the agent ended"); got != n.number {
		t.Errorf("closed %d", got)
	}
}

func TestANoticeThatComesAfterALaunchWentWellIsShownAllTheSame(t *testing.T) {
	address, _ := bus(t)
	d := startDaemon(t, address, "body")
	snapshots, _, stop := start(t)
	s := view.Snapshot{Launch: &view.Launch{ID: "l1", Stage: view.Opened}, Notice: noticeOf(1)}
	snapshots <- s
	d.note()
	s.Revision++
	snapshots <- s
	snapshots <- view.Snapshot{Launch: s.Launch, Notice: noticeOf(2)}
	if d.note().gone != 0 {
		t.Error("it was taken away at once")
	}
	stop()
}

func TestWhatThePersonClosedStaysClosed(t *testing.T) {
	address, _ := bus(t)
	d := startDaemon(t, address, "body", "actions")
	snapshots, wishes, stop := start(t)
	snapshots <- failed(1, "l1")
	n := d.note()
	d.emit("NotificationClosed", n.number, uint32(2))
	d.emit("ActionInvoked", n.number, "retry")
	snapshots <- failed(2, "l2")
	next := d.note()
	d.emit("ActionInvoked", next.number, "open_window")
	if got := receive(t, wishes, "no intent came"); got.name != "open-window" {
		t.Errorf("a button of a closed note did something: %+v", got)
	}
	stop()
}

func TestOnlyTheServiceItselfAndOnlyAboutThisNoteIsBelieved(t *testing.T) {
	address, _ := bus(t)
	d := startDaemon(t, address, "body", "actions")
	snapshots, wishes, _ := start(t)
	snapshots <- failed(1, "l1")
	n := d.note()

	// Anybody on the bus can send us a signal of that name.
	other := connectTo(t, address)
	message := &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath(servicePath)),
		dbus.FieldInterface:   dbus.MakeVariant(service),
		dbus.FieldMember:      dbus.MakeVariant("ActionInvoked"),
		dbus.FieldDestination: dbus.MakeVariant(string(n.senderOnlyForSignals)),
		dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(uint32(0), "")),
	}, Body: []any{n.number, "retry"}}
	if call := other.Send(message, nil); call != nil && call.Err != nil {
		t.Fatal(call.Err)
	}
	if err := other.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err; err != nil { // the signal has gone out
		t.Fatal(err)
	}

	d.emit("ActionInvoked", n.number+1, "retry")
	d.emit("ActionInvoked", n.number, "")
	d.emit("ActionInvoked", n.number, "format_disk")
	d.emit("ActivationToken", n.number+1, "another's")
	d.emit("ActionInvoked", n.number, "open_window")
	d.emit("ActionInvoked", n.number, "retry") // a second press of the same note
	if got := receive(t, wishes, "no intent came"); got != (wish{name: "open-window"}) {
		t.Errorf("got %+v", got)
	}
	snapshots <- failed(2, "l2")
	d.emit("ActionInvoked", d.note().number, "open_window")
	if got := receive(t, wishes, "no intent came"); got != (wish{name: "open-window"}) {
		t.Errorf("got %+v", got)
	}
}

func TestAServiceThatComesLaterOrAgainShowsTheNextNotice(t *testing.T) {
	address, _ := bus(t)
	snapshots, _, _ := start(t)
	snapshots <- failed(1, "l1")
	d := startDaemon(t, address, "body")
	for id := uint64(2); len(d.notes) == 0; id++ { // the first ones may still have met nobody
		snapshots <- failed(id, "l2")
	}
	d.note()
	_ = d.conn.Close()
	d = startDaemon(t, address, "body")
	for id := uint64(1 << 32); len(d.notes) == 0; id++ {
		snapshots <- failed(id, "l3")
	}
}

func TestWithoutABusNothingIsShownAndNothingFails(t *testing.T) {
	dir := t.TempDir()
	launched := filepath.Join(dir, "launched")
	if err := os.WriteFile(filepath.Join(dir, "dbus-launch"), []byte("#!/bin/sh\necho x >"+launched+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	for _, address := range []string{"autolaunch:", "unix:path=" + dir + "/none", "nonsense"} {
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
		snapshots, _, stop := start(t)
		for id := range uint64(20) {
			snapshots <- failed(id+1, "l1")
		}
		stop()
		if err := Show(t.Context(), "It failed.", "Try again."); err == nil {
			t.Errorf("%q: Show said that it showed something", address)
		}
	}
	if _, err := os.Stat(launched); err == nil {
		t.Error("a session bus was started")
	}
}

func TestABusOrServiceThatNeverAnswersHoldsNothingUp(t *testing.T) {
	address, _ := bus(t)
	d := startDaemon(t, address, "body")
	stuck := make(chan struct{})
	d.stuck.Store(&stuck)
	defer close(stuck)
	snapshots, _, stop := start(t)
	for id := range uint64(20) {
		snapshots <- failed(id+1, "l1")
	}
	stop()

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
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+dir+"/bus")
	snapshots, _, stop = start(t)
	for id := range uint64(20) {
		snapshots <- failed(id+1, "l1")
	}
	stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Show(ctx, "It failed.", "Try again."); err == nil {
		t.Error("Show said that it showed something")
	}
}

func TestABusThatDiesIsSurvived(t *testing.T) {
	address, cmd := bus(t)
	d := startDaemon(t, address, "body")
	snapshots, _, stop := start(t)
	snapshots <- failed(1, "l1")
	d.note()
	_ = cmd.Process.Kill()
	for id := range uint64(20) {
		snapshots <- failed(id+2, "l1")
	}
	stop()
}

func TestShowTellsOneThingWithoutAnAgent(t *testing.T) {
	address, _ := bus(t)
	if err := Show(t.Context(), "It failed.", "Try again."); err == nil {
		t.Error("without a service Show said that it showed something")
	}
	d := startDaemon(t, address, "body", "body-markup")
	if err := Show(t.Context(), "The program did not start & ended.", "Try again."); err != nil {
		t.Fatal(err)
	}
	n := d.note()
	if n.title != "The encounter was not opened" || n.body != "The program did not start &amp; ended. Try again." || len(n.actions) != 0 {
		t.Errorf("got %+v", n)
	}
	if _, named := n.hints["desktop-entry"]; named {
		t.Error("desktops take such a note away when the handler ends")
	}
}

func TestNoNoticeOfAnyKindNamesAPatientOrAnAddress(t *testing.T) {
	const canary = "Kanarienvogel"
	address, _ := bus(t)
	d := startDaemon(t, address, "body", "body-markup", "actions")
	snapshots, _, _ := start(t)
	at := time.Now().Add(time.Hour)
	every := []string{view.ActionRetry, view.ActionSignIn, view.ActionCancel, view.ActionFreshLink, view.ActionHelpDesk, view.ActionOpenWindow}
	for n, kind := range []string{view.NoticeProblem, view.NoticeSlow, view.NoticeSignInEnds, view.NoticeSignedOut, view.NoticeLinkTaken} {
		notice := noticeOf(uint64(n)+1, every...)
		notice.Kind, notice.Launch, notice.At = kind, "l1", &at
		snapshots <- view.Snapshot{
			Notice: notice, OrganizationName: canary, HelpDeskURL: "https://" + canary + ".example/",
			SignIn:  view.SignIn{State: view.SignedIn, Person: &view.Person{Subject: canary, Email: canary}},
			Launch:  &view.Launch{ID: "l1", Stage: view.Creating, Label: canary, RecentID: canary, Problem: &view.Problem{Sentence: canary, Reference: "ABCDEFGH"}},
			Recents: []view.Recent{{ID: canary, Label: canary, OpenedAt: at}},
		}
		got := d.note()
		if text := fmt.Sprintf("%+v", got); strings.Contains(text, canary) || strings.Contains(text, "://") || got.body == "" {
			t.Errorf("%s: %s", kind, text)
		}
		if strings.Contains(got.title+got.body+strings.Join(got.actions, ""), "notice.") {
			t.Errorf("%s: a word is missing in %q, %q, %q", kind, got.title, got.body, got.actions)
		}
	}
}

func TestEachKindSaysItsWordsAndHowUrgentItIs(t *testing.T) {
	address, _ := bus(t)
	d := startDaemon(t, address, "body", "actions")
	snapshots, _, _ := start(t)
	at := time.Date(2026, time.March, 4, 14, 5, 0, 0, time.Local)
	for n, c := range []struct {
		notice    view.Notice
		body      string
		urgency   byte
		transient bool
		category  string
	}{
		{view.Notice{Kind: view.NoticeProblem, Problem: view.Problem{Code: problem.OrgUnreachable, Sentence: "It failed.", NextStep: "Try again."}}, "It failed. Try again.", 1, false, "network.error"},
		{view.Notice{Kind: view.NoticeProblem, Problem: view.Problem{Code: problem.HandleSpent, Sentence: "It failed.", NextStep: "Try again."}}, "It failed. Try again.", 1, false, ""},
		{view.Notice{Kind: view.NoticeSlow}, "Opening the encounter takes longer than usual. You can wait, or cancel and try again.", 1, true, ""},
		{view.Notice{Kind: view.NoticeSignInEnds, At: &at}, "Your sign-in ends at 14:05. Sign in again now, and the next encounter opens without waiting.", 1, false, ""},
		{view.Notice{Kind: view.NoticeSignInEnds}, "Your sign-in ends soon. Sign in again now, and the next encounter opens without waiting.", 1, false, ""},
		{view.Notice{Kind: view.NoticeLinkTaken}, "Links from the EHR no longer open with this program. Tell the IT help desk.", 1, false, ""},
		{view.Notice{Kind: view.NoticeSignedOut}, "You were signed out, as your organisation's policy for this computer asks.", 0, false, "presence.offline"},
	} {
		c.notice.ID = uint64(n) + 1
		snapshots <- view.Snapshot{Notice: &c.notice}
		got := d.note()
		transient, _ := got.hints["transient"].Value().(bool)
		category, _ := got.hints["category"].Value().(string)
		if got.body != c.body || got.hints["urgency"].Value() != c.urgency || transient != c.transient || category != c.category {
			t.Errorf("%d: got %+v", n, got)
		}
	}
}

func TestAKindThatThisVersionDoesNotKnowIsNotShown(t *testing.T) {
	address, _ := bus(t)
	d := startDaemon(t, address, "body")
	snapshots, _, stop := start(t)
	snapshots <- view.Snapshot{Notice: &view.Notice{ID: 1, Kind: "from_the_future"}}
	snapshots <- failed(2, "l1")
	if n := d.note(); n.number != 1 || !strings.Contains(n.body, "cannot") {
		t.Errorf("got %+v", n)
	}
	stop()
}

func TestANoticeWaitsUntilThePersonMayBeDisturbed(t *testing.T) {
	address, _ := bus(t)
	d := startDaemon(t, address, "body", "actions", "inhibitions")
	d.quiet(true)
	snapshots, wishes, stop := start(t)
	for _, s := range []view.Snapshot{failed(1, "l1"), failed(1, "l1"), failed(2, "l2")} { // the last takes the place of the one that waits
		snapshots <- s
		d.asked(t)
	}
	if len(d.notes) != 0 {
		t.Fatalf("the person was disturbed: %+v", <-d.notes)
	}
	d.quiet(false)
	n := d.note()
	d.emit("ActionInvoked", n.number, "retry")
	if got := receive(t, wishes, "no intent came"); got != (wish{name: "retry", id: "l2"}) {
		t.Errorf("got %+v", got)
	}
	stop()
	if len(d.notes) != 0 {
		t.Errorf("also shown: %+v", <-d.notes)
	}
}

func TestANoticeThatWaitedUntilItSaidNothingAnyMoreIsNeverShown(t *testing.T) {
	address, _ := bus(t)
	d := startDaemon(t, address, "body", "inhibitions")
	d.quiet(true)
	r := &runner{log: slog.New(slog.DiscardHandler), now: time.Now, desk: newDesk("encounter-launcher")}
	defer r.desk.end()
	opened := failed(2, "l2")
	opened.Launch = &view.Launch{ID: "l3", Stage: view.Opened}
	for n, gone := range []view.Snapshot{{}, opened} {
		r.consider(t.Context(), failed(uint64(n)+1, "l1"))
		if r.held == nil {
			t.Fatal("it was not held back")
		}
		r.consider(t.Context(), gone)
		d.quiet(false)
		r.happened(t.Context(), event{free: true})
		r.consider(t.Context(), gone)
		d.quiet(true)
	}
	if len(d.notes) != 0 {
		t.Errorf("shown: %+v", <-d.notes)
	}
}

func TestAServiceThatSaysNothingOfInhibitionShowsAtOnce(t *testing.T) {
	address, _ := bus(t)
	d := startDaemon(t, address, "body", "inhibitions") // and has no such property
	snapshots, _, _ := start(t)
	snapshots <- failed(1, "l1")
	d.note()
}

func TestAnActionThatThisVersionDoesNotKnowHasNoButton(t *testing.T) {
	n, _ := compose(*noticeOf(1, "from_the_future", defaultKey, "", view.ActionSignIn), text.For("en"), time.Now())
	if len(n.buttons) != 1 || n.buttons[0] != (button{view.ActionSignIn, "Sign in"}) {
		t.Errorf("got %+v", n.buttons)
	}
}
