package policy

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"encounterlauncher/internal/paths"
)

// poll is how often the registry is read although it told of nothing: a net for
// what it does not tell, such as a right that was taken away, and for the file of
// the person's own choices.
const poll = 30 * time.Second

// changes says that a source may have changed: at once by the registry's own
// notification, and with every poll.
func changes(ctx context.Context, _ paths.Layout, log *slog.Logger, after func(time.Duration) <-chan time.Time) <-chan struct{} {
	hint := make(chan struct{}, 1)
	say := func() {
		select {
		case hint <- struct{}{}:
		default:
		}
	}
	armed := make(chan error, 1)
	go func() { armed <- listenToRegistry(ctx, say, armed) }()
	// Nothing may be read before the registry is listened to.
	if err := <-armed; err != nil {
		log.Warn("a change of policy may be found only after half a minute, because the registry cannot be watched", "cause", err)
	}
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-after(poll):
				say()
			}
		}
	}()
	return hint
}

// watchedPaths are the keys of the registry whose changes are heard: the sources,
// and before each those above it, because a key that is not there cannot tell that
// it comes, and one that goes need not tell that it went.
func watchedPaths() []*registryWatch {
	var all []*registryWatch
	for _, source := range []struct {
		hive hive
		path string
	}{{localMachine, PoliciesKey}, {currentUser, PoliciesKey}, {localMachine, DefaultsKey}} {
		parts := strings.Split(source.path, `\`)
		for n := range len(parts) + 1 {
			w := &registryWatch{hive: source.hive, path: strings.Join(parts[:n], `\`), filter: windows.REG_NOTIFY_CHANGE_NAME}
			if n == len(parts) {
				w.filter |= windows.REG_NOTIFY_CHANGE_LAST_SET
			}
			if !slices.ContainsFunc(all, func(has *registryWatch) bool { return has.hive == w.hive && has.path == w.path }) {
				all = append(all, w)
			}
		}
	}
	return all
}

// listenToRegistry calls say after each change of a source until ctx ends, and sends nil
// to armed once it listens. A change before that is not heard. The error is why it
// cannot listen.
func listenToRegistry(ctx context.Context, say func(), armed chan<- error) error {
	// A notification is bound to the thread that asked for it, and is signalled
	// when that thread ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	stop, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return err
	}
	told := make(chan struct{})
	forget := context.AfterFunc(ctx, func() {
		_ = windows.SetEvent(stop)
		close(told)
	})
	defer func() {
		if !forget() {
			<-told // the handle is not closed under who signals it
		}
		_ = windows.CloseHandle(stop)
	}()

	watched := watchedPaths()
	defer func() {
		for _, w := range watched {
			w.close()
		}
	}()
	handles := []windows.Handle{stop}
	for _, w := range watched {
		if w.event, err = windows.CreateEvent(nil, 0, 0, nil); err != nil {
			return err
		}
		handles = append(handles, w.event)
		if err := w.arm(); err != nil {
			return err
		}
	}
	armed <- nil
	for {
		which, err := windows.WaitForMultipleObjects(handles, false, windows.INFINITE)
		if err != nil || which == windows.WAIT_OBJECT_0 {
			return err
		}
		// Listen again to all of them, from the top down, before anybody reads, so that
		// no change falls between. What cannot be listened to is left to the poll.
		for _, w := range watched {
			_ = w.arm()
		}
		say()
	}
}

// registryWatch is a key whose changes are heard.
type registryWatch struct {
	hive   hive
	path   string
	filter uint32
	// key is open while the key exists; event is signalled by a change.
	key   registry.Key
	event windows.Handle
}

func (w *registryWatch) close() {
	if w.key != 0 {
		_ = w.key.Close()
		w.key = 0
	}
	if w.event != 0 {
		_ = windows.CloseHandle(w.event)
		w.event = 0
	}
}

// arm asks for the next change of the key. One that does not exist is no error:
// the key above it tells when it comes.
func (w *registryWatch) arm() error {
	if w.key != 0 {
		_ = w.key.Close()
		w.key = 0
		// Closing a key answers what was asked of it, which is no change.
		_ = windows.ResetEvent(w.event)
	}
	key, err := registry.OpenKey(w.hive.root, w.path, registry.NOTIFY|registry.WOW64_64KEY)
	if errors.Is(err, registry.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	w.key = key
	return windows.RegNotifyChangeKeyValue(windows.Handle(key), false, w.filter, w.event, true)
}
