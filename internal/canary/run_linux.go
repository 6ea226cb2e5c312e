package canary

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"encounterlauncher/internal/stage"
)

// Options say how much is done.
type Options struct {
	// Short leaves out what takes long: it goes every kind of path once.
	Short bool
	// Window also runs the window, on a display of its own. Its page must have been
	// built (make frontend).
	Window bool
}

// run is one run.
type run struct {
	Options
	dir      string
	marks    *Marks
	evidence *evidence
	hospital *hospital
	session  *stage.Session
	tried    []Path
	wrong    []string
	taken    []time.Time // when the agent had taken its newest links
	tell     func(string)
	agents   int
	agent    *agentRun
}

// agentRun is an agent whose streams are kept.
type agentRun struct {
	cmd     *exec.Cmd
	program *stage.Program
	said    string // file
}

// Run sends marked data through the real programs and searches for it. progress, which
// may be nil, is told what is being done. An error says that the run could not be made;
// what it found is in the report.
func Run(ctx context.Context, o Options, progress func(string)) (_ Report, err error) {
	if progress == nil {
		progress = func(string) {}
	}
	dir, err := os.MkdirTemp("", "cy-") // short, for the names of sockets
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r := &run{Options: o, dir: dir, marks: &Marks{}, evidence: newEvidence(), tell: progress}
	if err := r.through(ctx); err != nil {
		return Report{}, err
	}
	r.tell("searching")
	searcher := NewSearcher(r.marks)
	r.evidence.search(searcher)
	report := judge(searcher, r.marks.Count(), Allowed(), o.Window)
	report.Tried, report.Wrong = r.tried, append(report.Wrong, r.wrong...)
	return report, nil
}

func (r *run) folder(name string) string { return filepath.Join(r.dir, name) }

// through starts everything, goes all paths and gathers what is to be searched.
func (r *run) through(ctx context.Context) (err error) {
	// What would be written of a crash is written: were a core possible, it would be.
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &before); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: before.Max, Max: before.Max}); err != nil {
		return err
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &before) }()

	r.tell("building the programs")
	programs, err := stage.NewPrograms(r.dir)
	if err != nil {
		return err
	}
	builds := []stage.Build{programs.Launcher(), {Name: "xdg-open", Source: "./internal/canary/opener"}, programs.Backend(), programs.Simulator()}
	if r.Window {
		builds = append(builds, programs.WindowProgram())
	}
	if err := programs.Build(ctx, builds...); err != nil {
		return err
	}
	r.tell("starting the hospital and a desktop")
	if r.hospital, err = newHospital(ctx, r.dir, programs, r.marks, r.evidence); err != nil {
		return err
	}
	defer r.hospital.close()
	if err := r.policy(nil); err != nil {
		return err
	}
	for _, name := range []string{"s", "tmp", "keep", "said"} {
		if err := os.Mkdir(r.folder(name), 0o700); err != nil {
			return err
		}
	}
	r.session, err = stage.NewSession(ctx, stage.SessionOptions{
		Dir: r.folder("s"), Programs: programs, Display: r.Window,
		Env: []string{"TMPDIR=" + r.folder("tmp"), "CANARY_FAILS=" + r.folder("opener-fails")},
	})
	if err != nil {
		return err
	}
	defer r.session.Close()
	if err := r.takeNotices(); err != nil {
		return err
	}
	watched := []string{r.folder("tmp"), r.hospital.dir}
	for _, name := range []string{"home", "run", "state", "config", "data", "cache"} {
		watched = append(watched, r.session.Folder(name))
	}
	fleeting, err := watchFleeting(r.folder("keep"), r.fleetingPlace, watched...)
	if err != nil {
		return err
	}
	bus, err := monitorBus(filepath.Join(r.session.Dir, "bus"), r.evidence)
	if err != nil {
		return err
	}
	processes := watchProcesses(r.evidence, "XDG_RUNTIME_DIR="+r.session.Folder("run"), roleOf)
	err = r.paths(ctx)
	processes.close()
	r.sweep(ctx)
	r.hospital.backend.Stop()
	r.hospital.sim.Stop()
	r.sweep(ctx)
	fleeting.close(r.evidence)
	return errors.Join(err, bus.close())
}

