//go:build linux || windows

package tray

import "embed"

// pictures are the 32 and 48 pixel ones of build/icons/tray. The states differ in
// outline and not only in colour.
//
//go:embed icons/*.png
var pictures embed.FS

// picture returns the PNG of a face, size pixels wide.
func picture(f face, size string) []byte {
	name := "idle"
	switch f {
	case working:
		name = "working"
	case attention:
		name = "attention"
	case signedOut:
		name = "signed-out"
	}
	png, err := pictures.ReadFile("icons/" + name + "-" + size + ".png")
	if err != nil {
		return nil // a test looks at each
	}
	return png
}
