package agent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// ErrUpgraded is what Run returns when the program's own file was replaced: the
// caller re-executes itself.
var ErrUpgraded = errors.New("the program's file was replaced")

const (
	// upgradeLook is how often the agent looks at its own file: two system calls.
	upgradeLook = 5 * time.Second
	// upgradeProbe bounds the trial run of the new file.
	upgradeProbe = 10 * time.Second
)

// ownFile is the file that this program was started from.
type ownFile struct {
	path string
	info fs.FileInfo // nil when it could not be looked at
}

// startedFrom looks at the program's own file: two system calls. It is asked before
// anybody can reach the agent, since a file that is replaced before the first look
// would else be taken for its own.
func startedFrom() (own ownFile, err error) {
	if own.path, err = os.Executable(); err == nil {
		own.info, _ = os.Stat(own.path)
	}
	return own, err
}

func (own ownFile) watch(ctx context.Context, log *slog.Logger, idle, stop func() bool) *upgradeWatch {
	return &upgradeWatch{
		own:   own.info,
		stat:  func() (fs.FileInfo, error) { return os.Stat(own.path) },
		works: func() error { return worksNow(ctx, own.path) },
		idle:  idle,
		stop:  stop,
		log:   log,
	}
}

// watchUpgrade returns true once the program's own file was replaced, the new
// one has stopped changing and runs, idle says that nothing is in flight, and
// stop has seen to it that nothing begins. It returns false when ctx ends.
func watchUpgrade(ctx context.Context, log *slog.Logger, own ownFile, idle, stop func() bool) bool {
	w := own.watch(ctx, log, idle, stop)
	tick := time.NewTicker(upgradeLook)
	defer tick.Stop()
	for {
		if w.look() {
			log.Info("the program was upgraded and starts anew")
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// upgradeWatch decides, look by look.
type upgradeWatch struct {
	stat  func() (fs.FileInfo, error)
	works func() error
	idle  func() bool
	stop  func() bool // idle again, and nothing begins any more when it is true

	log *slog.Logger

	own, candidate fs.FileInfo
	waiting        fs.FileInfo // a candidate of which the log says that it waits
	tried          fs.FileInfo // a candidate that did not work is not tried again
}

func (w *upgradeWatch) look() bool {
	info, err := w.stat()
	if err != nil {
		w.candidate = nil // in the middle of a replacement, or removed
		return false
	}
	switch {
	case w.own == nil:
		w.own = info
		return false
	case sameFile(w.own, info), w.tried != nil && sameFile(w.tried, info):
		w.candidate = nil
		return false
	case w.candidate == nil || !sameFile(w.candidate, info):
		w.candidate = info // seen once: it may still be written to
		return false
	}
	if !w.idle() {
		if w.waiting == nil || !sameFile(w.waiting, info) {
			w.waiting = info
			w.log.Info("an upgrade waits for what is in flight")
		}
		return false
	}
	if err := w.works(); errors.Is(err, syscall.ETXTBSY) {
		return false // somebody still has it open for writing
	} else if err != nil {
		w.tried = info
		w.log.Warn("the program's file was replaced by one that does not run")
		return false
	}
	return w.stop()
}

func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// worksNow runs the new file's version verb: an agent must not be replaced by
// half a file.
func worksNow(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, upgradeProbe)
	defer cancel()
	return exec.CommandContext(ctx, path, "version").Run()
}
