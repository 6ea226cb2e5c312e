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

// windowClass is the class of the window that is told; nobody ever sees it.
const windowClass = "EncounterLauncherSession"

// system are the entry points of Windows that x/sys has no function for.
type system struct {
	registerClass, createWindow, defWindow, getMessage, dispatch, post, quit, lastInput, tick, register, unregister *windows.LazyProc
}

func newSystem() system {
	user, kernel, wts := windows.NewLazySystemDLL("user32.dll"), windows.NewLazySystemDLL("kernel32.dll"), windows.NewLazySystemDLL("wtsapi32.dll")
	return system{
		registerClass: user.NewProc("RegisterClassExW"), createWindow: user.NewProc("CreateWindowExW"), defWindow: user.NewProc("DefWindowProcW"),
		getMessage: user.NewProc("GetMessageW"), dispatch: user.NewProc("DispatchMessageW"), post: user.NewProc("PostMessageW"), quit: user.NewProc("PostQuitMessage"),
		lastInput: user.NewProc("GetLastInputInfo"), tick: kernel.NewProc("GetTickCount"),
		register: wts.NewProc("WTSRegisterSessionNotification"), unregister: wts.NewProc("WTSUnRegisterSessionNotification"),
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
	window, err := d.open(ctx)
	d.tell(ctx, change{what: sources, on: err == nil})
	if err != nil {
		d.log.Warn("the session cannot be watched", "cause", err)
		<-ctx.Done()
		return
	}
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

// open makes the window and has it told.
func (d *desk) open(ctx context.Context) (uintptr, error) {
	name, err := windows.UTF16PtrFromString(windowClass)
	if err != nil {
		return 0, err
	}
	class := struct {
		size, style                        uint32
		proc                               uintptr
		classExtra, windowExtra            int32
		instance, icon, cursor, background uintptr
		menu, name                         *uint16
		smallIcon                          uintptr
	}{proc: windows.NewCallback(func(window uintptr, message uint32, wide, long uintptr) uintptr {
		return d.received(ctx, window, message, wide, long)
	}), name: name}
	class.size = uint32(unsafe.Sizeof(class))
	if atom, _, err := d.sys.registerClass.Call(uintptr(unsafe.Pointer(&class))); atom == 0 {
		return 0, fmt.Errorf("registering a class of windows: %w", err)
	}
	window, _, err := d.sys.createWindow.Call(0, uintptr(unsafe.Pointer(name)), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	if window == 0 {
		return 0, fmt.Errorf("making a window: %w", err)
	}
	const thisSession = 0
	if ok, _, err := d.sys.register.Call(window, thisSession); ok == 0 {
		return 0, fmt.Errorf("asking to be told of the session: %w", err)
	}
	return window, nil
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
