package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// text is a licence, or a notice that has to go along with it.
type text struct {
	// file is its path in the module or package, with slashes.
	file string
	body string
	// notice says that it is no licence but goes along with one: NOTICE, PATENTS.
	notice bool
}

// rules are what was decided about parts of others; build/supply/rules.json holds them.
type rules struct {
	// Licences may be in a product.
	Licences []allowed `json:"licences"`
	// Clarified are parts whose texts nobody but a person can judge.
	Clarified []clarified `json:"clarified"`
	// Advisories are known and accepted for a while.
	Advisories []accepted `json:"advisories"`

	// met are the licences and clarifications that a part had.
	met map[string]bool
}

type allowed struct {
	// ID is the identifier of SPDX.
	ID  string `json:"id"`
	Why string `json:"why"`
}

type clarified struct {
	Name    string `json:"name"`
	Licence string `json:"licence"`
	// Until ends the part of the text that counts, where it is not empty.
	Until string `json:"until,omitempty"`
	Why   string `json:"why"`
}

type accepted struct {
	ID  string `json:"id"`
	Why string `json:"why"`
	// Until is the last day on which it is accepted, as 2026-12-31.
	Until string `json:"until"`
}

func readRules(path string) (rules, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return rules{}, err
	}
	r := rules{met: map[string]bool{}}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return rules{}, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	for _, a := range r.Licences {
		if a.ID == "" || a.Why == "" {
			return rules{}, fmt.Errorf("%s: a licence has no identifier or no reason", filepath.Base(path))
		}
	}
	for _, c := range r.Clarified {
		if c.Name == "" || c.Licence == "" || c.Why == "" {
			return rules{}, fmt.Errorf("%s: a clarification has no name, licence or reason", filepath.Base(path))
		}
	}
	for _, a := range r.Advisories {
		if a.ID == "" || a.Why == "" || a.Until == "" {
			return rules{}, fmt.Errorf("%s: an accepted advisory has no identifier, reason or last day", filepath.Base(path))
		}
	}
	return r, nil
}

var (
	licenceFile = regexp.MustCompile(`(?i)^(un)?(licen[cs]e|copying|copyright)s?([._-].*)?$`)
	noticeFile  = regexp.MustCompile(`(?i)^(notice|patents)([._-].*)?$`)
	source      = regexp.MustCompile(`(?i)\.(go|js|mjs|ts|json|sh|py|tmpl)$`)
)

// textsBetween returns the licences and notices in a part's root and in every folder
// from there down to those that are used. A part that brings none is an error.
func textsBetween(root string, used []string) ([]text, error) {
	folders := map[string]bool{root: true}
	for _, folder := range used {
		for ; folder != root && strings.HasPrefix(folder, root+string(filepath.Separator)); folder = filepath.Dir(folder) {
			folders[folder] = true
		}
	}
	var texts []text
	for folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			notice := noticeFile.MatchString(e.Name())
			if !e.Type().IsRegular() || source.MatchString(e.Name()) || !notice && !licenceFile.MatchString(e.Name()) {
				continue
			}
			body, err := os.ReadFile(filepath.Join(folder, e.Name()))
			if err != nil {
				return nil, err
			}
			name, err := filepath.Rel(root, filepath.Join(folder, e.Name()))
			if err != nil {
				return nil, err
			}
			texts = append(texts, text{file: filepath.ToSlash(name), body: plain(string(body)), notice: notice})
		}
	}
	slices.SortFunc(texts, func(a, b text) int { return strings.Compare(a.file, b.file) })
	return texts, nil
}

// plain is a text with the ends of line of Unix and nothing behind its lines.
func plain(s string) string {
	s = strings.ReplaceAll(strings.TrimPrefix(s, "\ufeff"), "\r\n", "\n")
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \t\r\f")
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n") + "\n"
}

// sureness is how much of a text, in per cent of its words, must be known licences: the
// rest is a title and whose copyright it is.
const sureness = 75