// roleOf says what a process of the session is.
func roleOf(argv []string) role {
	base := filepath.Base(argv[0])
	switch {
	case base == stage.LauncherName && slices.Contains([]string{"agent", "doctor --json-lines"}, strings.Join(argv[1:], " ")):
		return role{AgentArgv, AgentEnv}
	case base == stage.LauncherName && len(argv) == 2 && strings.Contains(argv[1], ":"):
		return role{HandlerArgv, HandlerEnv}
	case base == stage.LauncherName:
		return role{CommandArgv, CommandEnv}
	case base == "xdg-open":
		return role{OpenerArgv, OpenerEnv}
	case base == stage.WindowName || strings.HasPrefix(base, "WebKit"):
		return role{WindowArgv, WindowEnv}
	}
	return role{} // the desktop's own
}

// policy writes the machine's policy, changed as said.
func (r *run) policy(change map[string]any) error {
	h := r.hospital
	keys := stage.Policy(h.authority, h.issuer, h.backend)
	keys["LinkKeys"] = json.RawMessage(h.secrets.LinkKeys)
	keys["AllowedLinkForms"] = []string{"handle", "request", "identifiers"}
	keys["LogLevel"] = "debug"
	for name, v := range change {
		if v == nil {
			delete(keys, name)
		} else {
			keys[name] = v
		}
	}
	return h.programs.WritePolicy(keys)
}

// notices is a notification service that takes everything.
type notices struct{}

// GetCapabilities says that notices may carry actions.
func (notices) GetCapabilities() ([]string, *dbus.Error) {
	return []string{"actions", "body", "persistence"}, nil
}

// GetServerInformation names this stand-in.
func (notices) GetServerInformation() (string, string, string, string, *dbus.Error) {
	return "canary", "encounter-launcher", "1", "1.2", nil
}

// Notify takes a notice; the bus is what hears it.
func (notices) Notify(string, uint32, string, string, string, []string, map[string]dbus.Variant, int32) (uint32, *dbus.Error) {
	return 1, nil
}

// CloseNotification takes a notice away.
func (notices) CloseNotification(uint32) *dbus.Error { return nil }

func (r *run) takeNotices() error {
	bus := r.session.Bus()
	if err := bus.Export(notices{}, "/org/freedesktop/Notifications", noticesName); err != nil {
		return err
	}
	_, err := bus.RequestName(noticesName, dbus.NameFlagDoNotQueue)
	return err
}

// fleetingPlace is FleetingFiles but for what is on its way to the EHR.
func (r *run) fleetingPlace(path string) PlaceName {
	if strings.HasPrefix(path, filepath.Join(r.hospital.dir, "exports")+"/") {
		return BackendExports
	}
	return FleetingFiles
}

// channel asks the agent for what its window would be told.
func (r *run) channel(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.session.Socket())
	}}}
	for _, route := range []string{"/v1/snapshot", "/v1/policy"} {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://encounter-launcher"+route, nil)
		if err != nil {
			continue
		}
		if answer, err := client.Do(q); err == nil {
			text, _ := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				r.evidence.add(Snapshots, route, text)
			}
		}
	}
}

// tray asks for the icon and the menu, as the host of a tray does, and returns what the
// menu says.
func (r *run) tray(ctx context.Context) (says string) {
	bus := r.session.Bus()
	var names []string
	if bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.ListNames", 0).Store(&names) != nil {
		return ""
	}
	const item = "org.kde.StatusNotifierItem"
	for _, name := range names {
		if !strings.HasPrefix(name, item) {
			continue
		}
		icon := bus.Object(name, "/StatusNotifierItem")
		_ = icon.CallWithContext(ctx, "org.freedesktop.DBus.Properties.GetAll", 0, item).Err // the bus hears the answer
		if menu, err := icon.GetProperty(item + ".Menu"); err == nil {
			if path, ok := menu.Value().(dbus.ObjectPath); ok {
				says += fmt.Sprint(bus.Object(name, path).CallWithContext(ctx, "com.canonical.dbusmenu.GetLayout", 0, int32(0), int32(-1), []string{}).Body)
			}
		}
	}
	return says
}

