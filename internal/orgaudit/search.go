package orgaudit

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Query says which records are wanted: those to which everything that is set
// applies. Ids are compared exactly, as the EHR writes them.
type Query struct {
	// Person is a subject, or an e-mail address in capitals or not.
	Person string
	// Provider is one side's or the other's: of who asked, or of whose encounter it is.
	Provider  string
	Patient   string
	Encounter string
	// Since is the first moment that counts, Until the first that does not.
	Since, Until time.Time
}

func (q Query) wants(r Record) bool {
	switch {
	case q.Person != "" && q.Person != r.Subject && !strings.EqualFold(q.Person, r.Email):
	case q.Provider != "" && q.Provider != r.Provider && q.Provider != r.AskedProvider:
	case q.Patient != "" && q.Patient != r.Patient:
	case q.Encounter != "" && q.Encounter != r.Encounter:
	case !q.Since.IsZero() && r.Time.Before(q.Since):
	case !q.Until.IsZero() && !r.Time.Before(q.Until):
	default:
		return true
	}
	return false
}

// needles are the ids that are asked for, as a line holds them: a search over years
// reads only the lines that have them all.
func (q Query) needles() [][]byte {
	var all [][]byte
	for _, id := range []string{q.Provider, q.Patient, q.Encounter} {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if id != "" && e.Encode(id) == nil {
			all = append(all, bytes.TrimSpace(b.Bytes()))
		}
	}
	return all
}

// misses reports whether a line that looks whole cannot be wanted.
func misses(text []byte, needles [][]byte) bool {
	if !bytes.HasPrefix(text, []byte("{")) || !bytes.HasSuffix(text, []byte("}\n")) {
		return false
	}
	for _, n := range needles {
		if !bytes.Contains(text, n) {
			return true
		}
	}
	return false
}

// Damage is a line that cannot be read.
type Damage struct {
	// File is the name without its folder, Line counts from 1.
	File string
	Line int
	// Torn says that it is the last of the file and has no end: something ended while
	// it was written, or writes it now.
	Torn bool
}

// Search reads every file of the audit at path, the oldest first, and hands found
// each record that q wants, in the order in which they were written. damaged, when
// not nil, is told of lines that cannot be read; they end nothing. Memory does not
// grow with the audit. A file that is moved aside meanwhile is read once, under
// one of its names.
func Search(ctx context.Context, path string, q Query, found func(Record) error, damaged func(Damage)) error {
	if damaged == nil {
		damaged = func(Damage) {}
	}
	// The current file is opened first: what it is moved to later is then not among
	// the others.
	current, err := os.Open(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return withoutPath(err)
	}
	if current != nil {
		defer func() { _ = current.Close() }()
	}
	all, err := parts(path)
	if err != nil {
		return err
	}
	if current == nil && len(all) == 1 {
		return errors.New("there is no audit file of that name")
	}
	for _, p := range all[:len(all)-1] {
		if !q.Since.IsZero() && p.until.Before(q.Since.Add(-time.Minute)) {
			continue
		}
		if current != nil && same(current, p.path) {
			continue
		}
		if err := searchPart(ctx, p.path, q, found, damaged); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(p.path), err)
		}
	}
	if current == nil {
		return nil
	}
	return read(ctx, current, filepath.Base(path), q, found, damaged)
}

func same(open *os.File, path string) bool {
	a, err := open.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

func searchPart(ctx context.Context, path string, q Query, found func(Record) error, damaged func(Damage)) error {
	f, err := os.Open(path)
	if err != nil {
		return withoutPath(err)
	}
	defer func() { _ = f.Close() }()
	var from io.Reader = f
	if strings.HasSuffix(path, zipped) {
		if from, err = gzip.NewReader(f); err != nil {
			return errors.New("it is not gzip")
		}
	}
	return read(ctx, from, filepath.Base(path), q, found, damaged)
}

// read reads the lines of one file.
func read(ctx context.Context, from io.Reader, name string, q Query, found func(Record) error, damaged func(Damage)) error {
	lines := bufio.NewReaderSize(from, maxLine)
	needles := q.needles()
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		text, err := lines.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("after line %d: %w", n-1, withoutPath(err))
		}
		ended := err == nil
		if !ended && len(text) == 0 && !long {
			return nil
		}
		if !long && misses(text, needles) {
			continue
		}
		r, fault := parse(bytes.TrimSuffix(text, []byte("\n")))
		switch {
		case long || fault != nil:
			damaged(Damage{name, n, !ended})
		case q.wants(r):
			if err := found(r); err != nil {
				return err
			}
		}
		if !ended {
			return nil
		}
	}
}
