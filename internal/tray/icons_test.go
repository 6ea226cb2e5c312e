//go:build linux || windows

package tray

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"testing"
)

var faces = map[face]string{idle: "idle", working: "working", attention: "attention", signedOut: "signed-out"}

func TestThePicturesAreTheDrawnOnes(t *testing.T) {
	for f, name := range faces {
		for _, size := range []string{"32", "48"} {
			drawn, err := os.ReadFile("../../build/icons/tray/" + name + "-" + size + ".png")
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(drawn, picture(f, size)) {
				t.Errorf("%s-%s.png is another one in build/icons/tray", name, size)
			}
		}
	}
}

func TestTheStatesDifferInOutlineWithoutAnyColour(t *testing.T) {
	outline := func(f face) [32][32]bool {
		img, err := png.Decode(bytes.NewReader(picture(f, "32")))
		if err != nil {
			t.Fatal(err)
		}
		if img.Bounds() != image.Rect(0, 0, 32, 32) {
			t.Fatalf("%s is %v", faces[f], img.Bounds())
		}
		var out [32][32]bool
		for y := range 32 {
			for x := range 32 {
				_, _, _, a := img.At(x, y).RGBA()
				out[y][x] = a > 0x7fff
			}
		}
		return out
	}
	for a := range faces {
		for b := range faces {
			if a >= b {
				continue
			}
			one, other, differ := outline(a), outline(b), 0
			for y := range one {
				for x := range one[y] {
					if one[y][x] != other[y][x] {
						differ++
					}
				}
			}
			if differ < 32*32/20 {
				t.Errorf("%s and %s differ in %d points of their outlines", faces[a], faces[b], differ)
			}
		}
	}
}