// inTray waits until the menu says something: the tray draws a moment after a change.
func (r *run) inTray(ctx context.Context, text string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for !strings.Contains(r.tray(ctx), text) {
		select {
		case <-ctx.Done():
			return errors.New("the tray does not show what it should")
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// sweep reads everything that is not heard as it happens.
func (r *run) sweep(ctx context.Context) {
	e, s, h := r.evidence, r.session, r.hospital
	r.tray(ctx)
	r.channel(ctx)
	for _, folder := range []string{"home", "state", "config", "data", "cache"} {
		e.files(s.Folder(folder), func(name string) PlaceName {
			rest := strings.TrimPrefix(name, "encounter-launcher/")
			switch {
			case strings.HasPrefix(name, "keyrings") || strings.Contains(name, "/keyrings/"):
				return KeyringFiles
			case strings.HasPrefix(filepath.Base(name), "agent.log"):
				return LauncherLog
			case strings.HasPrefix(rest, "audit"):
				return LauncherAudit
			case strings.HasPrefix(rest, "recents"):
				return RecentsFile
			}
			return UserFiles
		})
	}
	e.files(s.Folder("run"), func(string) PlaceName { return RuntimeFiles })
	e.files(r.folder("tmp"), func(string) PlaceName { return TemporaryFiles })
	e.files(h.secrets.Dir, func(string) PlaceName { return BackendSecrets })
	e.files(h.dir, func(name string) PlaceName {
		switch {
		case strings.HasPrefix(name, "queue"):
			return JetStream
		case strings.HasPrefix(name, "exports"):
			return BackendExports
		case strings.HasPrefix(name, "audit"):
			return BackendAudit
		case strings.HasPrefix(filepath.Base(name), "core"):
			return CoreDumps
		}
		return BackendFiles
	})
	e.files(r.folder("said"), func(name string) PlaceName {
		if strings.HasPrefix(filepath.Base(name), "core") {
			return CoreDumps
		}
		return AgentSays
	})
	e.add(BackendSays, "org-backend", []byte(h.backend.Said()))
	e.add(SimulatorSays, "nabla-sim", []byte(h.sim.Said()))
	r.process(h.backend.PID(), role{BackendArgv, BackendEnv})
	if a, err := s.Agent(); err == nil {
		r.process(a.PID, role{AgentArgv, AgentEnv})
		for _, child := range stage.Family(a.PID) {
			r.noCore(child)
		}
	}
	if page, err := http.Get("http://" + h.metrics + "/metrics"); err == nil {
		text, _ := io.ReadAll(page.Body)
		_ = page.Body.Close()
		e.add(Metrics, "/metrics", text)
	}
	for _, note := range s.Notes.Take() {
		r.note(note)
	}
	if r.Window {
		e.display(ctx, func(ctx context.Context, name string, args ...string) *exec.Cmd { return s.Command(ctx, name, args...) })
	}
}

// noCore notes where a process may leave its memory on the disk.
func (r *run) noCore(pid int) {
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return // it has ended
	}
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	_, rest, _ := strings.Cut(string(limits), "Max core file size")
	soft, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	r.evidence.add(CoreDumps, strings.TrimSpace(string(name)), fmt.Appendf(nil, "core limit of %s: %s", name, soft))
	if soft != "0" {
		r.wrong = append(r.wrong, fmt.Sprintf("%s may write a core: its limit is %s", strings.TrimSpace(string(name)), soft))
	}
}

func (r *run) process(pid int, as role) {
	r.noCore(pid)
	argv, err1 := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	env, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err1 == nil && err2 == nil && len(argv) > 0 {
		r.evidence.add(as.argv, filepath.Base(string(bytes.SplitN(argv, []byte{0}, 2)[0])), argv)
		r.evidence.add(as.env, filepath.Base(string(bytes.SplitN(argv, []byte{0}, 2)[0])), env)
	}
}

// note takes what the opener tells of itself.
func (r *run) note(n stage.Note) {
	switch n.Kind {
	case 'a':
		r.evidence.add(OpenerArgv, "xdg-open", []byte(n.Text))
	case 'e':
		r.evidence.add(OpenerEnv, "xdg-open", []byte(n.Text))
	}
}

// opened waits for the next address that the opener is given.
func (r *run) opened(ctx context.Context) (string, error) {
	late := time.NewTimer(stage.Patience)
	defer late.Stop()
	for {
		more := r.session.Notes.More()
		address := ""
		for _, n := range r.session.Notes.Take() {
			r.note(n)
			if n.Kind == stage.NoteOpener {
				address = n.Text
			}
		}
		if address != "" {
			return address, nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-late.C:
			return "", errors.New("the opener was given nothing")
		case <-more:
		}
	}
}

// launcher runs a command of the launcher's and keeps what it says.
func (r *run) launcher(ctx context.Context, in string, args ...string) (int, string, error) {
	cmd := r.session.Command(ctx, r.hospital.programs.Path(stage.LauncherName), args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Stdin = &said, &said, strings.NewReader(in)
	err := cmd.Run()
	as, says := role{CommandArgv, CommandEnv}, CommandsSay
	if of := roleOf(cmd.Args); of.argv == HandlerArgv || len(args) > 0 && strings.Contains(args[0], ":") {
		as, says = role{HandlerArgv, HandlerEnv}, HandlerSays
	}
	what := "a link"
	if says == CommandsSay {
		what = args[0]
	}
	r.evidence.add(says, what, append([]byte{'\n'}, said.Bytes()...))
	r.evidence.add(as.argv, what, []byte(strings.Join(cmd.Args, "\x00")))
	r.evidence.add(as.env, what, []byte(strings.Join(cmd.Env, "\x00")))
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), said.String(), nil
	}
	return 0, said.String(), err
}

// startAgent starts the agent as a desktop does at logon, with streams that are kept.
func (r *run) startAgent(ctx context.Context, env ...string) error {
	r.agents++
	file := filepath.Join(r.folder("said"), fmt.Sprintf("agent-%d", r.agents))
	out, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	fmt.Fprintln(out, "the streams of an agent:")
	cmd := r.session.Command(ctx, r.hospital.programs.Path(stage.LauncherName), "agent")
	cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], env...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, r.folder("said") // where a core would go
	program, err := r.session.Start(cmd)
	if err != nil {
		return err
	}
	r.agent = &agentRun{cmd, program, file}
	return stage.Await(ctx, "the agent", func() bool {
		_, err := r.session.Agent()
		return err == nil || program.Ended()
	})
}

