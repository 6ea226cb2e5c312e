//go:build unix

package control

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// The parts that child processes play: the test binary starts itself.
const (
	partVariable = "CONTROL_TEST_PART"
	partOwn      = "own"     // be the agent of the layout below the argument
	partConnect  = "connect" // as nobody, send a request to the socket in the folder
	partSquat    = "squat"   // as nobody, take the socket's name in the folder
	nobody       = 65534
)

func TestMain(m *testing.M) {
	part, argument, _ := strings.Cut(os.Getenv(partVariable), " ")
	if part == "" {
		os.Exit(m.Run())
	}
	if err := play(part, argument); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func play(part, argument string) error {
	switch part {
	case partOwn:
		if _, err := Listen(paths.Under(argument, "")); err != nil {
			return err
		}
		fmt.Println("ready")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	case partConnect:
		if err := becomeNobody(argument); err != nil {
			return err
		}
		c, err := net.Dial("unix", socketName)
		if err != nil {
			return err
		}
		_, _ = io.WriteString(c, "GET "+snapshotRoute+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		answer, _ := io.ReadAll(c)
		fmt.Printf("got %d bytes\n", len(answer))
		return nil
	case partSquat:
		if err := becomeNobody(argument); err != nil {
			return err
		}
		l, err := net.Listen("unix", socketName)
		if err != nil {
			return err
		}
		fmt.Println("ready")
		c, err := l.Accept()
		if err != nil {
			return err
		}
		sent, _ := io.ReadAll(c)
		fmt.Printf("got %d bytes\n", len(sent))
		return nil
	}
	return errors.New("no such part")
}

// becomeNobody goes into the folder first: the path of a test's is too long for an
// address.
func becomeNobody(dir string) error {
	if err := os.Chdir(dir); err != nil {
		return err
	}
	return syscall.Setuid(nobody)
}

// cast starts a child process in a part and returns its output line by line.
func cast(t *testing.T, part, argument string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), partVariable+"="+part+" "+argument)
	cmd.Stderr = os.Stderr
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
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

func expect(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	if !lines.Scan() || lines.Text() != want {
		t.Fatalf("the child said %q, want %q", lines.Text(), want)
	}
}

func runtimeDir(t *testing.T, l paths.Layout) string {
	t.Helper()
	dir, err := l.EnsureRuntimeDir()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// open lets every user into a folder and what leads to it.
func open(t *testing.T, dir string) {
	t.Helper()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can act as another user")
	}
}

func TestAnotherUsersClientIsRefusedBeforeAnythingIsRead(t *testing.T) {
	needRoot(t)
	l, s := listen(t)
	a := newAgent()
	serve(t, s, a)
	dir := runtimeDir(t, l)
	open(t, dir)
	if err := os.Chmod(filepath.Join(dir, socketName), 0o666); err != nil {
		t.Fatal(err)
	}
	_, lines := cast(t, partConnect, dir)
	expect(t, lines, "got 0 bytes")
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for d := filepath.Dir(dir); strings.Contains(d, "state"); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := connect(t, l).Snapshot(t.Context()); err != nil {
		t.Errorf("our own client was refused too: %v", err)
	}
}

func TestNothingIsSentToAnotherUsersServer(t *testing.T) {
	needRoot(t)
	l := paths.Under(t.TempDir(), "")
	dir := runtimeDir(t, l)
	open(t, dir)
	_, lines := cast(t, partSquat, dir)
	expect(t, lines, "ready")
	for d := dir; strings.Contains(d, "state"); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Dial(t.Context(), l)
	if problem.CodeOf(err) != problem.AgentUnreachable || errors.Is(err, ErrNoAgent) || !strings.Contains(problem.Of(err).LogValue().String(), "another user") {
		t.Errorf("got %v", err)
	}
	expect(t, lines, "got 0 bytes")
}

func TestACrashedAgentsRoleIsTakenOver(t *testing.T) {
	root := t.TempDir()
	l := paths.Under(root, "")
	child, lines := cast(t, partOwn, root)
	expect(t, lines, "ready")
	if _, err := Listen(l); !errors.Is(err, ErrOwned) {
		t.Fatalf("while it lives: %v", err)
	}
	if err := child.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if _, err := os.Lstat(filepath.Join(runtimeDir(t, l), socketName)); err != nil {
		t.Fatalf("the crash should have left its socket: %v", err)
	}
	if _, err := Dial(t.Context(), l); !errors.Is(err, ErrNoAgent) || problem.CodeOf(err) != problem.AgentUnreachable {
		t.Errorf("a stale socket: %v", err)
	}
	s, err := Listen(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	serve(t, s, newAgent())
	if _, err := connect(t, l).Snapshot(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWhoDoesNotHoldTheLockNeverTouchesTheSocket(t *testing.T) {
	l, s := listen(t)
	socket := filepath.Join(runtimeDir(t, l), socketName)
	before, err := os.Lstat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(l); !errors.Is(err, ErrOwned) {
		t.Fatal(err)
	}
	after, err := os.Lstat(socket)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the socket was replaced: %v", err)
	}
	s.Close()
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket stayed: %v", err)
	}
}

func TestSocketAndLockAreClosedToOthers(t *testing.T) {
	l, _ := listen(t)
	for _, name := range []string{socketName, lockName} {
		info, err := os.Lstat(filepath.Join(runtimeDir(t, l), name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestAFileInTheSocketsPlaceIsLeftAlone(t *testing.T) {
	l := paths.Under(t.TempDir(), "")
	file := filepath.Join(runtimeDir(t, l), socketName)
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(l); problem.CodeOf(err) != problem.AgentUnreachable {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "x" {
		t.Errorf("the file was touched: %v", err)
	}
}

func TestAHomeThatLiesDeepIsReachedToo(t *testing.T) {
	root := filepath.Join(t.TempDir(), strings.Repeat("very-deep-home/", 12))
	if err := os.MkdirAll(root, 0o700); err != nil {
		t.Fatal(err)
	}
	l := paths.Under(root, "")
	s, err := Listen(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	serve(t, s, newAgent())
	if _, err := connect(t, l).Snapshot(t.Context()); err != nil {
		t.Error(err)
	}
}

// standIn listens in the place of an agent.
func standIn(t *testing.T, l paths.Layout) net.Listener {
	t.Helper()
	dir := runtimeDir(t, l)
	listener, err := listenUnix(dir, filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// ask sends bytes as they are and returns the whole answer.
func ask(t *testing.T, l paths.Layout, request string) string {
	t.Helper()
	c := dialRaw(t, l)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func dialRaw(t *testing.T, l paths.Layout) net.Conn {
	t.Helper()
	c, _, err := dial(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func request(method, target, headers, body string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + headers + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

// The frozen route: request and answer, byte for byte. If this test fails, old
// handlers and new agents no longer understand each other; mend the code and
// never the test.
const (
	frozenRequest = "POST /v1/link HTTP/1.1\r\n" +
		"Host: encounter-launcher\r\n" +
		"Connection: close\r\n" +
		"Content-Length: 122\r\n" +
		"Content-Type: application/json\r\n" +
		"\r\n" +
		`{"link":"encounter-launcher://launch?handle=AAAAAAAAAAAAAAAAAAAAAA","activation_token":"token-1","startup_id":"startup-1"}`
	frozenAcceptance = "HTTP/1.1 200 OK\r\n" +
		"Content-Type: application/json\r\n" +
		"Content-Length: 87\r\n" +
		"Connection: close\r\n" +
		"\r\n" +
		`{"accepted":true,"id":"launch-1","code":"","sentence":"","next_step":"","reference":""}`
	frozenRefusal = "HTTP/1.1 200 OK\r\n" +
		"Content-Type: application/json\r\n" +
		"Content-Length: 179\r\n" +
		"Connection: close\r\n" +
		"\r\n" +
		`{"accepted":false,"id":"","code":"link_expired","sentence":"The link from the EHR is too old.","next_step":"Go back to the EHR and press the button again.","reference":"ABCDEFGH"}`
)

func TestTheFrozenRouteIsUnderstoodByteForByte(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	serve(t, s, a)
	if got := ask(t, l, frozenRequest); got != frozenAcceptance {
		t.Errorf("accepted:\n%q\nwant\n%q", got, frozenAcceptance)
	}
	if len(a.links) != 1 || a.links[0] != testLink || a.clicks[0] != (Activation{"token-1", "startup-1"}) {
		t.Errorf("the agent got %v %v", a.links, a.clicks)
	}
	a.mu.Lock()
	a.linkError = problem.Restore("link_expired", "ABCDEFGH", "")
	a.mu.Unlock()
	if got := ask(t, l, frozenRequest); got != frozenRefusal {
		t.Errorf("refused:\n%q\nwant\n%q", got, frozenRefusal)
	}
}

func TestTheClientSendsTheFrozenRequestByteForByte(t *testing.T) {
	l := paths.Under(t.TempDir(), "")
	listener := standIn(t, l)
	got := make(chan string, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		var b [4096]byte
		n, _ := io.ReadAtLeast(c, b[:], len(frozenRequest))
		got <- string(b[:n])
		_, _ = io.WriteString(c, frozenRefusal)
		_ = c.Close()
	}()
	ack, err := connect(t, l).Link(t.Context(), candidate(t, testLink), Activation{Token: "token-1", StartupID: "startup-1"})
	if sent := <-got; sent != frozenRequest {
		t.Errorf("sent:\n%q\nwant\n%q", sent, frozenRequest)
	}
	if err != nil || ack.Accepted || ack.Code != problem.LinkExpired || ack.Reference != "ABCDEFGH" || ack.Sentence != "The link from the EHR is too old." {
		t.Errorf("got %+v, %v", ack, err)
	}
}

func TestANewerHandlersFieldsAreIgnoredOnTheFrozenRouteOnly(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	serve(t, s, a)
	body := `{"link":"` + testLink + `","from_the_future":{"a":[1,2]}}`
	if got := ask(t, l, request("POST", linkRoute, "", body)); !strings.Contains(got, `"accepted":true`) {
		t.Errorf("got %q", got)
	}
	for _, intent := range []string{SignIn, SignOut, Cancel, Retry, OpenWindow, Quit, ShowSignIn, FreshLink, RemoveRecent, ClearRecents, UndoRemove, Choose, Check, OpenHelpDesk} {
		if got := ask(t, l, request("POST", "/v1/"+intent, "", `{"from_the_future":1}`)); !strings.HasPrefix(got, "HTTP/1.1 400 ") || !strings.Contains(got, `"code":"request_invalid"`) {
			t.Errorf("%s: got %q", intent, got)
		}
	}
	if len(a.intents) != 0 {
		t.Errorf("the agent got %+v", a.intents)
	}
}

func TestWhatIsNotARequestOfOursIsRefusedWithoutTheAgent(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	serve(t, s, a)
	good := `{"link":"` + testLink + `"}`
	for name, c := range map[string]struct{ request, status string }{
		"unknown route":        {request("GET", "/v1/tokens", "", ""), "404"},
		"root":                 {request("GET", "/", "", ""), "404"},
		"no version":           {request("POST", "/link", "", good), "404"},
		"query":                {request("POST", "/v1/quit?x=1", "", ""), "404"},
		"another spelling":     {request("POST", "/v1/%71uit", "", ""), "404"},
		"double slash":         {request("POST", "//v1/quit", "", ""), "404"},
		"dots":                 {request("POST", "/v1/x/../quit", "", ""), "404"},
		"absolute form":        {request("POST", "http://encounter-launcher/v1/quit", "", ""), "404"},
		"asterisk":             {request("OPTIONS", "*", "", ""), "404"},
		"wrong method":         {request("GET", linkRoute, "", ""), "400"},
		"wrong method, intent": {request("GET", "/v1/quit", "", ""), "400"},
		"wrong method, read":   {request("POST", snapshotRoute, "", "{}"), "400"},
		"body on a read":       {request("GET", snapshotRoute, "", "{}"), "400"},
		"another host":         {strings.Replace(request("POST", linkRoute, "", good), "Host: "+host, "Host: localhost", 1), "400"},
		"an origin":            {request("POST", linkRoute, "Origin: https://evil.example\r\n", good), "400"},
		"an empty origin":      {request("POST", "/v1/quit", "Origin: \r\n", ""), "400"},
		"not JSON":             {request("POST", linkRoute, "", "link="+testLink), "400"},
		"not an object":        {request("POST", linkRoute, "", `["`+testLink+`"]`), "400"},
		"twice":                {request("POST", linkRoute, "", `{"link":"a","link":"`+testLink+`"}`), "400"},
		"two objects":          {request("POST", linkRoute, "", good+good), "400"},
		"cut":                  {request("POST", linkRoute, "", good[:len(good)-1]), "400"},
		"not a string":         {request("POST", linkRoute, "", `{"link":["`+testLink+`"]}`), "400"},
		"null":                 {request("POST", linkRoute, "", `{"link":null}`), "400"},
		"not UTF-8":            {request("POST", linkRoute, "", "{\"link\":\"\xff\"}"), "400"},
		"other case":           {request("POST", "/v1/open-recent", "", `{"ID":"r1"}`), "400"},
		"wrong type":           {request("POST", "/v1/sign-out", "", `{"all":"yes"}`), "400"},
		"a field of another":   {request("POST", "/v1/quit", "", `{"all":true}`), "400"},
		"no such reference":    {request("POST", refusalRoute, "", `{"code":"link_invalid","reference":"x"}`), "400"},
		"too large":            {request("POST", linkRoute, "", `{"link":"`+strings.Repeat("x", MaxBody)+`"}`), "413"},
		"too large, no length": {"POST " + linkRoute + " HTTP/1.1\r\nHost: " + host + "\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", MaxBody+1, strings.Repeat("x", MaxBody+1)), "413"},
		"header of a megabyte": {request("POST", linkRoute, "X: "+strings.Repeat("x", 1<<20)+"\r\n", good), "431"},
		"not HTTP":             {"\x16\x03\x01\x02\x00\r\n\r\n", "400"},
		"two lengths":          {"POST " + linkRoute + " HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", "400"},
		"no host":              {"POST /v1/quit HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "400"},
	} {
		conn := dialRaw(t, l)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			// The server may close before it has read everything, which is its right.
			_, _ = io.WriteString(conn, c.request)
		}()
		answer, _ := io.ReadAll(conn)
		_ = conn.Close()
		<-sent
		if !strings.HasPrefix(string(answer), "HTTP/1.1 "+c.status+" ") {
			t.Errorf("%s: got %.120q, want %s", name, answer, c.status)
		}
		if bytes.Contains(answer, []byte("handle=")) {
			t.Errorf("%s: the answer quotes the link", name)
		}
	}
	if a.calls() != 0 {
		t.Errorf("the agent was asked: %v %+v %v", a.links, a.intents, a.refusals)
	}
}

func TestARefusalOnTheFrozenRouteHasTheFrozenForm(t *testing.T) {
	l, s := listen(t)
	serve(t, s, newAgent())
	for _, r := range []string{request("POST", linkRoute, "", "{"), request("GET", linkRoute, "", ""), request("POST", linkRoute, "Origin: x\r\n", "{}"), request("POST", linkRoute, "", `{"link":""}`)} {
		if got := ask(t, l, r); !strings.Contains(got, `{"accepted":false,"id":"","code":"`) {
			t.Errorf("got %q", got)
		}
	}
}

func TestAPeerThatNeverEndsItsRequestIsDropped(t *testing.T) {
	l, s := listen(t)
	s.readLimit = 20 * time.Millisecond
	a := newAgent()
	serve(t, s, a)
	for _, part := range []string{"", "POST /v1/quit HT", request("POST", linkRoute, "", strings.Repeat("x", 100))[:90]} {
		c := dialRaw(t, l)
		if _, err := io.WriteString(c, part); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(c) // ends only when the server closes
	}
	if a.calls() != 0 {
		t.Error("the agent was asked")
	}
}

func TestAWatchSaysNowAndThenThatItLives(t *testing.T) {
	l, s := listen(t)
	s.heartbeat = time.Millisecond
	serve(t, s, newAgent())
	c := dialRaw(t, l)
	if _, err := io.WriteString(c, request("GET", watchRoute, "", "")); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	beats := make([]byte, 3)
	if _, err := io.ReadFull(answer.Body, beats); err != nil || string(beats) != "\n\n\n" {
		t.Errorf("got %q, %v", beats, err)
	}
}

func TestAWatcherThatNeverReadsIsDropped(t *testing.T) {
	l, s := listen(t)
	s.writeLimit = 20 * time.Millisecond
	a := newAgent()
	serve(t, s, a)
	c := dialRaw(t, l)
	if _, err := io.WriteString(c, request("GET", watchRoute, "", "")); err != nil {
		t.Fatal(err)
	}
	ctx := <-a.watching
	large := view.Snapshot{OrganizationName: strings.Repeat("x", 1<<20)}
	for ctx.Err() == nil {
		select {
		case a.updates <- large:
		case <-ctx.Done():
		}
	}
}

func TestAWatcherThatDiesIsNoticed(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	serve(t, s, a)
	c := dialRaw(t, l)
	if _, err := io.WriteString(c, request("GET", watchRoute, "", "")); err != nil {
		t.Fatal(err)
	}
	ctx := <-a.watching
	_ = c.Close()
	<-ctx.Done()
}

func TestAnAgentThatDoesNotAnswerIsUnreachable(t *testing.T) {
	l := paths.Under(t.TempDir(), "")
	listener := standIn(t, l)
	answers := make(chan string, 1)
	go func() {
		for answer := range answers {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, answer)
			_ = c.Close()
		}
	}()
	defer close(answers)
	for _, answer := range []string{"", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 502 Bad\r\nContent-Length: 3\r\n\r\noh!"} {
		answers <- answer
		if _, err := connect(t, l).Link(t.Context(), candidate(t, testLink), Activation{}); problem.CodeOf(err) != problem.AgentUnreachable || errors.Is(err, ErrNoAgent) {
			t.Errorf("%q: %v", answer, err)
		}
		answers <- answer
		if err := connect(t, l).Do(t.Context(), Intent{Name: Quit}); answer == "" && problem.CodeOf(err) != problem.AgentUnreachable {
			t.Errorf("%q: %v", answer, err)
		}
	}
}

func TestAnAnswerThatNeverComesIsNotWaitedForLongerThanTheContext(t *testing.T) {
	l := paths.Under(t.TempDir(), "")
	listener := standIn(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		c, err := listener.Accept()
		if err == nil {
			_, _ = c.Read(make([]byte, 4096))
			cancel()
			_, _ = io.Copy(io.Discard, c)
		}
	}()
	if _, err := connect(t, l).Link(ctx, candidate(t, testLink), Activation{}); problem.CodeOf(err) != problem.AgentUnreachable {
		t.Errorf("got %v", err)
	}
}
