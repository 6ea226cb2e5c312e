package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"unicode/utf8"

	"encounterlauncher/internal/paths"
)

// maxFile bounds a policy file: 256 KiB.
const maxFile = 256 << 10

// reading is what one source says at one moment.
type reading struct {
	source, path string
	// unreadable is the end of a sentence about the whole source ("cannot be
	// used: …"); empty when it could be read. A source that does not exist is
	// readable and has no entries.
	unreadable string
	entries    []entry
}

// entry is one value as the source writes it, not yet checked.
type entry struct {
	key string
	raw json.RawMessage
	// wrong is set instead of raw when the source cannot express the value as
	// JSON: the end of a sentence.
	wrong string
}

// machineFile reads a file that only administrators may have written.
func machineFile(l paths.Layout, source, path string) reading {
	r := reading{source: source, path: path}
	owner := "root"
	if l.IsDemo() {
		owner = "you"
	}
	dir := filepath.Dir(path)
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r
	case err != nil:
		r.unreadable = "its folder " + dir + " cannot be looked at: set the mode of that folder and of those above it with chmod 755"
		return r
	case !info.IsDir():
		r.unreadable = dir + " is not a folder"
		return r
	case !l.TrustedMachineFile(info):
		// Who can write to the folder can replace or hide the file.
		r.unreadable = "its folder can be changed by others than " + owner + ": run chown " + rootOr(owner) + " " + dir + " and chmod 755 " + dir
		return r
	}
	data, why := readFile(path, func(info fs.FileInfo) string {
		if !l.TrustedMachineFile(info) {
			return "others than " + owner + " can change it: run chown " + rootOr(owner) + " " + path + " and chmod 644 " + path
		}
		return ""
	}, openWithoutLinks)
	r.fill(data, why)
	return r
}

func rootOr(owner string) string {
	if owner == "root" {
		return "root:root"
	}
	return "\"$USER\""
}

// personFile reads the file of the person's own choices.
func personFile(source, path string) reading {
	r := reading{source: source, path: path}
	data, why := readFile(path, nil, openPlain)
	r.fill(data, why)
	return r
}

func (r *reading) fill(data []byte, why string) {
	if why == "" && data != nil {
		r.entries, why = parseFile(data)
	}
	r.unreadable = why
}

// readFile returns the whole file, or nil when there is none. It opens once and
// judges what it opened, so that nothing can be exchanged between look and use.
func readFile(path string, judge func(fs.FileInfo) string, open func(string) (*os.File, error)) (data []byte, why string) {
	f, err := open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, ""
	case isLink(err):
		return nil, "it is a symbolic link: put the file itself there"
	case errors.Is(err, fs.ErrPermission) && judge == nil:
		return nil, "you may not read it: give yourself the right to"
	case errors.Is(err, fs.ErrPermission):
		return nil, "it cannot be read by everybody: run chmod 644 " + path
	case err != nil:
		return nil, "it cannot be opened"
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, "it is not a file"
	}
	if judge != nil {
		if why := judge(info); why != "" {
			return nil, why
		}
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, "reading it failed"
	}
	if data == nil {
		data = []byte{}
	}
	return data, ""
}

// parseFile reads a policy file: one JSON object and nothing else. Where a
// reader could take two meanings out of the bytes it takes none.
func parseFile(data []byte) (entries []entry, why string) {
	switch {
	case len(data) > maxFile:
		return nil, "it is larger than 256 KiB"
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return nil, "it begins with a byte order mark: save it as UTF-8 without one"
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return nil, "it is UTF-16 text: save it as UTF-8"
	case !utf8.Valid(data):
		return nil, "it is not UTF-8 text"
	case len(bytes.TrimSpace(data)) == 0:
		return nil, "it is empty: write {} or remove it"
	}
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			offset := min(max(int(syntax.Offset), 0), len(data))
			return nil, "it is not valid JSON at line " + strconv.Itoa(1+bytes.Count(data[:offset], []byte("\n")))
		}
		return nil, "it is not valid JSON"
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if opening, err := dec.Token(); err != nil || opening != json.Delim('{') {
		return nil, "it is not a JSON object: write the keys between { and }"
	}
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		key, ok := token.(string)
		if err != nil || !ok {
			return nil, "it is not valid JSON"
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, "it is not valid JSON"
		}
		if seen[key] || repeatsAKey(raw) {
			return nil, "it writes a key twice, at or before line " + strconv.Itoa(1+bytes.Count(data[:dec.InputOffset()], []byte("\n")))
		}
		seen[key] = true
		entries = append(entries, entry{key: key, raw: raw})
	}
	return entries, ""
}

// repeatsAKey reports whether an object anywhere in valid JSON has a key twice.
func repeatsAKey(raw json.RawMessage) bool {
	type level struct {
		keys  map[string]bool
		isKey bool
	}
	var levels []level
	dec := json.NewDecoder(bytes.NewReader(raw))
	for {
		token, err := dec.Token()
		if err != nil {
			return false
		}
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			levels = levels[:len(levels)-1]
			continue
		}
		if n := len(levels); n > 0 && levels[n-1].keys != nil {
			if top := &levels[n-1]; top.isKey {
				key, _ := token.(string)
				if top.keys[key] {
					return true
				}
				top.keys[key] = true
				top.isKey = false
				continue
			} else {
				top.isKey = true
			}
		}
		switch token {
		case json.Delim('{'):
			levels = append(levels, level{keys: map[string]bool{}, isKey: true})
		case json.Delim('['):
			levels = append(levels, level{})
		}
	}
}
