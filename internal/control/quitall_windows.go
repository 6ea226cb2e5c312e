package control

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
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
	// finishTime is how long what is no agent may take to end by itself: a link that
	// is being handed over does.
	finishTime = 2 * time.Second
)

// Quits is what QuitAll found and did.
type Quits struct {
	// Ended is the number of agents that were told to quit and have gone.
	Ended int
	// Closed is the number of other processes of the program that were ended: open
	// windows, which hold nothing.
	Closed int
	// Left is the number of processes that still run.
	Left int
}

// QuitAll tells the agents of all sessions to quit, and waits until they have gone
// or ctx ends. For the system's account these are the agents of everybody on this
// computer, for anybody else their own. What else then runs from program or from
// the .com beside it is waited for and then ended, so that the files can be
// replaced. An agent is only ever told: it finishes what it is about. Nothing that
// runs is no error.
func QuitAll(ctx context.Context, l paths.Layout, program string) (Quits, error) {
	me, err := ownIdentity()
	if err != nil {
		return Quits{}, problem.New(problem.Internal, err)
	}
	var q Quits
	for {
		found := running(l.Name, me)
		ended, left := quitEach(ctx, l.Name, agentsOf(me, found))
		q.Ended += ended
		if left > 0 {
			q.Left = left
			return q, nil
		}
		if ended == 0 {
			break // and no link has started one meanwhile
		}
	}
	q.Closed, q.Left = endRest(ctx, l.Name, me, program)
	return q, nil
}

// process is a running process of this program.
type process struct {
	pid uint32
	who identity
}

// mayEnd reports whether me is told to end what belongs to who.
func mayEnd(me, who identity) bool { return me.sid == systemSID || me.sid == who.sid }

// agentsOf returns whose agents to look for: who has a process of the program, and
// the caller.
func agentsOf(me identity, found []process) []identity {
	seen := map[identity]bool{me: true}
	list := []identity{me}
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
// none of the others waiting.
func quitEach(ctx context.Context, program string, whose []identity) (ended, left int) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, who := range whose {
		all.Go(func() {
			gone, err := quitOne(ctx, program, who)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, ErrNoAgent):
			case err != nil || !gone:
				left++
			default:
				ended++
			}
		})
	}
	all.Wait()
	return ended, left
}

// quitOne tells one agent to quit and waits for the end of its process.
func quitOne(ctx context.Context, program string, who identity) (gone bool, err error) {
	conn, pid, err := dialTo(ctx, program, who)
	if err != nil {
		return false, err
	}
	// Opened before it is told: afterwards the number may be another process's.
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		_ = conn.Close()
		return false, bare(err)
	}
	defer func() { _ = windows.CloseHandle(h) }()
	status, text, err := exchange(ctx, conn, answerLimit, http.MethodPost, intentRoutes+Quit, nil)
	switch {
	case err != nil && !ends(ctx, h): // one that was ending already has not answered
		return false, err
	case err == nil && status != http.StatusOK:
		return false, restore(text)
	}
	return ends(ctx, h), nil
}

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

// endRest waits for what still runs from the program's files, and ends it where it
// does not end by itself. An agent is not ended: it is left.
func endRest(ctx context.Context, program string, me identity, file string) (closed, left int) {
	patient, cancel := context.WithTimeout(ctx, finishTime)
	defer cancel()
	for _, p := range running(program, me) {
		h, err := windows.OpenProcess(windows.SYNCHRONIZE|windows.PROCESS_QUERY_LIMITED_INFORMATION|windows.PROCESS_TERMINATE, false, p.pid)
		if err != nil {
			continue // it has ended
		}
		switch {
		case !runsFrom(h, file) || ends(patient, h):
		case isAgent(ctx, program, p):
			left++
		case windows.TerminateProcess(h, 0) == nil && ends(ctx, h):
			closed++
		default:
			left++
		}
		_ = windows.CloseHandle(h)
	}
	return closed, left
}

func isAgent(ctx context.Context, program string, p process) bool {
	conn, pid, err := dialTo(ctx, program, p.who)
	if err != nil {
		return !errors.Is(err, ErrNoAgent) // one that does not answer may be one
	}
	_ = conn.Close()
	return uint32(pid) == p.pid
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
