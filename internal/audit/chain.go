package audit

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"encounterlauncher/internal/paths"
)

const (
	suffix = ".jsonl"
	// keepFor and maxFiles bound the folder: at most about 1 GiB, and in use some
	// hundred kilobytes.
	keepFor  = 90 * 24 * time.Hour
	maxFiles = 1000
	maxFile  = 1 << 20
	// maxRead is more than a file of this room ever has.
	maxRead = 4 * maxFile
)

// baseOf takes the suffix off the name of an agent's first file.
func baseOf(name string) (string, bool) {
	base, ok := strings.CutSuffix(name, suffix)
	if !ok || base == "" || len(base) > 80 || !consists(base, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") {
		return "", false
	}
	return base, true
}

// pieceName names the n-th file of an agent, from 1.
func pieceName(base string, n int) string {
	if n == 1 {
		return base + suffix
	}
	return fmt.Sprintf("%s.%04d%s", base, n, suffix)
}

// pieceOf is the reverse; ok is false for a name that pieceName does not make.
func pieceOf(name string) (base string, n int, ok bool) {
	if base, ok := baseOf(name); ok {
		return base, 1, true
	}
	stem, _ := strings.CutSuffix(name, suffix)
	first, number, _ := strings.Cut(stem, ".")
	base, ok = baseOf(first + suffix)
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 2 || pieceName(base, n) != name {
		return "", 0, false
	}
	return base, n, true
}

// auditFiles returns the names of all files of this room, sorted.
func auditFiles(dir string) ([]string, error) {
	found, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		// Windows says the same of a file in its place.
		if _, there := os.Lstat(dir); there != nil {
			return nil, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("looking through the folder: %w", err)
	}
	var names []string
	for _, item := range found {
		if _, _, ok := pieceOf(item.Name()); ok && item.Type().IsRegular() {
			names = append(names, item.Name())
		}
	}
	return names, nil
}

// chain appends lines, and continues in another file when it must.
type chain struct {
	dir, base string
	sink      Sink
	maxFile   int64
	maxFiles  int

	piece    int
	file     *os.File // nil after a failed write: the next append opens anew
	size     int64
	empty    bool   // the file has no line yet
	sequence uint64 // of the last line; 0 before the first
	previous string // hash of the last line
	last     time.Time
}

func newChain(dir, base string, sink Sink) *chain {
	return &chain{dir: dir, base: base, sink: sink, maxFile: maxFile, maxFiles: maxFiles}
}

func (c *chain) name() string { return pieceName(c.base, c.piece) }

// open continues the newest file of the agent, or begins the first one.
func (c *chain) open(now time.Time) error {
	if err := paths.EnsurePrivateDir(c.dir); err != nil {
		return err
	}
	names, err := auditFiles(c.dir)
	if err != nil {
		return err
	}
	c.piece = max(c.piece, 1)
	for _, name := range names {
		if base, n, _ := pieceOf(name); base == c.base {
			c.piece = max(c.piece, n)
		}
	}
	if err := c.openPiece(); err != nil {
		return err
	}
	text, err := readBounded(c.file)
	if err != nil {
		return c.giveUp(err)
	}
	read := scan(text)
	c.size = int64(len(text))
	if n := len(read.lines); n > 0 {
		c.empty = false
		c.sequence, c.previous, c.last = read.lines[n-1].Sequence, read.lines[n-1].hash, read.lines[n-1].at()
	}
	switch {
	case read.fault != "":
		// The file does not hold together, which Verify tells. It is not written to
		// again.
		return c.begin(c.piece + 1)
	case read.torn != nil:
		return c.recover(now, read.torn)
	}
	return nil
}

// openPiece opens the current file; it sets what is known of an empty one.
func (c *chain) openPiece() error {
	file, err := paths.OpenFile(filepath.Join(c.dir, c.name()), os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("opening a file: %w", err)
	}
	c.file, c.size, c.empty = file, 0, true
	return nil
}

// begin goes on in another file.
func (c *chain) begin(piece int) error {
	_ = c.close()
	c.piece = piece
	return c.openPiece()
}

// recover ends the line that a crash tore, and says so in the next one.
func (c *chain) recover(now time.Time, torn []byte) error {
	says := line{Layout: layout, Outcome: recovered, Torn: hashOf(torn)}
	if l, hash, ok := decode(torn); ok {
		// Only its newline was lost, so it is a line.
		c.empty, c.sequence, c.previous, c.last = false, l.Sequence, hash, l.at()
		says.Torn = ""
	}
	return c.write(now, says, "\n")
}

// append writes one line. The error wraps ErrSink when only the sink failed.
func (c *chain) append(now time.Time, l line) error {
	if c.file == nil {
		if err := c.open(now); err != nil {
			return err
		}
	}
	inUse, err := c.file.Stat()
	if err != nil {
		return c.giveUp(err)
	}
	onDisk, err := os.Lstat(filepath.Join(c.dir, c.name()))
	gone := err != nil || !os.SameFile(inUse, onDisk)
	if gone || c.size >= c.maxFile {
		// A file that somebody removed or replaced is not written to in the dark.
		if err := c.begin(c.piece + 1); err != nil {
			return err
		}
	}
	return c.write(now, l, "")
}

func (c *chain) write(now time.Time, l line, before string) error {
	if c.empty {
		return c.writeFirst(now, l, before)
	}
	l.Sequence, l.Previous, l.Time = c.sequence+1, c.previous, formatTime(now)
	return c.put(l, before)
}