// judge finds the licence of a part by its texts and holds it against the rules.
func (r *rules) judge(p *part) error {
	var said *clarified
	for i, c := range r.Clarified {
		if c.Name == p.name {
			said = &r.Clarified[i]
			r.met[c.Name] = true
		}
	}
	var found []string
	licences := 0
	for i := range p.texts {
		t := &p.texts[i]
		if t.notice {
			continue
		}
		licences++
		if said != nil {
			if said.Until != "" {
				body, _, ok := strings.Cut(t.body, said.Until)
				if !ok {
					return fmt.Errorf("%s: %s does not have the line %q, so nobody has judged it", p.name, t.file, said.Until)
				}
				t.body = plain(body)
			}
			continue
		}
		cover := licensecheck.Scan([]byte(t.body))
		var here []string
		for _, m := range cover.Match {
			if !m.IsURL {
				here = append(here, m.ID)
			}
		}
		if cover.Percent < sureness || len(here) == 0 {
			return fmt.Errorf("%s %s: %s is not known for certain (%.0f %% of it is %s): judge it in build/supply/rules.json", p.name, p.version, t.file, cover.Percent, expression(here...))
		}
		found = append(found, here...)
	}
	if licences == 0 {
		return fmt.Errorf("%s %s has no licence", p.name, p.version)
	}
	p.licence = expression(found...)
	if said != nil {
		p.licence = said.Licence
	}
	for _, id := range identifiers(p.licence) {
		if !slices.ContainsFunc(r.Licences, func(a allowed) bool { return a.ID == id }) {
			return fmt.Errorf("%s %s is under %s, which build/supply/rules.json does not allow", p.name, p.version, id)
		}
		r.met[id] = true
	}
	return nil
}

// expression joins licences that all hold (SPDX 2.3, annex D).
func expression(some ...string) string {
	var ids []string
	for _, s := range some {
		ids = append(ids, identifiers(s)...)
	}
	slices.Sort(ids)
	return strings.Join(slices.Compact(ids), " AND ")
}

func identifiers(licence string) []string {
	if licence == "" {
		return nil
	}
	return strings.Split(licence, " AND ")
}

// stale are the rules that nothing needs any more.
func (r *rules) stale() (names []string) {
	for _, a := range r.Licences {
		if !r.met[a.ID] {
			names = append(names, a.ID)
		}
	}
	for _, c := range r.Clarified {
		if !r.met[c.Name] {
			names = append(names, c.Name)
		}
	}
	return names
}

// reportLicences prints for each artefact how many parts are under which licence, and
// fails where a rule is broken or nobody needs it any more.
func reportLicences(w io.Writer, t *tree, paths []string) error {
	var all []program
	for _, path := range paths {
		p, err := t.read(path)
		if err != nil {
			return err
		}
		all = append(all, p)
		fmt.Fprintf(w, "%-14s %-28s %3d parts: %s\n", p.platform, filepath.Base(path), len(p.parts), counted(p.parts))
	}
	parts := together(all)
	fmt.Fprintf(w, "%-14s %-28s %3d parts: %s\n", "all", "", len(parts), counted(parts))
	if stale := t.rules.stale(); len(stale) > 0 {
		return errors.New("build/supply/rules.json has what no part needs: " + strings.Join(stale, ", "))
	}
	fmt.Fprintf(w, "licences: all of %d parts are allowed\n", len(parts))
	return nil
}

// counted says how many parts are under which licence, the most frequent first.
func counted(parts []part) string {
	count := map[string]int{}
	var names []string
	for _, p := range parts {
		if count[p.licence]++; count[p.licence] == 1 {
			names = append(names, p.licence)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if count[a] != count[b] {
			return count[b] - count[a]
		}
		return strings.Compare(a, b)
	})
	for i, n := range names {
		names[i] = fmt.Sprintf("%d %s", count[n], n)
	}
	return strings.Join(names, ", ")
}
