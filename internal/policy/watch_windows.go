package policy

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
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

// watchedKeys are the keys of the registry that are sources.
var watchedKeys = [...]struct {
	hive hive
	path string
}{{localMachine, PoliciesKey}, {currentUser, PoliciesKey}, {localMachine, DefaultsKey}}

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

	var watched [len(watchedKeys)]registryWatch
	defer func() {
		for i := range watched {
			watched[i].close()
		}
	}()
	handles := make([]windows.Handle, 1, 1+len(watched))
	handles[0] = stop
	for i, source := range watchedKeys {
		if watched[i].event, err = windows.CreateEvent(nil, 0, 0, nil); err != nil {
			return err
		}
		if err := watched[i].arm(source.hive, source.path); err != nil {
			return err
		}
		handles = append(handles, watched[i].event)
	}
	armed <- nil
	for {
		which, err := windows.WaitForMultipleObjects(handles, false, windows.INFINITE)
		i := int(which) - int(windows.WAIT_OBJECT_0) - 1
		if err != nil || i < 0 || i >= len(watched) {
			return err
		}
		// Listen again before anybody reads, so that no change falls between. One that
		// cannot be listened to any more is left to the poll.
		_ = watched[i].arm(watchedKeys[i].hive, watchedKeys[i].path)
		say()
	}
}

// registryWatch is one notification that is asked for.
type registryWatch struct {
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

// arm asks for the next change of the key, or of the nearest one above that exists,
// whose new keys are then heard.
func (w *registryWatch) arm(h hive, path string) error {
	const what = windows.REG_NOTIFY_CHANGE_NAME | windows.REG_NOTIFY_CHANGE_LAST_SET
	const access = registry.NOTIFY | registry.WOW64_64KEY
	// The key may come or go between looking and asking, so look again; a bound,
	// because somebody may be playing with keys.
	for range 8 {
		if w.key != 0 {
			_ = w.key.Close()
			w.key = 0
		}
		key, at, err := openNearest(h, path, access)
		if err != nil {
			return err
		}
		w.key = key
		if err := windows.RegNotifyChangeKeyValue(windows.Handle(key), false, what, w.event, true); err != nil {
			continue
		}
		if at == path {
			return nil
		}
		next, err := registry.OpenKey(h.root, below(at, path), access)
		if errors.Is(err, registry.ErrNotExist) {
			return nil
		}
		if err == nil {
			_ = next.Close()
		}
	}
	return errors.New("the key of the registry does not stay as it is")
}

// openNearest opens a key, or the nearest one above that exists, and says which.
func openNearest(h hive, path string, access uint32) (registry.Key, string, error) {
	for at := path; ; {
		key, err := registry.OpenKey(h.root, at, access)
		i := strings.LastIndexByte(at, '\\')
		if err == nil || !errors.Is(err, registry.ErrNotExist) || at == "" {
			return key, at, err
		}
		at = at[:max(i, 0)]
	}
}

// below is the key on the way from at, which is above it, to path that is directly
// below at.
func below(at, path string) string {
	rest := strings.TrimPrefix(path[len(at):], `\`)
	if i := strings.IndexByte(rest, '\\'); i >= 0 {
		return path[:len(path)-len(rest)+i]
	}
	return path
}
