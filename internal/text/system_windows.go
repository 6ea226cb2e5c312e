package text

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

// asked returns the languages that the person prefers, best first, and the
// locale in which times are to be written, as BCP 47 tags.
func asked() (languages []string, formats string) {
	languages, err := windows.GetUserPreferredUILanguages(windows.MUI_LANGUAGE_NAME)
	if err != nil {
		languages = nil
	}
	// LOCALE_NAME_MAX_LENGTH is 85 with the final zero.
	var name [85]uint16
	n, _, _ := windows.NewLazySystemDLL("kernel32.dll").NewProc("GetUserDefaultLocaleName").Call(uintptr(unsafe.Pointer(&name[0])), uintptr(len(name)))
	if n == 0 {
		return languages, ""
	}
	return languages, windows.UTF16ToString(name[:])
}
