package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

// Choose keeps what the person chose for a key in the person's settings file, or
// with an empty value takes the choice back. value is a text as people type it: a
// word out of Key.Allowed, or true or false. What else the file holds stays as it
// is, keys of other versions included, and a reader sees the old file or the new
// one, never half of it.
//
// A file that cannot be read is refused and left alone, so that nothing in it is
// lost. Errors are problems: request_invalid with a fact (no such key, one that
// only the organisation sets, one that a policy has set, a value that the key does
// not take, a settings file that has to be mended first), and internal when the
// file cannot be written.
func Choose(l paths.Layout, name, value string) error {
	keys := table()
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return notChosen("There is no such setting.")
	}
	k := &keys[i]
	in := Load(l).Values[i]
	switch {
	case !k.PersonMayChoose:
		return notChosen("Only your organisation sets this.")
	case in.Locked:
		return notChosen("Your organisation's policy has set this already.")
	}
	var raw json.RawMessage
	if value != "" {
		text := json.RawMessage(value)
		if k.Type != YesNo {
			text, _ = json.Marshal(value) // a string always has a JSON form
		}
		v, why := k.parse(text, rules{})
		if why != "" {
			return notChosen(k.Name + " " + why + ".")
		}
		raw = json.RawMessage(k.json(v))
	}

	file := l.SettingsFile()
	// Some people keep their settings elsewhere and link to them; the link stays one.
	if info, err := os.Lstat(file); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if file, err = filepath.EvalSymlinks(file); err != nil {
			return notChosen("Your settings file is a link that leads nowhere: remove it, then choose again.")
		}
	}
	before := personFile(SourcePerson, file)
	if before.unreadable != "" {
		return notChosen("Your settings file cannot be used: " + before.unreadable + ". Mend or remove it, then choose again.")
	}
	after, changed := chosen(before.entries, name, raw)
	if !changed {
		return nil
	}
	if len(after) > maxFile {
		return notChosen("Your settings file would become larger than 256 KiB.")
	}
	if err := replaceSettings(file, after); err != nil {
		return problem.With(problem.Internal, "Your settings file cannot be written.", err)
	}
	return nil
}

func notChosen(fact string) error {
	return problem.With(problem.RequestInvalid, fact, errors.New("a choice that is not taken"))
}

// chosen is the file with the value of a key exchanged, or without it when raw is
// empty. The other values keep their place and every byte.
func chosen(entries []entry, name string, raw json.RawMessage) (text []byte, changed bool) {
	next := slices.Clone(entries)
	i := slices.IndexFunc(next, func(e entry) bool { return e.key == name })
	switch {
	case i >= 0 && raw == nil:
		next = slices.Delete(next, i, i+1)
	case i >= 0 && !bytes.Equal(next[i].raw, raw):
		next[i].raw = raw
	case i < 0 && raw != nil:
		next = append(next, entry{key: name, raw: raw})
	default:
		return nil, false
	}
	var out bytes.Buffer
	out.WriteString("{")
	for i, e := range next {
		if i > 0 {
			out.WriteString(",")
		}
		key, _ := json.Marshal(e.key)
		fmt.Fprintf(&out, "\n  %s: %s", key, e.raw)
	}
	if len(next) > 0 {
		out.WriteString("\n")
	}
	out.WriteString("}\n")
	return out.Bytes(), true
}

// replaceSettings writes the person's file in one step.
func replaceSettings(file string, text []byte) (err error) {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("creating the folder of the settings file: %w", err)
	}
	next, err := os.CreateTemp(dir, ".settings-*") // 0600
	if err != nil {
		return fmt.Errorf("writing the settings file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(next.Name())
		}
	}()
	_, err = next.Write(text)
	if err == nil {
		err = next.Sync()
	}
	if err = errors.Join(err, next.Close()); err == nil {
		err = os.Rename(next.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("writing the settings file: %w", err)
	}
	return nil
}
