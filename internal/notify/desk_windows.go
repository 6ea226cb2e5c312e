package notify

import (
	"context"

	"golang.org/x/sys/windows"
)

// desk would be the toasts of Windows, which do not exist yet.
type desk struct{ events chan event }

func newDesk(string) *desk { return &desk{} }

func (*desk) show(context.Context, note) (uint32, error) { return 0, errNone }
func (*desk) close(context.Context, uint32) error        { return nil }
func (*desk) end()                                       {}

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
