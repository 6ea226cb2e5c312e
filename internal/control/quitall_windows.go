package control

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

const (
	// systemSID is the account under which deployment tools run (Well-known SIDs).
	systemSID = "S-1-5-18"
	// windowVerb is the first argument of a window's process.
	windowVerb = "window"
	// restTime is what is kept of the time for what is left when agents have taken
	// all of theirs: windows end at once.
	restTime = 500 * time.Millisecond
	// lookAgain is how often is looked for what still runs.
	lookAgain = 100 * time.Millisecond
)

// errNotTheirs says that a pipe has the name of a user's agent and is none.
var errNotTheirs = errors.New("the process that has the agent's name belongs to another user or session")

// Quits is what QuitAll found and did.
type Quits struct {
	// Ended is the number of agents that were told to quit and have gone.
	Ended int
	// Closed is the number of open windows that were ended. They hold nothing.
	Closed int
	// Left is the number of processes that still run.
	Left int
}

// QuitAll tells the agents of all sessions to quit once what is in flight has ended,
// and waits until they have gone or ctx ends. For the system's account these are the
// agents of everybody on this computer, for anybody else their own. Windows that then
// run from program or from the .com beside it are ended, and everything else that
// does is waited for, so that the files can be replaced: a link that is handed over,
// or an agent that begins and is told in its turn. But for windows nothing is ended by
// force. Nothing that runs is no error.
func QuitAll(ctx context.Context, l paths.Layout, program string) (Quits, error) {
	me, err := ownIdentity()
	if err != nil {
		return Quits{}, problem.New(problem.Internal, err)
	}
	telling := ctx
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		telling, cancel = context.WithDeadline(ctx, end.Add(-restTime))
		defer cancel()
	}
	var q Quits
	for {
		ended, agents := quitEach(telling, l.Name, agentsOf(me, running(l.Name, me)))
		closed, rest := endWindows(ctx, running(l.Name, me), program)
		q.Ended += ended
		q.Closed += closed
		q.Left = count(agents, rest)
		if q.Left == 0 && ended == 0 && closed == 0 {
			return q, nil // and no link has started one meanwhile
		}
		if q.Left > 0 {
			select {
			case <-telling.Done():
				return q, nil
			case <-time.After(lookAgain):
			}
		}
	}
}

// count returns how many processes agents and rest are together. An agent that could
// not be reached has no number: it may be any process of its user.
func count(agents, rest []process) int {
	n := len(rest)
	for _, a := range agents {
		if !slices.ContainsFunc(rest, func(p process) bool { return p.pid == a.pid || a.pid == 0 && p.who == a.who }) {
			n++
		}
	}
	return n
}

// process is a running process of this program.
type process struct {
	pid uint32
	who identity
}

// mayEnd reports whether me is told to end what belongs to who.
func mayEnd(me, who identity) bool { return me.sid == systemSID || me.sid == who.sid }

// agentsOf returns whose agents to look for: who has a process of the program, and
// the caller. The system's account has an agent only where it has a process: anybody
// could take the name.
func agentsOf(me identity, found []process) []identity {
	seen := map[identity]bool{}
	var list []identity
	if me.sid != systemSID {
		seen[me] = true
		list = append(list, me)
	}
	for _, p := range found {
		if !seen[p.who] && mayEnd(me, p.who) {
			seen[p.who] = true
			list = append(list, p.who)
		}
	}
	return list
}

// running returns the processes, but for this one, whose file has the program's
// name and which me may end. A process that does not say whose it is, is somebody
// else's.
func running(program string, me identity) []process {
	snapshot, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = windows.CloseHandle(snapshot) }()
	var found []process
	entry := windows.ProcessEntry32{Size: uint32(unsafe.Sizeof(windows.ProcessEntry32{}))}
	for err = windows.Process32First(snapshot, &entry); err == nil; err = windows.Process32Next(snapshot, &entry) {
		name := windows.UTF16ToString(entry.ExeFile[:])
		if entry.ProcessID == windows.GetCurrentProcessId() || !strings.EqualFold(name, program+".exe") && !strings.EqualFold(name, program+".com") {
			continue
		}
		if who, err := identityOf(entry.ProcessID); err == nil && mayEnd(me, who) {
			found = append(found, process{entry.ProcessID, who})
		}
	}
	return found
}

// quitEach tells the agents to quit, all at once: one that takes its time keeps
// none of the others waiting. It returns those that have not gone.
func quitEach(ctx context.Context, program string, whose []identity) (ended int, left []process) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, who := range whose {
		all.Go(func() {
			pid, gone, err := quitOne(ctx, program, who)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case isNone(err):
			case err != nil || !gone:
				left = append(left, process{pid, who})
			default:
				ended++
			}
		})
	}
	all.Wait()
	return ended, left
}

// isNone reports whether the error of quitOne says that there is no agent of the
// user. An agent's pipe lets its user and the system in: one that does not is none.
func isNone(err error) bool {
	return errors.Is(err, ErrNoAgent) || errors.Is(err, errNotTheirs) || errors.Is(err, windows.ERROR_ACCESS_DENIED)
}

