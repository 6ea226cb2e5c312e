package notify

import (
	"context"
	"crypto/rand"
	"errors"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"git.sr.ht/~jackmordaunt/go-toast/v2/wintoast"
	"github.com/go-ole/go-ole"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"encounterlauncher/internal/text"
)

const (
	// callLimit is how long Windows may take to show a toast or to take one away.
	callLimit = 5 * time.Second
	// lookAgain is how long a held notice waits before the person's state is asked
	// for again: Windows tells nobody when it changes.
	lookAgain = 15 * time.Second
)

// desk shows toasts, through COM and never through a shell. It begins when there
// is something to show. It belongs to the goroutine of Run.
type desk struct {
	id     string
	events chan event
	word   string
	number uint32
	// calls go to one thread that stays: COM is set up for threads, not for
	// goroutines.
	calls chan func()
}

// knownPrograms is where Windows looks up who shows a toast, below HKCU.
const knownPrograms = `Software\Classes\AppUserModelId\`

func newDesk(id string) *desk { return &desk{id: id, events: make(chan event, 4)} }

// begin tells Windows who shows the toasts, and takes what is pressed on them.
func (d *desk) begin() error {
	if d.calls != nil {
		return nil
	}
	// The library would show the id as the name, and leaves alone what is there.
	key, _, err := registry.CreateKey(registry.CURRENT_USER, knownPrograms+d.id, registry.SET_VALUE)
	if err != nil {
		return errNone
	}
	err = key.SetStringValue("DisplayName", text.For(text.English).Word("app.name"))
	_ = key.Close()
	if err != nil {
		return errNone
	}
	if wintoast.SetAppData(wintoast.AppData{AppID: d.id, GUID: classID(d.id)}) != nil {
		return errNone
	}
	word, events := rand.Text(), d.events
	wintoast.SetActivationCallback(func(_, argument string, _ []wintoast.UserData) {
		if e, ok := pressed(argument, word); ok {
			offer(events, e)
		}
	})
	calls := make(chan func())
	go func() {
		runtime.LockOSThread() // and the thread ends with its goroutine
		for call := range calls {
			call()
		}
	}()
	d.word, d.calls = word, calls
	return nil
}

// remove removes what begin wrote. It never removes a whole tree: an empty id would
// name everybody's.
func remove(id string) error {
	if id == "" {
		return nil
	}
	if err := registry.DeleteKey(registry.CURRENT_USER, knownPrograms+id); err != nil && !errors.Is(err, registry.ErrNotExist) {
		return err
	}
	return nil
}

// offer never waits: it is called on threads of Windows.
func offer(events chan<- event, e event) {
	select {
	case events <- e:
	default:
	}
}

// on runs call on the desk's thread and waits for it until the limit.
func (d *desk) on(ctx context.Context, call func() error) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	done := make(chan error, 1)
	select {
	case d.calls <- func() { done <- call() }:
	case <-ctx.Done():
		return errNone
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errNone
	}
}

func (d *desk) show(ctx context.Context, n note) (uint32, error) {
	if busy() {
		events := d.events
		time.AfterFunc(lookAgain, func() { offer(events, event{free: true}) })
		return 0, errHeld
	}
	if err := d.begin(); err != nil {
		return 0, err
	}
	d.number++
	document := toast(n, d.word, d.number)
	err := d.on(ctx, func() error {
		_ = clearToasts(d.id) // an older one, perhaps of an agent that ended in an instant
		return wintoast.Push(d.id, document)
	})
	if err != nil {
		return 0, errors.New("Windows does not show it")
	}
	return d.number, nil
}

// close takes the toast away. The library cannot, and it cannot give a toast a name
// by which one could be picked: there is never more than one.
func (d *desk) close(ctx context.Context, number uint32) error {
	if d.calls == nil || number != d.number {
		return nil // it went when a newer one came
	}
	if d.on(ctx, func() error { return clearToasts(d.id) }) != nil {
		return errors.New("Windows does not take it away")
	}
	return nil
}

func (d *desk) end() {
	if d.calls != nil {
		close(d.calls)
		d.calls = nil
	}
}

// The places of methods in their interfaces (windows.ui.notifications.idl); the
// first six are those of IInspectable.
const (
	getHistory  = 6  // IToastNotificationManagerStatics2
	clearWithID = 12 // IToastNotificationHistory
)

// clearToasts removes every toast of the program from screen and action centre.
func clearToasts(id string) error {
	manager, err := ole.RoGetActivationFactory("Windows.UI.Notifications.ToastNotificationManager", ole.NewGUID("{7AB93C52-0E48-4750-BA9D-1A4113981847}"))
	if err != nil {
		return err
	}
	defer manager.Release()
	var history *ole.IUnknown
	if err := method(&manager.IUnknown, getHistory, uintptr(unsafe.Pointer(&history))); err != nil {
		return err
	}
	defer history.Release()
	name, err := ole.NewHString(id)
	if err != nil {
		return err
	}
	defer func() { _ = ole.DeleteHString(name) }()
	return method(history, clearWithID, uintptr(name))
}

// method calls one method of a COM object with one argument.
func method(object *ole.IUnknown, place int, argument uintptr) error {
	table := (*[clearWithID + 1]uintptr)(unsafe.Pointer(object.RawVTable))
	if result, _, _ := syscall.SyscallN(table[place], uintptr(unsafe.Pointer(object)), argument); int32(result) < 0 {
		return ole.NewError(result)
	}
	return nil
}

// busy says that the person is not to be disturbed, or not there: a presentation,
// something over the whole screen, quiet hours, a locked screen
// (SHQueryUserNotificationState). Focus assist is obeyed by the toasts themselves.
func busy() bool {
	const notPresent, full, fullDirect3D, presentation, quiet = 1, 2, 3, 4, 6
	var state uint32
	ask := windows.NewLazySystemDLL("shell32.dll").NewProc("SHQueryUserNotificationState")
	if ask.Find() != nil {
		return false
	}
	if result, _, _ := ask.Call(uintptr(unsafe.Pointer(&state))); int32(result) < 0 {
		return false
	}
	switch state {
	case notPresent, full, fullDirect3D, presentation, quiet:
		return true
	}
	return false
}

// showOnce shows a message box in front of everything and waits for the person.
func showOnce(_ context.Context, n note) error {
	title, err := windows.UTF16PtrFromString(n.title)
	if err != nil {
		return errNone
	}
	body, err := windows.UTF16PtrFromString(n.body)
	if err != nil {
		return errNone
	}
	if _, err := windows.MessageBox(0, body, title, windows.MB_OK|windows.MB_ICONWARNING|windows.MB_SETFOREGROUND|windows.MB_TOPMOST); err != nil {
		return errNone
	}
	return nil
}
