package session

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Messages, and their words, of winuser.h and wtsapi32.h.
const (
	wmDestroy            = 0x0002
	wmClose              = 0x0010
	wmPowerBroadcast     = 0x0218
	wmSessionChange      = 0x02B1
	powerSuspend         = 0x0004
	powerResumeSuspend   = 0x0007
	powerResumeAutomatic = 0x0012
	consoleConnect       = 0x1
	consoleDisconnect    = 0x2
	remoteConnect        = 0x3
	remoteDisconnect     = 0x4
	sessionLogoff        = 0x6
	sessionLock          = 0x7
	sessionUnlock        = 0x8
)

const (
	// firstPause and mostPause are the pauses before the session is tried again; each
	// is twice the one before. Shortly after a start of Windows its services may not
	// be there yet (WTSRegisterSessionNotification, "Remarks").
	firstPause = time.Second
	mostPause  = time.Minute
)

// windowClass is the class of the window that is told; nobody ever sees it.
const windowClass = "EncounterLauncherSession"

// system are the entry points of Windows that x/sys has no function for.
type system struct {
	registerClass, unregisterClass, createWindow, destroyWindow, defWindow, getMessage, peek, dispatch, post, quit, lastInput, tick, register, unregister, query *windows.LazyProc
}

func newSystem() system {
	user, kernel, wts := windows.NewLazySystemDLL("user32.dll"), windows.NewLazySystemDLL("kernel32.dll"), windows.NewLazySystemDLL("wtsapi32.dll")
	return system{
		registerClass: user.NewProc("RegisterClassExW"), unregisterClass: user.NewProc("UnregisterClassW"),
		createWindow: user.NewProc("CreateWindowExW"), destroyWindow: user.NewProc("DestroyWindow"), defWindow: user.NewProc("DefWindowProcW"),
		getMessage: user.NewProc("GetMessageW"), peek: user.NewProc("PeekMessageW"), dispatch: user.NewProc("DispatchMessageW"), post: user.NewProc("PostMessageW"), quit: user.NewProc("PostQuitMessage"),
		lastInput: user.NewProc("GetLastInputInfo"), tick: kernel.NewProc("GetTickCount"),
		register: wts.NewProc("WTSRegisterSessionNotification"), unregister: wts.NewProc("WTSUnRegisterSessionNotification"),
		query: wts.NewProc("WTSQuerySessionInformationW"),
	}
}

// desk is the session of Windows that this process belongs to.
type desk struct {
	log     *slog.Logger
	changes chan change
	sys     system
}

func newDesk(log *slog.Logger) *desk {
	return &desk{log: log, changes: make(chan change, 16), sys: newSystem()}
}

