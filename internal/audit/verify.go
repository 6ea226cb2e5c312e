package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

// Report is what Verify found.
type Report struct {
	// Files in the order of their first line.
	Files []FileReport `json:"files"`
	// OK says that there is no break. Torn lines do not count against it.
	OK bool `json:"ok"`
	// Total is how many lines are whole and in their place.
	Total int `json:"lines"`
	// Breaks are the places where the chain does not hold, the first one first;
	// for each file at most one of its own. None means that nothing is missing and
	// nothing was changed, as far as can be seen.
	Breaks []Break `json:"breaks"`
	// Compared says that the hashes were compared with those of the system's log.
	Compared bool `json:"compared"`
	// Anchored and Unanchored lines have, and have not, their hash there. A system
	// forgets old ones, and lines that a link handler wrote never go there.
	Anchored   int `json:"anchored"`
	Unanchored int `json:"unanchored"`
}

// Lines is the report for people: the breaks, then what else there is to know,
// then one line with the result.
func (r Report) Lines() []string {
	var out []string
	for _, b := range r.Breaks {
		out = append(out, b.String())
	}
	for _, f := range r.Files {
		if f.EndsTorn {
			out = append(out, f.Name+": it ends in a torn line: a crash, or an agent that is writing now")
		}
		if f.Recovered > 0 {
			out = append(out, fmt.Sprintf("%s: torn lines that were found and kept: %d", f.Name, f.Recovered))
		}
	}
	if r.Compared {
		out = append(out, fmt.Sprintf("in the system's log: %d lines; not, or not any more: %d", r.Anchored, r.Unanchored))
	}
	result := "whole"
	if !r.OK {
		result = "NOT whole: something is missing or was changed"
	}
	return append(out, fmt.Sprintf("%d lines in %d files: %s", r.Total, len(r.Files), result))
}

