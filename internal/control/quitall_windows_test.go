package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

// The parts that this test program plays under the launcher's name.
const (
	role         = "ENCOUNTER_TEST_ROLE"
	roleAgent    = "agent"    // be the agent of the layout below the argument until told to quit
	roleStubborn = "stubborn" // the same, but never quit
	roleWindow   = "window"   // run until ended, as a window
	roleHandler  = "handler"  // the same, as what holds something
	roleOlder    = "older"    // be an agent that knows no finishing
	testFlavour  = "quittest"
)

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case roleAgent, roleStubborn, roleOlder:
		os.Exit(beAgent(os.Args[1], os.Getenv(role)))
	default:
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
}

// quitter ends when it is told to, or not.
type quitter struct {
	*agent
	quit  context.CancelFunc
	older bool
}

func (q quitter) Do(ctx context.Context, i Intent) error {
	if i.Finish == q.older {
		return problem.New(problem.RequestInvalid, errors.New("it is asked in another way"))
	}
	if i.Name == Quit && q.quit != nil {
		q.quit()
	}
	return q.agent.Do(ctx, i)
}

func beAgent(root, as string) int {
	s, err := Listen(paths.Under(root, testFlavour))
	if err != nil {
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	q := quitter{agent: newAgent(), older: as == roleOlder}
	if as != roleStubborn {
		q.quit = cancel
	}
	fmt.Println("ready")
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // the test ends it at last
		cancel()
	}()
	if s.Serve(ctx, q) != nil {
		return 1
	}
	return 0
}

// play starts a part under the launcher's name in a folder, and ends it when the
// test ends.
func play(t *testing.T, dir, as, root string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, paths.Under(root, testFlavour).Name+".exe")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		text, err := os.ReadFile(self)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(path, root)
	if as == roleWindow {
		cmd.Args = []string{path, windowVerb}
	}
	cmd.Env = append(os.Environ(), role+"="+as)
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = input.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(output).ReadString('\n'); err != nil {
		t.Fatalf("%s did not begin: %q, %v", as, line, err)
	}
	return cmd
}

func TestAgentAndWindowHaveGoneWhenAllWereToldToQuitAndACopyElsewhereIsLeftAlone(t *testing.T) {
	here, elsewhere, root := t.TempDir(), t.TempDir(), t.TempDir()
	l := paths.Under(root, testFlavour)
	agent, window, other := play(t, here, roleAgent, root), play(t, here, roleWindow, root), play(t, elsewhere, roleWindow, root)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	q, err := QuitAll(ctx, l, agent.Path)
	if err != nil || q != (Quits{Ended: 1, Closed: 1}) {
		t.Fatalf("got %+v, %v", q, err)
	}
	for _, cmd := range []*exec.Cmd{agent, window} {
		if err := os.Rename(cmd.Path, cmd.Path+".old"); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the file cannot be replaced: %v", err)
		}
	}
	me, err := ownIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if left := running(l.Name, me); len(left) != 1 || left[0].pid != uint32(other.Process.Pid) {
		t.Errorf("still running: %v, and it should be %d", left, other.Process.Pid)
	}
	if q, err := QuitAll(ctx, l, agent.Path); err != nil || q != (Quits{}) {
		t.Errorf("with nothing to end: %+v, %v", q, err)
	}
}

func TestAnAgentThatDoesNotEndInTimeIsLeftAndCounted(t *testing.T) {
	dir, root := t.TempDir(), t.TempDir()
	agent := play(t, dir, roleStubborn, root)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	q, err := QuitAll(ctx, paths.Under(root, testFlavour), agent.Path)
	if err != nil || q != (Quits{Left: 1}) {
		t.Errorf("got %+v, %v", q, err)
	}
}

func TestWindowsAreClosedEvenWhereAnAgentDoesNotEnd(t *testing.T) {
	dir, root := t.TempDir(), t.TempDir()
	agent := play(t, dir, roleStubborn, root)
	play(t, dir, roleWindow, root)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	q, err := QuitAll(ctx, paths.Under(root, testFlavour), agent.Path)
	if err != nil || q != (Quits{Closed: 1, Left: 1}) {
		t.Errorf("got %+v, %v", q, err)
	}
}