// quitOne tells one agent to quit and waits for the end of its process. pid is 0
// where none was reached.
func quitOne(ctx context.Context, program string, who identity) (pid uint32, gone bool, err error) {
	for _, finish := range []bool{true, false} { // an older agent refuses the field
		conn, server, err := dialTo(ctx, program, who)
		if err != nil {
			return pid, false, err
		}
		pid = uint32(server)
		// Opened before it is told: afterwards the number may be another process's.
		h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, pid)
		if err != nil {
			_ = conn.Close()
			if hasGone(err) {
				return pid, false, ErrNoAgent
			}
			return pid, false, errors.New("the agent's process cannot be waited for")
		}
		refused, gone, err := quitBy(ctx, conn, h, finish)
		_ = windows.CloseHandle(h)
		if !refused || !finish {
			return pid, gone, err
		}
	}
	return pid, false, nil
}

// quitBy tells the agent at the other end of a connection, whose process is h.
func quitBy(ctx context.Context, conn net.Conn, h windows.Handle, finish bool) (refused, gone bool, err error) {
	body, err := encodeIntent(Intent{Name: Quit, Finish: finish})
	if err != nil {
		_ = conn.Close()
		return false, false, err
	}
	status, text, err := exchange(ctx, conn, answerLimit, http.MethodPost, intentRoutes+Quit, body)
	switch {
	case err != nil && !ends(ctx, h): // one that was ending already has not answered
		return false, false, err
	case err == nil && status != http.StatusOK:
		err = restore(text)
		return problem.IsCode(err, problem.RequestInvalid), false, err
	}
	return false, ends(ctx, h), nil
}

// hasGone reports whether the error of OpenProcess says that there is no such
// process; any other says that it may not be opened.
func hasGone(err error) bool { return errors.Is(err, windows.ERROR_INVALID_PARAMETER) }

// ends waits for the end of a process.
func ends(ctx context.Context, h windows.Handle) bool {
	for {
		event, err := windows.WaitForSingleObject(h, 20)
		if err != nil || event != uint32(windows.WAIT_TIMEOUT) {
			return err == nil
		}
		if ctx.Err() != nil {
			return false
		}
	}
}

// endWindows ends the windows that run from the program's files, and returns what
// else does.
func endWindows(ctx context.Context, found []process, file string) (closed int, rest []process) {
	for _, p := range found {
		h, err := windows.OpenProcess(windows.SYNCHRONIZE|windows.PROCESS_QUERY_LIMITED_INFORMATION|windows.PROCESS_TERMINATE, false, p.pid)
		if err != nil {
			if !hasGone(err) {
				rest = append(rest, p)
			}
			continue
		}
		switch {
		case hasEnded(h) || !runsFrom(h, file):
		case isWindow(p.pid) && windows.TerminateProcess(h, 0) == nil && ends(ctx, h):
			closed++
		case !hasEnded(h):
			rest = append(rest, p)
		}
		_ = windows.CloseHandle(h)
	}
	return closed, rest
}

func hasEnded(h windows.Handle) bool {
	event, err := windows.WaitForSingleObject(h, 0)
	return err == nil && event == windows.WAIT_OBJECT_0
}

// isWindow reports whether a process was started as a window. Whoever gives another
// process that argument has only their own ended.
func isWindow(pid uint32) bool {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION|windows.PROCESS_VM_READ, false, pid)
	if err != nil {
		return false
	}
	defer func() { _ = windows.CloseHandle(h) }()
	args, err := windows.DecomposeCommandLine(commandLine(h))
	return err == nil && len(args) > 1 && args[1] == windowVerb
}

// commandLine reads a process's command line out of its memory, or nothing
// ("PEB structure", Microsoft Learn). Addresses there are numbers here. The call that
// returns it in one (ProcessCommandLineInformation) is not in Wine 8.
func commandLine(h windows.Handle) string {
	// PROCESS_BASIC_INFORMATION is six words, and the second is the address of the PEB.
	var basic [6]uintptr
	if windows.NtQueryInformationProcess(h, windows.ProcessBasicInformation, unsafe.Pointer(&basic), uint32(unsafe.Sizeof(basic)), nil) != nil {
		return ""
	}
	var parameters uintptr
	var line struct { // UNICODE_STRING
		length, most uint16
		at           uintptr
	}
	if !readFrom(h, basic[1]+unsafe.Offsetof(windows.PEB{}.ProcessParameters), unsafe.Pointer(&parameters), unsafe.Sizeof(parameters)) ||
		!readFrom(h, parameters+unsafe.Offsetof(windows.RTL_USER_PROCESS_PARAMETERS{}.CommandLine), unsafe.Pointer(&line), unsafe.Sizeof(line)) {
		return ""
	}
	text := make([]uint16, line.length/2+1) // ends in 0
	if !readFrom(h, line.at, unsafe.Pointer(&text[0]), uintptr(line.length/2)*2) {
		return ""
	}
	return windows.UTF16ToString(text)
}

func readFrom(h windows.Handle, at uintptr, to unsafe.Pointer, size uintptr) bool {
	return windows.ReadProcessMemory(h, at, (*byte)(to), size, nil) == nil
}

// runsFrom reports whether a process runs from file or from the .com beside it.
func runsFrom(h windows.Handle, file string) bool {
	text := make([]uint16, windows.MAX_LONG_PATH)
	size := uint32(len(text))
	if windows.QueryFullProcessImageName(h, 0, &text[0], &size) != nil {
		return false
	}
	return strings.EqualFold(bareName(windows.UTF16ToString(text[:size])), bareName(file))
}

func bareName(path string) string { return strings.TrimSuffix(path, filepath.Ext(path)) }