// endAgent ends the agent by a signal, and keeps what it says at its end.
func (r *run) endAgent(ctx context.Context, with syscall.Signal) error {
	if err := r.agent.cmd.Process.Signal(with); err != nil {
		return fmt.Errorf("ending the agent: %w", err)
	}
	if err := stage.Await(ctx, "the end of the agent", r.agent.program.Ended); err != nil {
		return err
	}
	return r.crashed(r.agent.cmd, r.agent.said, with)
}

// crashed keeps what a process that was ended has left.
func (r *run) crashed(cmd *exec.Cmd, said string, with syscall.Signal) error {
	if with != syscall.SIGQUIT && with != syscall.SIGABRT {
		return nil
	}
	text, err := os.ReadFile(said)
	if err != nil {
		return err
	}
	if !bytes.Contains(text, []byte("goroutine ")) {
		return errors.New("the crash printed no goroutines, so it shows nothing")
	}
	r.evidence.add(CrashSays, filepath.Base(cmd.Path), text)
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.CoreDump() {
		r.wrong = append(r.wrong, filepath.Base(cmd.Path)+" wrote a core when it was ended by "+with.String())
	}
	r.evidence.add(CoreDumps, filepath.Base(cmd.Path), fmt.Appendf(nil, "core written: %v", status.CoreDump()))
	return nil
}

// launched is a launch as status tells it.
type launched struct{ ID, Stage, Code string }

func (l launched) over() bool {
	return l.Stage == "opened" || l.Stage == "failed" || l.Stage == "cancelled"
}

// last is the last launch, zero before the first.
func (r *run) last(ctx context.Context) launched {
	_, said, err := r.launcher(ctx, "", "status", "--json")
	var s struct{ Launch *launched }
	if err != nil || json.Unmarshal([]byte(said), &s) != nil || s.Launch == nil {
		return launched{}
	}
	return *s.Launch
}