func TestWhatHoldsSomethingIsWaitedForAndNeverEnded(t *testing.T) {
	dir, root := t.TempDir(), t.TempDir()
	handler, _ := play(t, dir, roleHandler, root), play(t, dir, roleWindow, root)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	q, err := QuitAll(ctx, paths.Under(root, testFlavour), handler.Path)
	if err != nil || q != (Quits{Closed: 1, Left: 1}) {
		t.Errorf("got %+v, %v", q, err)
	}
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(handler.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = windows.CloseHandle(h) }()
	if hasEnded(h) {
		t.Error("it was ended")
	}
}

func TestAnAgentThatKnowsNoFinishingIsEndedByTheSystemsQuitToo(t *testing.T) {
	dir, root := t.TempDir(), t.TempDir()
	agent := play(t, dir, roleOlder, root)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	q, err := QuitAll(ctx, paths.Under(root, testFlavour), agent.Path)
	if err != nil || q != (Quits{Ended: 1}) {
		t.Errorf("got %+v, %v", q, err)
	}
}

// Wine has one user: the server's identity is compared with another's.
func TestWhoSquatsTheNameOfSomebodysAgentIsNoAgentAndNothingIsLeft(t *testing.T) {
	who := identity{sid: "S-1-5-21-1-2-3-1001", session: 77}
	name := pipeName("quit-test", who)
	listener, err := winio.ListenPipe(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	takeFirst(name)
	go func() {
		for {
			if _, err := listener.Accept(); err != nil {
				return
			}
		}
	}()
	if ended, left := quitEach(t.Context(), "quit-test", []identity{who}); ended != 0 || len(left) != 0 {
		t.Errorf("%d ended, left %v", ended, left)
	}
}

func TestOnlyAProcessThatIsNotThereCountsAsEnded(t *testing.T) {
	for err, want := range map[error]bool{windows.ERROR_INVALID_PARAMETER: true, windows.ERROR_ACCESS_DENIED: false, windows.ERROR_NOT_ENOUGH_MEMORY: false} {
		if hasGone(err) != want {
			t.Errorf("%v", err)
		}
	}
}

func TestAnAgentThatIsLeftCountsOnce(t *testing.T) {
	one, two := identity{sid: "S-1-5-21-1-2-3-1001", session: 1}, identity{sid: "S-1-5-21-1-2-3-1001", session: 2}
	rest := []process{{10, one}, {11, one}}
	for _, c := range []struct {
		agents []process
		want   int
	}{
		{nil, 2}, {[]process{{10, one}}, 2}, {[]process{{0, one}}, 2}, {[]process{{12, one}}, 3}, {[]process{{0, two}}, 3},
	} {
		if got := count(c.agents, rest); got != c.want {
			t.Errorf("%v: %d", c.agents, got)
		}
	}
}

func TestTheSystemEndsEverybodysAgentsAndAUserOnlyTheirOwn(t *testing.T) {
	system := identity{sid: systemSID}
	one, two := identity{sid: "S-1-5-21-1-2-3-1001", session: 1}, identity{sid: "S-1-5-21-1-2-3-1001", session: 2}
	other := identity{sid: "S-1-5-21-1-2-3-1002", session: 3}
	found := []process{{10, one}, {11, one}, {12, two}, {13, other}}
	for _, c := range []struct {
		me   identity
		want []identity
	}{
		{system, []identity{one, two, other}}, // nobody who takes the system's own name is asked
		{one, []identity{one, two}},
		{other, []identity{other}},
	} {
		got := agentsOf(c.me, found)
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%v: got %v, want %v", c.me, got, c.want)
		}
	}
}

func TestOnlyAProcessThatIsShownToBeTheUsersOwnMayDoMoreThanQuit(t *testing.T) {
	me := identity{sid: "S-1-5-21-1-2-3-1001", session: 1}
	for _, c := range []struct {
		client identity
		err    error
		own    bool
	}{
		{me, nil, true},
		{identity{sid: me.sid, session: 2}, nil, true}, // quit --all-sessions of the same person
		{identity{sid: systemSID}, nil, false},
		{identity{sid: "S-1-5-21-1-2-3-1002", session: 1}, nil, false},
		{identity{}, errors.New("access is denied"), false},
		{me, errors.New("it has ended"), false},
	} {
		if got := peerOf(me, c.client, c.err, 7); got.own != c.own || got.pid != 7 {
			t.Errorf("%v, %v: %+v", c.client, c.err, got)
		}
	}
}
