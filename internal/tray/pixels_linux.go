package tray

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
)

// format returns the picture as the desktop wants it: one PNG, which the desktop
// scales, since the library passes one size on. It is nil where there is none.
func format(f face) []byte { return straight(picture(f, "32")) }

// straight returns the same picture with its colours written down so that the library
// sends them as they are. The library (systray 1.12, argbForImage) takes the lower
// byte of each 16-bit colour that has been multiplied by the transparency; of a point
// that is half transparent that byte is noise, and the desktop draws a coloured
// fringe round the icon. Here it is what the desktop is to have (StatusNotifierItem,
// IconPixmap: ARGB32, not multiplied), and the upper byte is still the colour itself:
// a library that reads it rightly shows the same. It is nil for what is no PNG.
func straight(drawn []byte) []byte {
	img, err := png.Decode(bytes.NewReader(drawn))
	if err != nil {
		return nil
	}
	bounds := img.Bounds()
	out := image.NewNRGBA64(bounds)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
			out.SetNRGBA64(x, y, color.NRGBA64{R: wide(c.R, c.A), G: wide(c.G, c.A), B: wide(c.B, c.A), A: uint16(c.A) * 0x101})
		}
	}
	var written bytes.Buffer
	if png.Encode(&written, out) != nil {
		return nil
	}
	return written.Bytes()
}

// wide returns the 16-bit colour that, multiplied by the transparency a as
// color.NRGBA64 does it, has c as its lower byte and c·a as its upper one.
func wide(c, a uint8) uint16 {
	if a == 0 {
		return 0
	}
	most := uint32(a) * 0x101
	product := uint32(c)*uint32(a)/0xff<<8 | uint32(c)
	if product > most {
		product -= 0x100
	}
	return uint16((product*0xffff + most - 1) / most)
}
