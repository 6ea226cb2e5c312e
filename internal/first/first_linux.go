package first

import (
	"os"
	"syscall"
	"time"

	"encounterlauncher/internal/ground"
)

// maxAnswer bounds an answer in bytes; an acknowledgement has 200.
const maxAnswer = 64 << 10

// longestAddress is sun_path without its end: unix(7).
const longestAddress = 107

func atOnce() Outcome {
	if len(os.Args) != 2 {
		return Outcome{}
	}
	name := ground.Name(ground.Flavour())
	link, token, startupID := os.Args[1], os.Getenv("XDG_ACTIVATION_TOKEN"), os.Getenv("DESKTOP_STARTUP_ID")
	if !plainLink(name, link) || !plainClick(token) || !plainClick(startupID) {
		return Outcome{}
	}
	base, ok := ground.Session()
	if !ok || ground.PrivateDir(base+"/"+name) != nil {
		return Outcome{}
	}
	ground.WithoutCore() // from here on the link is somewhere else in memory too
	o, nobody := offer(base+"/"+name+"/control.sock", request(link, token, startupID), ackPatience)
	switch {
	case accepted(o.Answer):
		os.Exit(0)
	case nobody:
		o.Agent = start()
	}
	return o
}

// offer connects, checks who is at the other end, sends the request and reads the
// answer to its end. nobody says that nobody listens. Whatever is not as it always is,
// is left to main.
func offer(socket string, request []byte, patience time.Duration) (o Outcome, nobody bool) {
	if len(socket) > longestAddress {
		return Outcome{}, false
	}
	// Without package net there is no poller to set up. The connection itself must not
	// wait either: an agent that is too busy to be connected to is main's.
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return Outcome{}, false
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: socket}); err != nil {
		return Outcome{}, err == syscall.ENOENT || err == syscall.ECONNREFUSED
	}
	// The kernel remembers who listened on the socket, and nothing has been sent yet
	// (SO_PEERCRED, unix(7)).
	peer, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil || int(peer.Uid) != os.Geteuid() {
		return Outcome{}, false
	}
	until := time.Now().Add(patience)
	if syscall.SetNonblock(fd, false) != nil || !limit(fd, syscall.SO_SNDTIMEO, until) {
		return Outcome{}, false
	}
	return ask(fd, request, until), false
}

// ask sends the request and reads the answer to its end.
func ask(fd int, request []byte, until time.Time) Outcome {
	for rest := request; len(rest) > 0; {
		n, err := syscall.Write(fd, rest)
		if err == syscall.EINTR && limit(fd, syscall.SO_SNDTIMEO, until) {
			continue
		}
		if err != nil {
			return Outcome{Asked: true, Late: err == syscall.EAGAIN}
		}
		rest = rest[n:]
	}
	answer := make([]byte, 0, 512)
	for {
		if !limit(fd, syscall.SO_RCVTIMEO, until) {
			return Outcome{Asked: true, Late: true}
		}
		if len(answer) == cap(answer) {
			answer = append(answer, 0)[:len(answer)]
		}
		n, err := syscall.Read(fd, answer[len(answer):cap(answer)])
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return Outcome{Asked: true, Late: true}
		case err != nil || n == 0 && len(answer) == 0 || len(answer) > maxAnswer:
			return Outcome{Asked: true}
		case n == 0:
			return Outcome{Asked: true, Answer: answer}
		default:
			answer = answer[:len(answer)+n]
		}
	}
}

// start starts the agent detached: a session of its own, no terminal, no inherited
// files, no click. It returns nil where that does not go the plain way.
func start() *os.Process {
	const closeRange, cloexec = 436, 4 // close_range(2), since Linux 5.11 with that flag
	executable, err := os.Executable()
	if err != nil {
		return nil
	}
	// Every file that a browser left open in this process is not the agent's.
	if _, _, errno := syscall.Syscall(closeRange, 3, ^uintptr(0), cloexec); errno != 0 {
		return nil
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	defer null.Close()
	var env []string
	for _, v := range os.Environ() {
		if !begins(v, "XDG_ACTIVATION_TOKEN=") && !begins(v, "DESKTOP_STARTUP_ID=") {
			env = append(env, v)
		}
	}
	how := &os.ProcAttr{Dir: "/", Env: env, Files: []*os.File{null, null, null}, Sys: &syscall.SysProcAttr{Setsid: true}}
	agent, err := os.StartProcess(executable, []string{executable, "agent"}, how)
	if err != nil {
		return nil
	}
	return agent
}

func begins(text, prefix string) bool {
	return len(text) >= len(prefix) && text[:len(prefix)] == prefix
}

// limit has the next call end when the time is over (socket(7)); false when it is over
// already.
func limit(fd, option int, until time.Time) bool {
	left := time.Until(until)
	if left <= 0 {
		return false
	}
	t := syscall.NsecToTimeval(max(left, time.Microsecond).Nanoseconds())
	return syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, option, &t) == nil
}
