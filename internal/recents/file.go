package recents

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"

	"filippo.io/age"
)

const (
	sealedSuffix     = ".age"
	unreadableSuffix = ".unreadable"
	temporaryPrefix  = ".recents-"
	layout           = 1
	// maxFileBytes is what 1,000 entries at their largest need, and some.
	maxFileBytes = 4 << 20
)

// unreadable says what is wrong with a file that is there.
type unreadable struct{ reason string }

func (u *unreadable) Error() string { return u.reason }

// file is the sealed file of one person. Its methods run under the user's lock.
type file struct {
	dir, name string
	identity  *age.X25519Identity
}

type content struct {
	Layout int `json:"v"`
	// Owner is the file's name: a file that was renamed to that of another person
	// is not believed.
	Owner   string  `json:"owner"`
	Entries []entry `json:"entries"`
}

type entry struct {
	ID          string    `json:"id"`
	EncounterID string    `json:"external_encounter_id"`
	ProviderID  string    `json:"external_provider_id"`
	Label       string    `json:"label"`
	OpenedAt    time.Time `json:"opened_at"`
	Status      string    `json:"status"`
}

func (f *file) path() string { return filepath.Join(f.dir, f.name+sealedSuffix) }

// read returns nothing for a file that is not there, and *unreadable for one
// whose content is not what write wrote. Every other error leaves the question
// open, so the file stays where it is.
func (f *file) read() ([]Entry, error) {
	opened, err := os.Open(f.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the file: %w", err)
	}
	defer opened.Close()
	sealed, err := io.ReadAll(io.LimitReader(opened, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the file: %w", err)
	}
	return unseal(sealed, f.name, f.identity)
}

func unseal(sealed []byte, owner string, identity age.Identity) ([]Entry, error) {
	if len(sealed) > maxFileBytes {
		return nil, &unreadable{"the file is too large"}
	}
	stream, err := age.Decrypt(bytes.NewReader(sealed), identity)
	var another *age.NoIdentityMatchError
	if errors.As(err, &another) {
		return nil, &unreadable{"the file is sealed to another identity"}
	}
	if err != nil {
		return nil, &unreadable{"the file is not a sealed one"}
	}
	// Nothing of a torn file is believed: age authenticates by chunk.
	plain, err := io.ReadAll(io.LimitReader(stream, maxFileBytes))
	if err != nil {
		return nil, &unreadable{"the file is torn or was changed"}
	}
	return parse(plain, owner)
}

func parse(plain []byte, owner string) ([]Entry, error) {
	var c content
	decoder := json.NewDecoder(bytes.NewReader(plain))
	decoder.DisallowUnknownFields()
	if decoder.Decode(&c) != nil || c.Layout != layout {
		return nil, &unreadable{"the content is of another version or is not a list"}
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, &unreadable{"something follows the list"}
	}
	if c.Owner != owner {
		return nil, &unreadable{"the list is another person's"}
	}
	if len(c.Entries) > maxEntries {
		return nil, &unreadable{"the list is too long"}
	}
	entries := make([]Entry, 0, len(c.Entries))
	seen := make(map[string]bool, len(c.Entries))
	for _, s := range c.Entries {
		e := Entry{
			ID: s.ID, ExternalEncounterID: s.EncounterID, ExternalProviderID: s.ProviderID,
			Label: s.Label, OpenedAt: s.OpenedAt.UTC(), Status: s.Status,
		}
		if !validEntry(e) || seen[e.ID] {
			return nil, &unreadable{"an entry is out of bounds"}
		}
		seen[e.ID] = true
		entries = append(entries, e)
	}
	return entries, nil
}

func encode(entries []Entry, owner string) ([]byte, error) {
	c := content{Layout: layout, Owner: owner, Entries: make([]entry, 0, len(entries))}
	for _, e := range entries {
		c.Entries = append(c.Entries, entry{
			ID: e.ID, EncounterID: e.ExternalEncounterID, ProviderID: e.ExternalProviderID,
			Label: e.Label, OpenedAt: e.OpenedAt, Status: e.Status,
		})
	}
	plain, err := json.Marshal(c)
	if err != nil {
		return nil, errors.New("the list cannot be encoded")
	}
	return plain, nil
}

// write replaces the file in one step, so that a reader and a crash see the list
// before or after. An empty list is no file. now becomes the file's time, by
// which sweep knows that everything in it has expired.
func (f *file) write(entries []Entry, now time.Time, age time.Duration) error {
	if len(entries) == 0 {
		if err := removeIfThere(f.path()); err != nil {
			return err
		}
		return f.sweep(now, age)
	}
	plain, err := encode(entries, f.name)
	if err != nil {
		return err
	}
	if err := paths.EnsurePrivateDir(f.dir); err != nil {
		return err
	}
	if err := f.sweep(now, age); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(f.dir, temporaryPrefix+"*") // 0600
	if err != nil {
		return fmt.Errorf("creating a file: %w", err)
	}
	err = f.seal(temporary, plain)
	if err == nil {
		err = temporary.Sync()
	}
	if closeErr := temporary.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Chtimes(temporary.Name(), now, now)
	}
	if err == nil {
		err = os.Rename(temporary.Name(), f.path())
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
		return fmt.Errorf("writing the file: %w", err)
	}
	return syncFolder(f.dir)
}

