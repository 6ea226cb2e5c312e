package audit

import "time"

// Sink keeps the hashes of lines where this program cannot change them: the log
// of the system.
type Sink interface {
	// Put hands over the hash of a line that was written.
	Put(a Anchor) error
	// Anchors returns every hash that is still there, in any order.
	Anchors() ([]Anchor, error)
}

// Anchor is the hash of one line.
type Anchor struct {
	// File is the name of the file, without a folder.
	File string
	// Sequence is the line's number in its chain.
	Sequence uint64
	// Hash is in lower-case hexadecimal.
	Hash string
	// At is the time of the line, to the millisecond.
	At time.Time
}

// validAnchor refuses what Put of this room cannot have written.
func validAnchor(a Anchor) bool {
	_, _, ok := pieceOf(a.File)
	return ok && a.Sequence > 0 && !a.At.IsZero() && len(a.Hash) == 64 && consists(a.Hash, "0123456789abcdef")
}
