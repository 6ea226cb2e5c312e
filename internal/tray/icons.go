//go:build linux || windows

package tray

import _ "embed"

// The pictures differ in shape and not only in colour. They are the 32 pixel ones
// of build/icons/tray.
var (
	//go:embed icons/idle.png
	idlePicture []byte
	//go:embed icons/working.png
	workingPicture []byte
	//go:embed icons/attention.png
	attentionPicture []byte
	//go:embed icons/signed-out.png
	signedOutPicture []byte
)

// picture returns the PNG of a face.
func picture(f face) []byte {
	switch f {
	case working:
		return workingPicture
	case attention:
		return attentionPicture
	case signedOut:
		return signedOutPicture
	}
	return idlePicture
}