func (f *file) seal(w io.Writer, plain []byte) error {
	sealer, err := age.Encrypt(w, f.identity.Recipient())
	if err != nil {
		return fmt.Errorf("sealing: %w", err)
	}
	if _, err := sealer.Write(plain); err != nil {
		return fmt.Errorf("sealing: %w", err)
	}
	if err := sealer.Close(); err != nil {
		return fmt.Errorf("sealing: %w", err)
	}
	return nil
}

// putAside keeps one unreadable file, the newest.
func (f *file) putAside() error {
	if err := os.Rename(f.path(), f.path()+unreadableSuffix); err != nil {
		return fmt.Errorf("setting an unreadable file aside: %w", err)
	}
	return nil
}

func (f *file) remove() error {
	return errors.Join(removeIfThere(f.path()), removeIfThere(f.path()+unreadableSuffix))
}

// sweep removes files of people who do not come back, once everything in them
// has expired, and what a crash left half written. All writers hold the lock, so
// no temporary file is in use.
func (f *file) sweep(now time.Time, age time.Duration) error {
	found, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking through the folder: %w", err)
	}
	for _, item := range found {
		if !ours(item.Name()) {
			continue
		}
		info, err := item.Info()
		if err != nil {
			continue // gone meanwhile
		}
		expired := item.Name() != f.name+sealedSuffix && now.Sub(info.ModTime()) > age
		if expired || strings.HasPrefix(item.Name(), temporaryPrefix) {
			if err := removeIfThere(filepath.Join(f.dir, item.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func ours(name string) bool {
	return strings.HasSuffix(name, sealedSuffix) || strings.HasSuffix(name, sealedSuffix+unreadableSuffix) ||
		strings.HasPrefix(name, temporaryPrefix)
}

// WipeAll removes the lists of every person in the folder, what was set aside
// included, and nothing else. The identity in the keyring stays. A missing
// folder, and an empty dir, are no error. It takes no lock: the caller holds it
// where another session may be writing.
func WipeAll(dir string) error {
	if dir == "" {
		return nil
	}
	found, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var failed []error
	for _, item := range found {
		if ours(item.Name()) {
			failed = append(failed, removeIfThere(filepath.Join(dir, item.Name())))
		}
	}
	if err := errors.Join(append(failed, withoutPath(err))...); err != nil {
		return problem.New(problem.Internal, fmt.Errorf("wiping recents: %w", err))
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a file: %w", withoutPath(err))
	}
	return nil
}

// withoutPath takes the path out of an error: it holds the name of the user.
func withoutPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("%s: %w", path.Op, path.Err)
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return fmt.Errorf("%s: %w", link.Op, link.Err)
	}
	return err
}