// watch tells changes until ctx ends, through a hidden window: messages about a
// session and about sleep go to windows only.
func (d *desk) watch(ctx context.Context) {
	runtime.LockOSThread() // a window belongs to its thread
	defer runtime.UnlockOSThread()
	name, err := windows.UTF16PtrFromString(windowClass)
	if err != nil {
		return
	}
	// One for the life of the desk: Go never gives the memory of a callback back.
	procedure := windows.NewCallback(func(window uintptr, message uint32, wide, long uintptr) uintptr {
		return d.received(ctx, window, message, wide, long)
	})
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, mostPause) {
		window, shut, err := d.open(name, procedure)
		d.tell(ctx, change{what: sources, on: err == nil})
		if err == nil {
			for _, c := range d.now() {
				d.tell(ctx, c)
			}
			d.listen(ctx, window)
			shut()
			return
		}
		d.log.Warn("the session cannot be watched", "cause", err)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// listen passes messages on until ctx ends.
func (d *desk) listen(ctx context.Context, window uintptr) {
	defer context.AfterFunc(ctx, func() { _, _, _ = d.sys.post.Call(window, wmClose, 0, 0) })()
	var message struct {
		window         uintptr
		message        uint32
		wide, long     uintptr
		time           uint32
		x, y           int32
		onlyForPadding uint32
	}
	for {
		got, _, _ := d.sys.getMessage.Call(uintptr(unsafe.Pointer(&message)), 0, 0, 0)
		if int32(got) <= 0 {
			return
		}
		_, _, _ = d.sys.dispatch.Call(uintptr(unsafe.Pointer(&message)))
	}
}

func (d *desk) tell(ctx context.Context, c change) {
	select {
	case d.changes <- c:
	case <-ctx.Done():
	}
}

// open makes the window and has it told. shut removes what is left of it once it
// is closed; where open fails nothing is left.
func (d *desk) open(name *uint16, procedure uintptr) (window uintptr, shut func(), err error) {
	class := struct {
		size, style                        uint32
		proc                               uintptr
		classExtra, windowExtra            int32
		instance, icon, cursor, background uintptr
		menu, name                         *uint16
		smallIcon                          uintptr
	}{proc: procedure, name: name}
	class.size = uint32(unsafe.Sizeof(class))
	if atom, _, err := d.sys.registerClass.Call(uintptr(unsafe.Pointer(&class))); atom == 0 {
		return 0, nil, fmt.Errorf("registering a class of windows: %w", err)
	}
	shut = func() { _, _, _ = d.sys.unregisterClass.Call(uintptr(unsafe.Pointer(name)), 0) }
	window, _, err = d.sys.createWindow.Call(0, uintptr(unsafe.Pointer(name)), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	if window == 0 {
		shut()
		return 0, nil, fmt.Errorf("making a window: %w", err)
	}
	const thisSession = 0
	if ok, _, err := d.sys.register.Call(window, thisSession); ok == 0 {
		d.drop(window)
		shut()
		return 0, nil, fmt.Errorf("asking to be told of the session: %w", err)
	}
	return window, shut, nil
}

// drop destroys a window of which nobody will ever read the messages: whoever
// sends one to all windows would wait for it. The word to end that comes of it is
// taken off, or it would end the next window.
func (d *desk) drop(window uintptr) {
	_, _, _ = d.sys.destroyWindow.Call(window)
	var message [6]uint64
	const onlyQuit, remove = 0x0012, 1
	_, _, _ = d.sys.peek.Call(uintptr(unsafe.Pointer(&message)), 0, onlyQuit, onlyQuit, remove)
}

// now is how the session stands, as far as Windows tells (WTSINFOEXW of
// wtsapi32.h); nothing where it does not.
func (d *desk) now() []change {
	const currentSession, infoEx, level1 = ^uint32(0), 25, 1
	var info *struct {
		level, _, session uint32
		state, flags      int32
	}
	var size uint32
	if ok, _, _ := d.sys.query.Call(0, uintptr(currentSession), infoEx, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size))); ok == 0 || info == nil {
		return nil
	}
	defer windows.WTSFreeMemory(uintptr(unsafe.Pointer(info)))
	if uintptr(size) < unsafe.Sizeof(*info) || info.level != level1 {
		return nil
	}
	return standing(info.state, info.flags)
}

// standing is what WTS_CONNECTSTATE_CLASS and SessionFlags tell of a session.
func standing(state, flags int32) (all []change) {
	const disconnected, isLocked = 4, 0
	if flags == isLocked {
		all = append(all, change{what: lock, source: "session", on: true})
	}
	if state == disconnected {
		all = append(all, change{what: away, on: true})
	}
	return all
}

// received is the window's procedure.
func (d *desk) received(ctx context.Context, window uintptr, message uint32, wide, long uintptr) uintptr {
	switch message {
	case wmSessionChange, wmPowerBroadcast:
		for _, c := range meaning(message, wide) {
			d.tell(ctx, c)
		}
		return 1
	case wmClose:
		_, _, _ = d.sys.unregister.Call(window)
	case wmDestroy:
		_, _, _ = d.sys.quit.Call(0)
		return 0
	}
	answer, _, _ := d.sys.defWindow.Call(window, uintptr(message), wide, long)
	return answer
}

// meaning is what a message tells.
func meaning(message uint32, word uintptr) []change {
	if message == wmPowerBroadcast {
		switch word {
		case powerSuspend:
			return []change{{what: lock, source: "sleep", on: true}}
		case powerResumeSuspend, powerResumeAutomatic:
			return []change{{what: lock, source: "sleep"}, {what: woke}}
		}
		return nil
	}
	switch word {
	case sessionLock:
		return []change{{what: lock, source: "session", on: true}}
	case sessionUnlock:
		return []change{{what: lock, source: "session"}}
	case consoleDisconnect:
		return []change{{what: away, on: true}}
	case consoleConnect, remoteConnect:
		return []change{{what: away}}
	case remoteDisconnect, sessionLogoff:
		return []change{{what: gone}}
	}
	return nil
}

// idle is how long there was no input in this session. The counter starts anew
// every 49 days, and the difference of two of its values is right all the same.
func (d *desk) idle(context.Context) (time.Duration, error) {
	var last struct{ size, tick uint32 }
	last.size = uint32(unsafe.Sizeof(last))
	if ok, _, _ := d.sys.lastInput.Call(uintptr(unsafe.Pointer(&last))); ok == 0 {
		return 0, errGone
	}
	now, _, _ := d.sys.tick.Call()
	return time.Duration(uint32(now)-last.tick) * time.Millisecond, nil
}