// FileReport is one file.
type FileReport struct {
	Name  string    `json:"name"`
	Lines int       `json:"lines"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// EndsTorn says that the file ends in half a line: a crash, or an agent that is
	// writing now.
	EndsTorn bool `json:"ends_torn"`
	// Recovered counts torn lines that the program found and went on after.
	Recovered int `json:"recovered"`
}

// Break is a place where the chain does not hold.
type Break struct {
	File string `json:"file"`
	// Line counts from 1; 0 means the file as a whole.
	Line   int    `json:"line"`
	Reason string `json:"reason"`
}

// String is one line for people.
func (b Break) String() string {
	if b.Line == 0 {
		return b.File + ": " + b.Reason
	}
	return fmt.Sprintf("%s, line %d: %s", b.File, b.Line, b.Reason)
}

type placed struct {
	line
	hash   string
	number int
}

// scanned is a file by itself: up to the first fault, every line is the one that
// follows the line before.
type scanned struct {
	name      string
	lines     []placed
	recovered int
	// torn are the bytes after the last line, when they do not end in a newline.
	torn []byte
	// fault is empty for a file that holds together, at line faultAt.
	fault   string
	faultAt int
}

func (s *scanned) fail(number int, reason string) *scanned {
	s.fault, s.faultAt = reason, number
	return s
}

// scan reads the text of a file. It keeps no part of text but torn.
func scan(text []byte) *scanned {
	s := &scanned{}
	if len(text) > maxRead {
		return s.fail(0, "the file is larger than this program writes")
	}
	number := 0
	var bad []byte // the bytes since the last line that is one
	badAt := 0
	for len(text) > 0 {
		number++
		end := bytes.IndexByte(text, '\n')
		if end < 0 {
			// More than one torn line: a crash while the first was being recovered.
			s.torn = text
			if bad != nil {
				s.torn = append(append(bad, '\n'), text...)
			}
			return s
		}
		l, hash, ok := decode(text[:end])
		if !ok {
			if bad == nil {
				badAt = number
				bad = []byte{}
			} else {
				bad = append(bad, '\n')
			}
			bad = append(bad, text[:end]...)
			text = text[end+1:]
			continue
		}
		text = text[end+1:]
		switch {
		case bad != nil && l.Torn != hashOf(bad):
			return s.fail(badAt, "the line was changed")
		case bad == nil && l.Torn != "":
			return s.fail(number, "the torn line before it is missing")
		}
		bad = nil
		if l.Outcome == recovered {
			s.recovered++
		}
		if n := len(s.lines); n > 0 {
			before := s.lines[n-1]
			if l.Previous != before.hash || l.Sequence != before.Sequence+1 || l.After != "" {
				return s.fail(number, "it does not follow the line before")
			}
		}
		s.lines = append(s.lines, placed{l, hash, number})
	}
	if bad != nil {
		return s.fail(badAt, "the line was changed")
	}
	return s
}

// Verify reads every file of a folder and compares the chain, and with a sink
// the hashes that the system's log has. It changes nothing. A missing folder is
// an empty report. The error is for a folder, a file or a sink that cannot be
// read (internal); what the chain says is in the report.
func Verify(dir string, sink Sink) (Report, error) {
	report, err := verify(dir, sink)
	report.OK = err == nil && len(report.Breaks) == 0
	if err != nil {
		return report, problem.New(problem.Internal, fmt.Errorf("verifying the audit: %w", withoutPath(err)))
	}
	return report, nil
}

func verify(dir string, sink Sink) (Report, error) {
	names, err := auditFiles(dir)
	if err != nil {
		return Report{}, err
	}
	files := map[string]*scanned{}
	var through time.Time
	for _, name := range names {
		opened, err := paths.OpenFile(filepath.Join(dir, name), os.O_RDONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed as too old meanwhile
		}
		if err != nil {
			return Report{}, fmt.Errorf("opening a file: %w", err)
		}
		text, err := readBounded(opened)
		_ = opened.Close()
		if err != nil {
			return Report{}, err
		}
		s := scan(text)
		s.name = name
		files[name] = s
		for _, l := range s.lines {
			if t := parseTime(l.Through); t.After(through) {
				through = t
			}
		}
	}
	ordered := make([]*scanned, 0, len(files))
	for _, s := range files {
		ordered = append(ordered, s)
	}
	slices.SortFunc(ordered, func(a, b *scanned) int {
		if c := firstTime(a).Compare(firstTime(b)); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	})
	report := Report{Files: []FileReport{}, Breaks: []Break{}}
	for _, s := range ordered {
		f := FileReport{Name: s.name, Lines: len(s.lines), EndsTorn: s.torn != nil, Recovered: s.recovered}
		if len(s.lines) > 0 {
			f.First, f.Last = s.lines[0].at(), s.lines[len(s.lines)-1].at()
		}
		report.Files = append(report.Files, f)
		report.Total += len(s.lines)
		if b := beginning(s, files, through); b != nil {
			report.Breaks = append(report.Breaks, *b)
		} else if s.fault != "" {
			report.Breaks = append(report.Breaks, Break{s.name, s.faultAt, s.fault})
		}
	}
	if sink != nil {
		if err := compare(&report, sink, ordered, files, through); err != nil {
			return report, err
		}
	}
	return report, nil
}

// firstTime puts files without a whole line last.
func firstTime(s *scanned) time.Time {
	if len(s.lines) == 0 {
		return time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return s.lines[0].at()
}

// beginning checks how a file is tied to the one that was the newest when it was
// begun.
func beginning(s *scanned, files map[string]*scanned, through time.Time) *Break {
	if len(s.lines) == 0 {
		return nil
	}
	first := s.lines[0]
	base, piece, _ := pieceOf(s.name)
	if first.After == "" {
		if first.Sequence != 1 || first.Previous != "" || piece != 1 {
			return &Break{s.name, first.number, "the lines before it are missing"}
		}
		return nil
	}
	before, there := files[first.After]
	if !there {
		if parseTime(first.AfterTime).After(through) {
			return &Break{first.After, 0, "the file is missing, and was not removed as too old"}
		}
		return nil
	}
	at := slices.IndexFunc(before.lines, func(l placed) bool { return l.hash == first.Previous })
	if before.fault != "" {
		return nil // it has a break of its own
	}
	if at < 0 && !parseTime(first.AfterTime).After(through) {
		return nil // another file of that name was removed as too old
	}
	if at < 0 {
		return &Break{first.After, 0, "lines at its end are missing, which " + s.name + " continues"}
	}
	beforeBase, beforePiece, _ := pieceOf(before.name)
	if beforeBase == base && beforePiece == piece-1 && (at != len(before.lines)-1 || first.Sequence != before.lines[at].Sequence+1) {
		return &Break{s.name, first.number, "it does not follow the last line of the file before"}
	}
	return nil
}

// compare holds the files against what the sink has.
func compare(report *Report, sink Sink, ordered []*scanned, files map[string]*scanned, through time.Time) error {
	anchors, err := sink.Anchors()
	if err != nil {
		return fmt.Errorf("reading the system's log: %w", err)
	}
	report.Compared = true
	type place struct {
		file     string
		sequence uint64
	}
	known := map[place][]string{}
	for _, a := range anchors {
		p := place{a.File, a.Sequence}
		known[p] = append(known[p], a.Hash)
	}
	present := map[place]bool{}
	for _, s := range ordered {
		for _, l := range s.lines {
			p := place{s.name, l.Sequence}
			present[p] = true
			switch hashes := known[p]; {
			case slices.Contains(hashes, l.hash):
				report.Anchored++
			case len(hashes) > 0:
				report.Breaks = append(report.Breaks, Break{s.name, l.number, "the system's log has another hash for it"})
			default:
				report.Unanchored++
			}
		}
	}
	// The newest line of each file that the log knows of: it decides whether a
	// missing file was old enough to be removed.
	newest := map[string]Anchor{}
	for _, a := range anchors {
		if n, seen := newest[a.File]; !seen || a.Sequence > n.Sequence {
			newest[a.File] = a
		}
	}
	told := map[string]bool{}
	for _, a := range anchors {
		s, there := files[a.File]
		known := present[place{a.File, a.Sequence}] || there && s.fault != ""
		tooOld := there && !a.At.After(through) || !there && !newest[a.File].At.After(through)
		if told[a.File] || known || tooOld {
			continue
		}
		told[a.File] = true
		reason := "the system's log has hashes for this file, which is missing"
		if there {
			reason = fmt.Sprintf("the system's log has a hash for number %d, which is missing", a.Sequence)
		}
		report.Breaks = append(report.Breaks, Break{a.File, 0, reason})
	}
	return nil
}
