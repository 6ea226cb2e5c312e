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
	o := offer(base+"/"+name+"/control.sock", request(link, token, startupID), ackPatience)
	if accepted(o.Answer) {
		os.Exit(0)
	}
	return o
}

// offer connects, checks who is at the other end, sends the request and reads the
// answer to its end. Whatever is not as it always is, is left to main.
func offer(socket string, request []byte, patience time.Duration) Outcome {
	if len(socket) > longestAddress {
		return Outcome{}
	}
	// Without package net there is no poller to set up. The connection itself must not
	// wait either: an agent that is too busy to be connected to is main's.
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return Outcome{}
	}
	defer func() { _ = syscall.Close(fd) }()
	if syscall.Connect(fd, &syscall.SockaddrUnix{Name: socket}) != nil {
		return Outcome{}
	}
	// The kernel remembers who listened on the socket, and nothing has been sent yet
	// (SO_PEERCRED, unix(7)).
	peer, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil || int(peer.Uid) != os.Geteuid() {
		return Outcome{}
	}
	until := time.Now().Add(patience)
	if syscall.SetNonblock(fd, false) != nil || !limit(fd, syscall.SO_SNDTIMEO, until) {
		return Outcome{}
	}
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
