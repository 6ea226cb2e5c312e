//go:build attackers && linux

package attackers

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// play does one of the roles and writes what it found as JSON.
func play(do string, args []string) int {
	var found any
	var err error
	switch do {
	case "connect":
		found, err = connect(args[0])
	case "dial":
		var conn net.Conn
		if conn, err = net.Dial("unix", args[0]); err == nil {
			err = conn.Close()
		}
	case "look":
		found, err = look(os.Stdin)
	case "process":
		pid, bad := strconv.Atoi(args[0])
		found, err = process(pid), bad
	case "browse":
		found, err = browse(args[0])
	case "get":
		found, err = get(args[0])
	case "squat":
		err = squat(args[0], args[1])
	default:
		err = errors.New("there is no such role")
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// answer is what a socket does with a stranger.
type answer struct {
	// Dialled is how connecting ended; empty when it succeeded.
	Dialled string
	// Said is what came back to a request.
	Said string
}

// connect asks whoever listens on a Unix socket to quit, and for all it shows.
func connect(socket string) (answer, error) {
	var a answer
	for _, request := range []string{
		"POST /v1/intent/quit HTTP/1.1\r\nHost: encounter-launcher\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
		"GET /v1/snapshot HTTP/1.1\r\nHost: encounter-launcher\r\n\r\n",
		"GET /deliveries HTTP/1.1\r\nHost: org-backend\r\n\r\n",
	} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			a.Dialled = err.Error()
			return a, nil
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(conn, request)
		said, _ := io.ReadAll(conn)
		a.Said += string(said)
		_ = conn.Close()
	}
	return a, nil
}

// look tries to open, to list and to change each path of its input, and names what it
// could do.
func look(in io.Reader) ([]string, error) {
	could := []string{}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		path := lines.Text()
		if f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0); err == nil {
			could = append(could, "read "+path)
			_ = f.Close()
		}
		if f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|syscall.O_NONBLOCK, 0); err == nil {
			could = append(could, "write "+path)
			_ = f.Close()
		}
		if planted := filepath.Join(path, "planted"); os.WriteFile(planted, nil, 0o600) == nil {
			could = append(could, "plant "+path)
			_ = os.Remove(planted)
		}
		if aside := path + ".aside"; os.Rename(path, aside) == nil {
			could = append(could, "move "+path)
			_ = os.Rename(aside, path)
		}
	}
	return could, nil
}

// process tries everything by which one process looks into another or meddles with it.
func process(pid int) []string {
	could := []string{}
	of := func(name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }
	for _, name := range []string{"environ", "mem", "maps", "smaps", "auxv", "io", "stack", "syscall", "pagemap", "personality", "timerslack_ns", "clear_refs"} {
		if f, err := os.Open(of(name)); err == nil {
			if n, _ := f.Read(make([]byte, 64)); n > 0 {
				could = append(could, name)
			}
			_ = f.Close()
		}
	}
	for _, name := range []string{"exe", "cwd", "root"} {
		if _, err := os.Readlink(of(name)); err == nil {
			could = append(could, name)
		}
	}
	for _, name := range []string{"fd", "fdinfo", "map_files", "task/" + strconv.Itoa(pid) + "/fd"} {
		if _, err := os.ReadDir(of(name)); err == nil {
			could = append(could, name)
		}
	}
	if unix.PtraceAttach(pid) == nil {
		could = append(could, "ptrace attach")
	}
	if unix.PtraceSeize(pid) == nil {
		could = append(could, "ptrace seize")
	}
	local, remote := make([]byte, 8), unix.RemoteIovec{Base: 0x400000, Len: 8}
	if _, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &local[0], Len: 8}}, []unix.RemoteIovec{remote}, 0); err == nil || errors.Is(err, unix.EFAULT) {
		could = append(could, "process_vm_readv")
	}
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		for n := range 16 {
			if got, err := unix.PidfdGetfd(fd, n, 0); err == nil {
				could = append(could, "pidfd_getfd")
				_ = unix.Close(got)
			}
		}
		if unix.PidfdSendSignal(fd, 0, nil, 0) == nil {
			could = append(could, "pidfd_send_signal")
		}
	}
	if syscall.Kill(pid, 0) == nil {
		could = append(could, "kill")
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_CORE, nil, new(unix.Rlimit)); err == nil {
		could = append(could, "prlimit")
	}
	return could
}

// visit is where a browser has come to.
type visit struct {
	Status int
	URL    string
	// Trail are the addresses on the way.
	Trail []string
}

var requestField = regexp.MustCompile(`name="request" value="([^"]+)"`)

// browse opens an address as a browser does, and signs in as Ada where it is asked.
func browse(address string) (visit, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return visit{}, err
	}
	var v visit
	client := &http.Client{Jar: jar, Timeout: 20 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		v.Trail = append(v.Trail, r.URL.String())
		return nil
	}}
	response, err := client.Get(address)
	if err != nil {
		return v, err
	}
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if field := requestField.FindSubmatch(text); err == nil && field != nil {
		u := response.Request.URL.ResolveReference(&url.URL{Path: "/sign-in"})
		response, err = client.PostForm(u.String(), url.Values{"request": {string(field[1])}, "clinician": {"ada"}})
		if err != nil {
			return v, err
		}
		_ = response.Body.Close()
	}
	v.Status, v.URL = response.StatusCode, response.Request.URL.String()
	return v, err
}

// get asks for one address and follows nothing.
func get(address string) (visit, error) {
	client := &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Get(address)
	if err != nil {
		return visit{}, err
	}
	_ = response.Body.Close()
	return visit{Status: response.StatusCode, URL: response.Header.Get("Location")}, nil
}

// squat listens on a socket in a folder that it makes where it is missing, open to
// all, and writes to a file what anybody sends.
func squat(socket, heard string) error {
	_ = os.Mkdir(filepath.Dir(socket), 0o777)
	f, err := os.OpenFile(heard, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o777); err != nil {
		return err
	}
	fmt.Fprintln(f, "listening")
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			for said := bufio.NewReader(conn); ; {
				line, err := said.ReadString('\n')
				if line != "" {
					fmt.Fprintf(f, "heard %q\n", line)
				}
				if err != nil {
					return
				}
			}
		}()
	}
}
