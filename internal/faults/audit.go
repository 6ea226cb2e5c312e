//go:build linux

package faults

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
)

// auditLine is one line of a launcher's audit, as docs/it.md describes it.
type auditLine struct {
	Outcome   string `json:"outcome"`
	Code      string `json:"code"`
	RequestID string `json:"request_id"`
}

// ofLaunch says whether the line tells how a launch ended.
func (l auditLine) ofLaunch() bool { return l.RequestID != "" }

// auditReader reads what the agents of one person write.
type auditReader struct {
	dir     string
	offsets map[string]int64
	all     []auditLine
	from    int
}

// read takes in the lines that are new.
func (a *auditReader) read() error {
	files, err := filepath.Glob(filepath.Join(a.dir, "agent-*.jsonl"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Size() == a.offsets[file] {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			continue // removed for its age meanwhile
		}
		rest := text[min(a.offsets[file], int64(len(text))):]
		end := bytes.LastIndexByte(rest, '\n') + 1
		for line := range bytes.Lines(rest[:end]) {
			var l auditLine
			if json.Unmarshal(line, &l) == nil { // a torn line is for audit verify
				a.all = append(a.all, l)
			}
		}
		a.offsets[file] += int64(end)
	}
	return nil
}

// mark begins a press.
func (a *auditReader) mark() {
	_ = a.read() // its pattern is good
	a.from = len(a.all)
}

func (a *auditReader) lines() int         { return len(a.all) }
func (a *auditReader) since() []auditLine { return a.all[a.from:] }

func (a *auditReader) outcomes() (n int) {
	for _, l := range a.since() {
		if l.ofLaunch() {
			n++
		}
	}
	return n
}

func (a *auditReader) opened() (n int) {
	for _, l := range a.since() {
		if l.Outcome == "opened" {
			n++
		}
	}
	return n
}
