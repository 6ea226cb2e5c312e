package tray

import (
	"bytes"
	"context"
	"encoding/binary"
	"image/png"
	"runtime"
	"strings"

	"fyne.io/systray"
)

// start puts the icon into the notification area. Windows delivers messages to the
// thread that made the window, so the library has one for itself.
func start(ctx context.Context, _ string, build func()) (gone <-chan struct{}, stop func(), err error) {
	ready := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		systray.Run(func() { build(); close(ready) }, nil)
	}()
	select {
	case <-ready:
		return nil, systray.Quit, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// literal keeps ampersands from being taken for access keys.
func literal(title string) string { return strings.ReplaceAll(title, "&", "&&") }

// format packs the picture into an ICO as an uncompressed bitmap: as a PNG inside,
// Wine swaps red and blue.
func format(picture []byte) []byte {
	img, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		return nil
	}
	w, h := img.Bounds().Dx(), img.Bounds().Dy()
	maskRow := (w + 31) / 32 * 4
	size := 40 + w*h*4 + maskRow*h
	var out bytes.Buffer
	for _, v := range []any{
		// ICONDIR and ICONDIRENTRY
		uint16(0), uint16(1), uint16(1),
		uint8(w), uint8(h), uint8(0), uint8(0), uint16(1), uint16(32), uint32(size), uint32(22),
		// BITMAPINFOHEADER: the height counts picture and mask
		uint32(40), int32(w), int32(2 * h), uint16(1), uint16(32), uint32(0), uint32(0), int32(0), int32(0), uint32(0), uint32(0),
	} {
		_ = binary.Write(&out, binary.LittleEndian, v) // a Buffer never fails
	}
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