// writeFirst begins a file: it ties it to the newest one that is there, and
// removes what is too old.
func (c *chain) writeFirst(now time.Time, l line, before string) error {
	names, err := auditFiles(c.dir)
	if err != nil {
		return err
	}
	ends := map[string]end{}
	for _, name := range names {
		if name != c.name() {
			ends[name] = readEnd(filepath.Join(c.dir, name))
		}
	}
	if c.piece > 1 {
		l.After, l.Previous, l.AfterTime = pieceName(c.base, c.piece-1), c.previous, formatTime(c.last)
		if c.sequence == 0 { // begun by a process before this one
			e := ends[l.After]
			l.Previous, l.AfterTime, c.sequence = e.hash, formatTime(e.at), e.sequence
		}
	} else {
		if name, e := newest(ends); name != "" {
			l.After, l.Previous, l.AfterTime = name, e.hash, formatTime(e.at)
		}
	}
	l.Sequence, l.Time = c.sequence+1, formatTime(now)
	err = c.put(l, before)
	if err != nil && !errors.Is(err, ErrSink) {
		return err
	}
	return errors.Join(err, c.prune(now, ends))
}

// put writes, syncs and passes on a finished line. A write that fails may have
// left half a line: the file is opened anew, and recovered, by the next append.
func (c *chain) put(l line, before string) error {
	text, hash, err := l.encode()
	if err != nil {
		return err
	}
	text = append([]byte(before), text...)
	if _, err := c.file.Write(text); err != nil {
		return c.giveUp(err)
	}
	if err := c.file.Sync(); err != nil {
		return c.giveUp(err)
	}
	c.size += int64(len(text))
	c.empty, c.sequence, c.previous, c.last = false, l.Sequence, hash, l.at()
	if c.sink != nil {
		if err := c.sink.Put(Anchor{File: c.name(), Sequence: l.Sequence, Hash: hash, At: l.at()}); err != nil {
			return fmt.Errorf("%w: %w", ErrSink, err)
		}
	}
	return nil
}

func (c *chain) giveUp(err error) error {
	_ = c.close()
	return err
}

func (c *chain) close() error {
	if c.file == nil {
		return nil
	}
	err := c.file.Close()
	c.file = nil
	return err
}

// prune removes the oldest files. They go in the order of their newest line, and
// the line that says so is written first: all that is missing up to its time was
// removed by us, whatever happens in between.
func (c *chain) prune(now time.Time, ends map[string]end) error {
	type old struct {
		name string
		at   time.Time
	}
	var files []old
	for name, e := range ends {
		if !e.at.IsZero() {
			files = append(files, old{name, e.at})
		}
	}
	slices.SortFunc(files, func(a, b old) int { return a.at.Compare(b.at) })
	n := 0
	for n < len(files) && (now.Sub(files[n].at) > keepFor || len(files)-n >= c.maxFiles) {
		n++
	}
	if n == 0 {
		return nil
	}
	through := files[n-1].at
	for _, f := range files[:n] {
		// A clock that was set back leaves a line later than the last.
		if t := latest(filepath.Join(c.dir, f.name)); t.After(through) {
			through = t
		}
	}
	err := c.write(now, line{Layout: layout, Outcome: removed, Count: n, Through: formatTime(through)}, "")
	if err != nil && !errors.Is(err, ErrSink) {
		return err
	}
	for _, f := range files[:n] {
		if err := os.Remove(filepath.Join(c.dir, f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing an old file: %w", err)
		}
	}
	return err
}

// end is the newest whole line of a file; the zero value when there is none.
type end struct {
	hash     string
	sequence uint64
	at       time.Time
}

// latest is the latest time in a file.
func latest(path string) time.Time {
	var t time.Time
	file, err := paths.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return t
	}
	defer file.Close()
	text, err := readBounded(file)
	if err != nil {
		return t
	}
	for _, l := range scan(text).lines {
		if l.at().After(t) {
			t = l.at()
		}
	}
	return t
}

// newest returns the file with the newest line; of files of one millisecond the
// one that cannot have been continued in another of them.
func newest(ends map[string]end) (string, end) {
	var name string
	for n, e := range ends {
		if e.at.IsZero() {
			continue
		}
		if name == "" {
			name = n
			continue
		}
		base, piece, _ := pieceOf(name)
		otherBase, otherPiece, _ := pieceOf(n)
		if cmp.Or(e.at.Compare(ends[name].at), strings.Compare(otherBase, base), otherPiece-piece) > 0 {
			name = n
		}
	}
	return name, ends[name]
}

func readEnd(path string) end {
	file, err := paths.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return end{}
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return end{}
	}
	text := make([]byte, min(info.Size(), 2*maxLine))
	if _, err := file.ReadAt(text, info.Size()-int64(len(text))); err != nil {
		return end{}
	}
	for {
		newline := bytes.LastIndexByte(text, '\n')
		if newline < 0 {
			return end{}
		}
		text = text[:newline]
		if l, hash, ok := decode(text[bytes.LastIndexByte(text, '\n')+1:]); ok {
			return end{hash: hash, sequence: l.Sequence, at: l.at()}
		}
	}
}

func readBounded(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxRead+1))
	if err != nil {
		return nil, fmt.Errorf("reading a file: %w", err)
	}
	return text, nil
}
