package tray

import (
	"bytes"
	"image/color"
	"image/png"
	"testing"

	"github.com/godbus/dbus/v5"

	"encounterlauncher/internal/view"
)

// argb is what the desktop is to get of a picture: StatusNotifierItem, IconPixmap.
func argb(t *testing.T, drawn []byte) []byte {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(drawn))
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			c := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
			if c.A == 0 {
				c = color.NRGBA{}
			}
			out = append(out, c.A, c.R, c.G, c.B)
		}
	}
	return out
}

func TestTheDesktopGetsTheIconWithoutAColouredFringe(t *testing.T) {
	shortCheck(t)
	address, _ := bus(t)
	h := startHost(t, address)
	if err := h.conn.AddMatchSignal(dbus.WithMatchInterface("org.kde.StatusNotifierItem"), dbus.WithMatchMember("NewIcon")); err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, "DBUS_SESSION_BUS_ADDRESS="+address)
	h.wait()
	a.show(recents("r1"))
	h.until("(Signed in as a)", "Sign out", "Recent encounters", "12:00 · r1", "Open Encounter Launcher", "Quit")
	for n, of := range []struct {
		f face
		s view.Snapshot
	}{
		{idle, view.Snapshot{SignIn: signedInAs("a")}}, // as it is drawn already
		{working, view.Snapshot{SignIn: view.SignIn{State: view.SigningInNow}}},
		{attention, view.Snapshot{SignIn: signedInAs("a"), Launch: &view.Launch{ID: "l", Stage: view.Failed}}},
		{signedOut, view.Snapshot{SignIn: view.SignIn{State: view.SignedOut}}},
	} {
		f := of.f
		a.show(of.s)
		if n > 0 {
			// The library changes the picture in place while it answers who asks for it, so
			// a desktop asks when it is told, and so does this one.
			h.told("NewIcon", faces[f]+" is not drawn")
		}
		sizes := h.property("IconPixmap").([][]any)
		if len(sizes) != 1 || sizes[0][0] != int32(32) || sizes[0][1] != int32(32) {
			t.Fatalf("%s: %d sizes", faces[f], len(sizes))
		}
		if got, want := sizes[0][2].([]byte), argb(t, picture(f, "32")); !bytes.Equal(got, want) {
			for n := range want {
				if got[n] != want[n] {
					t.Errorf("%s: the point %d is drawn % x and sent as % x", faces[f], n/4, want[n&^3:n&^3+4], got[n&^3:n&^3+4])
					break
				}
			}
		}
	}
	a.stop()
}

func TestAColourKeepsItsValueInBothBytes(t *testing.T) {
	for a := range 0x100 {
		for c := range 0x100 {
			r, _, _, alpha := color.NRGBA64{R: wide(uint8(c), uint8(a)), A: uint16(a) * 0x101}.RGBA()
			if a == 0 {
				if r != 0 || alpha != 0 {
					t.Fatalf("what cannot be seen is %x %x", r, alpha)
				}
				continue
			}
			if uint8(r) != uint8(c) || uint8(alpha) != uint8(a) {
				t.Fatalf("%x of transparency %x: the lower bytes are %x %x", c, a, uint8(r), uint8(alpha))
			}
			if got, want := int(r>>8), c*a/0xff; got > want || got < want-1 || int(alpha>>8) != a {
				t.Fatalf("%x of transparency %x: the upper bytes are %x %x, want %x", c, a, got, alpha>>8, want)
			}
		}
	}
}

func TestWhatIsNoPictureIsNoIcon(t *testing.T) {
	if got := straight([]byte("no picture")); got != nil {
		t.Errorf("%d bytes", len(got))
	}
}
