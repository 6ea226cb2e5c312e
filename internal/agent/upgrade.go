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
	// goneLooks is after how many looks in a row that find no file the program counts
	// as removed. Package managers replace a file without a moment in which there is
	// none; whoever removes and installs again by script has this long.
	goneLooks = 3
)

// fate is what became of the program's own file.
type fate int

const (
	asItWas fate = iota
	replaced
	removed
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
	path, err := os.Executable()
	if err != nil {
		return ownFile{}, err
	}
	return lookAt(path), nil
}

func lookAt(path string) ownFile {
	own := ownFile{path: path}
	if own.info, _ = os.Stat(path); own.info != nil {
		// Windows is asked which file it is when that is first compared, and by then
		// another one may have the name.
		os.SameFile(own.info, own.info)
	}
	return own
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

// watchUpgrade returns replaced once the program's own file was replaced and the new
// one has stopped changing and runs, or removed once it has been gone for a while;
// both only when idle says that nothing is in flight, and stop has seen to it that
// nothing begins. It returns asItWas when ctx ends.
func watchUpgrade(ctx context.Context, log *slog.Logger, own ownFile, idle, stop func() bool) fate {
	w := own.watch(ctx, log, idle, stop)
	tick := time.NewTicker(upgradeLook)
	defer tick.Stop()
	for {
		switch now := w.look(); now {
		case replaced:
			log.Info("the program was upgraded and starts anew")
			return now
		case removed:
			log.Info("the program was removed and ends")
			return now
		}
		select {
		case <-ctx.Done():
			return asItWas
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
	missing        int         // looks in a row that found no file
}

func (w *upgradeWatch) look() fate {
	info, err := w.stat()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w.candidate = nil // in the middle of a replacement, or removed
		w.missing++
		if w.gone() {
			return removed
		}
		return asItWas
	case err != nil: // a network drive that does not answer has removed nothing
		w.candidate, w.missing = nil, 0
		return asItWas
	}
	w.missing = 0
	if w.differs(info) {
		return replaced
	}
	return asItWas
}

// gone reports whether the file was removed for good and the agent is ready to end.
func (w *upgradeWatch) gone() bool {
	switch {
	case w.missing < goneLooks:
		return false
	case !w.idle():
		if w.missing == goneLooks {
			w.log.Info("the program was removed; its end waits for what is in flight")
		}
		return false
	}
	return w.stop()
}

// differs reports whether the file that is there now is another one, which works, and
// the agent is ready to go on with it.
func (w *upgradeWatch) differs(info fs.FileInfo) bool {
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
