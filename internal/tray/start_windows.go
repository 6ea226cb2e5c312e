package tray

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/png"
	"runtime"
	"strings"
	"unsafe"

	"fyne.io/systray"
	"golang.org/x/sys/windows"
)

// returns says that a notification area that could not be had, or was lost, comes back.
const returns = false

func restart(context.Context) (gone <-chan struct{}, stop func(), err error) {
	return nil, nil, errors.New("the notification area was not lost")
}

// start puts the icon into the notification area. Windows delivers messages to the
// thread that made the window, so the library has one for itself.
func start(ctx context.Context, _ string, build func()) (gone <-chan struct{}, shut, stop func(), err error) {
	ready := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		systray.Run(func() { build(); close(ready) }, nil)
	}()
	select {
	case <-ready:
		return nil, shutMenu, systray.Quit, nil
	case <-ctx.Done():
		return nil, nil, nil, ctx.Err()
	}
}

// shutMenu closes the menu of this process: Windows draws a line of an open menu
// anew only when the pointer comes upon it, so until then the line would show one
// encounter and stand for another, or show what is not to be seen any more.
func shutMenu() {
	user := windows.NewLazySystemDLL("user32.dll")
	find, post := user.NewProc("FindWindowExW"), user.NewProc("PostMessageW")
	class, err := windows.UTF16PtrFromString("SystrayClass") // the library's
	if err != nil {
		return
	}
	const wmCancelMode = 0x001F
	for window := uintptr(0); ; {
		if window, _, _ = find.Call(0, window, uintptr(unsafe.Pointer(class)), 0); window == 0 {
			return
		}
		var process uint32
		if _, err := windows.GetWindowThreadProcessId(windows.HWND(window), &process); err == nil && process == windows.GetCurrentProcessId() {
			_, _, _ = post.Call(window, wmCancelMode, 0, 0)
		}
	}
}

// literal keeps ampersands from being taken for access keys.
func literal(title string) string { return strings.ReplaceAll(title, "&", "&&") }

// format returns an ICO with the sizes that Windows asks for at 100 and at 150 per
// cent, as uncompressed bitmaps: with a PNG inside, Wine swaps red and blue.
func format(f face) []byte {
	var bitmaps [][]byte
	var entries, out bytes.Buffer
	sizes := []string{"32", "48"}
	offset := 6 + 16*len(sizes)
	for _, size := range sizes {
		img, err := png.Decode(bytes.NewReader(picture(f, size)))
		if err != nil {
			return nil
		}
		b := bitmap(img)
		// ICONDIRENTRY
		write(&entries, uint8(img.Bounds().Dx()), uint8(img.Bounds().Dy()), uint8(0), uint8(0), uint16(1), uint16(32), uint32(len(b)), uint32(offset))
		offset += len(b)
		bitmaps = append(bitmaps, b)
	}
	write(&out, uint16(0), uint16(1), uint16(len(bitmaps))) // ICONDIR
	out.Write(entries.Bytes())
	for _, b := range bitmaps {
		out.Write(b)
	}
	return out.Bytes()
}

// bitmap returns the picture as it stands in an ICO, with an empty mask.
func bitmap(img image.Image) []byte {
	w, h := img.Bounds().Dx(), img.Bounds().Dy()
	maskRow := (w + 31) / 32 * 4
	var out bytes.Buffer
	// BITMAPINFOHEADER: the height counts picture and mask
	write(&out, uint32(40), int32(w), int32(2*h), uint16(1), uint16(32), uint32(0), uint32(0), int32(0), int32(0), uint32(0), uint32(0))
	for y := h - 1; y >= 0; y-- {
		for x := range w {
			r, g, b, a := img.At(x, y).RGBA()
			if a > 0 { // icons want colours that are not multiplied by alpha
				r, g, b = r*0xffff/a, g*0xffff/a, b*0xffff/a
			}
			out.Write([]byte{byte(b >> 8), byte(g >> 8), byte(r >> 8), byte(a >> 8)})
		}
	}
	out.Write(make([]byte, maskRow*h))
	return out.Bytes()
}

func write(out *bytes.Buffer, values ...any) {
	for _, v := range values {
		_ = binary.Write(out, binary.LittleEndian, v) // a Buffer never fails
	}
}
