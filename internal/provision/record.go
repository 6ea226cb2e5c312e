package provision

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"encounterlauncher/internal/nabla"
)

// recordHead is the first line of a record.
const recordHead = "org-backend provision 1"

// Record is a file (0600) with a hash of every user that was provisioned, the settings
// and the account at Nabla included: so a line of a list that is changed counts as new,
// wherever it stands, and what was done at a simulator is not done at Nabla. It is safe
// for concurrent use. The nil Record knows nothing and keeps nothing.
type Record struct {
	account string
	mu      sync.Mutex
	file    *os.File
	done    map[[sha256.Size]byte]bool
}

// OpenRecord reads the record, and makes it where there is none. account is where the
// users are made: base URL or region, and client.
func OpenRecord(name, account string) (*Record, error) {
	r, err := readRecord(name, account, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("the record of what was done: %w", err)
	}
	return r, nil
}

// ReadRecord is OpenRecord for looking only: a file that is not there is not made.
func ReadRecord(name, account string) (*Record, error) {
	r, err := readRecord(name, account, os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the record of what was done: %w", err)
	}
	return r, r.Close()
}

func readRecord(name, account string, flags int) (*Record, error) {
	if info, err := os.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, err
	}
	r := &Record{account: account, file: f, done: map[[sha256.Size]byte]bool{}}
	if err := r.load(flags != os.O_RDONLY); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

func (r *Record) load(write bool) error {
	var text bytes.Buffer
	if _, err := text.ReadFrom(r.file); err != nil {
		return err
	}
	whole := strings.HasSuffix(text.String(), "\n")
	for i, line := range strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n") {
		var sum [sha256.Size]byte
		switch {
		case i == 0 && text.Len() > 0 && line != recordHead:
			return errors.New("it is something else; move it away or name the list otherwise")
		case len(line) != hex.EncodedLen(len(sum)):
			// The head, or the end of a run that was cut off while it wrote.
		default:
			if _, err := hex.Decode(sum[:], []byte(line)); err == nil {
				r.done[sum] = true
			}
		}
	}
	if !write {
		return nil
	}
	lead := ""
	switch {
	case text.Len() == 0:
		lead = recordHead + "\n"
	case !whole:
		lead = "\n"
	}
	_, err := r.file.WriteString(lead)
	return err
}

// sum is that of what is sent, and where to.
func (r *Record) sum(u nabla.User) [sha256.Size]byte {
	text, _ := json.Marshal([]any{r.account, u}) // texts only
	return sha256.Sum256(text)
}

// Has reports whether a user was provisioned as it is here.
func (r *Record) Has(u nabla.User) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.done[r.sum(u)]
}

// Count is how many of the lines were provisioned as they are here.
func (r *Record) Count(lines []Line) int {
	n := 0
	for _, l := range lines {
		if r.Has(l.User) {
			n++
		}
	}
	return n
}

func (r *Record) add(u nabla.User) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := r.sum(u)
	r.done[sum] = true
	if _, err := r.file.WriteString(hex.EncodeToString(sum[:]) + "\n"); err != nil {
		return fmt.Errorf("the record of what was done: %w", err)
	}
	return nil
}

// Close ends the file; what it knows stays known.
func (r *Record) Close() error {
	if r == nil {
		return nil
	}
	return r.file.Close()
}
