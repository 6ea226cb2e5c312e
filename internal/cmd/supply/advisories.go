package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// asking is one question to a database of advisories.
type asking struct {
	stdout, stderr io.Writer
	// now is what the last day of an accepted advisory is compared with.
	now func() time.Time
	// tool is govulncheck as module path and version.
	tool     string
	database string
	// registry of npm; empty for the one that npm is set to.
	registry string
	report   string
	packages []string
}

// unasked is the error where a database, or the tool that asks it, was not to be had.
// It means that nothing is known.
type unasked struct{ what, why string }

func (u *unasked) Error() string {
	return u.what + ": NOT CHECKED, nothing is claimed: " + u.why
}

// advisory is one that concerns us.
type advisory struct {
	ID     string `json:"id"`
	Module string `json:"module"`
	Detail string `json:"detail"`
	// Reached says that our code calls what is vulnerable, or that it is of the pages.
	Reached bool `json:"reached"`
	// Accepted is the reason of build/supply/rules.json, empty where there is none.
	Accepted string `json:"accepted,omitempty"`
	// near is how near it comes to our code, the nearest the highest.
	near int
}

// patience is how long a database may take to answer at first.
const patience = 20 * time.Second

// scan is one build of ours whose calls are looked through.
type scan struct {
	name, tags string
	env        []string
	packages   []string
}

// scans are the builds of the Makefile: what is compiled differs.
var scans = []scan{
	{"Linux", "", []string{"GOOS=linux", "CGO_ENABLED=0"}, []string{"./..."}},
	{"Linux, window", "desktop,production,webkit2_41", []string{"GOOS=linux", "CGO_ENABLED=1"}, []string{"."}},
	{"Windows", "desktop,production,wv2runtime.error", []string{"GOOS=windows", "CGO_ENABLED=0"}, []string{"./..."}},
	{"Windows, console", "console", []string{"GOOS=windows", "CGO_ENABLED=0"}, []string{"."}},
}

// vulncheck fails where a build of ours calls what an advisory is about.
func (a asking) vulncheck(t *tree) error {
	const what = "vulncheck"
	modified, err := a.reachable()
	if err != nil {
		return a.end(what, nil, &unasked{what, "the database of advisories of Go cannot be reached (" + err.Error() + ")"})
	}
	binary, err := a.install(t)
	if err != nil {
		return a.end(what, nil, &unasked{what, err.Error()})
	}
	defer os.RemoveAll(filepath.Dir(binary))
	todo := scans
	if a.packages != nil {
		todo = []scan{{"Linux", "", []string{"GOOS=linux", "CGO_ENABLED=0"}, a.packages}}
	}
	found := map[string]advisory{}
	for _, s := range todo {
		out, err := t.output(append(s.env, "GOFLAGS=-mod=readonly"), binary, append([]string{"-db=" + a.database, "-format=json", "-tags=" + s.tags}, s.packages...)...)
		if err != nil {
			return a.end(what, nil, fmt.Errorf("%s: the check of %s failed: %w", what, s.name, err))
		}
		if err := findings(out, found); err != nil {
			return a.end(what, nil, fmt.Errorf("%s: reading what it found in %s: %w", what, s.name, err))
		}
	}
	var all []advisory
	for _, f := range found {
		all = append(all, f)
	}
	return a.judge(t, what, all, fmt.Sprintf("%d builds against the database of %s", len(todo), modified))
}

// reachable asks the database when it was changed, as govulncheck does first.
func (a asking) reachable() (modified string, err error) {
	at, err := url.Parse(a.database)
	if err != nil {
		return "", errors.New("its address cannot be read")
	}
	var data []byte
	if at.Scheme == "file" {
		if data, err = os.ReadFile(filepath.Join(filepath.FromSlash(at.Path), "index", "db.json")); err != nil {
			return "", errors.New("its folder has no index/db.json")
		}
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.database+"/index/db.json", nil)
		if err != nil {
			return "", errors.New("its address cannot be read")
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return "", errors.New("no connection")
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return "", fmt.Errorf("it answers %d", answer.StatusCode)
		}
		if data, err = io.ReadAll(io.LimitReader(answer.Body, 1<<20)); err != nil {
			return "", errors.New("its answer broke off")
		}
	}
	var index struct{ Modified time.Time }
	if err := json.Unmarshal(data, &index); err != nil || index.Modified.IsZero() {
		return "", errors.New("what answers is no database of advisories")
	}
	return index.Modified.Format(time.DateOnly), nil
}

// install builds govulncheck into a folder of its own.
func (a asking) install(t *tree) (string, error) {
	folder, err := os.MkdirTemp("", "supply-")
	if err != nil {
		return "", err
	}
	if _, err := t.output([]string{"GOBIN=" + folder, "GOFLAGS=-mod=mod"}, "go", "install", a.tool); err != nil {
		os.RemoveAll(folder)
		return "", fmt.Errorf("%s cannot be had: %w", a.tool, err)
	}
	path, _, _ := strings.Cut(a.tool, "@")
	return filepath.Join(folder, path[strings.LastIndex(path, "/")+1:]), nil
}

// findings adds what govulncheck says as a stream of JSON. A finding of which it shows
// a function is one that is called.
func findings(out string, found map[string]advisory) error {
	for dec := json.NewDecoder(strings.NewReader(out)); ; {
		var message struct {
			Finding *struct {
				OSV   string
				Trace []struct{ Module, Version, Package, Function string }
			}
		}
		if err := dec.Decode(&message); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		f := message.Finding
		if f == nil || len(f.Trace) == 0 {
			continue
		}
		at := f.Trace[0]
		a := advisory{ID: f.OSV, Module: at.Module, near: 1, Detail: at.Module + " " + at.Version + ": required, none of its vulnerable packages is used"}
		switch {
		case at.Function != "":
			a.near, a.Reached, a.Detail = 3, true, at.Module+" "+at.Version+": "+at.Package+"."+at.Function+" is called"
		case at.Package != "":
			a.near, a.Detail = 2, at.Module+" "+at.Version+": "+at.Package+" is linked, and what is vulnerable in it is not called"
		}
		if a.near > found[a.ID].near {
			found[a.ID] = a
		}
	}
}

// npmAudit fails where an advisory concerns a package of the lock file.
func (a asking) npmAudit(t *tree) error {
	const what = "npm-audit"
	args := []string{"audit", "--json", "--package-lock-only", "--fetch-retries=0", "--fetch-timeout=20000"}
	if a.registry != "" {
		args = append(args, "--registry="+a.registry)
	}
	cmd := exec.Command("npm", args...)
	cmd.Dir = filepath.Join(t.root, "frontend")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		return a.end(what, nil, &unasked{what, "npm cannot be started"})
	}
	var answer struct {
		AuditReportVersion int
		Vulnerabilities    map[string]struct {
			Severity string
			Via      []json.RawMessage
		}
		Metadata struct {
			Dependencies struct{ Total int }
		}
	}
	// npm ends with 1 both where it found something and where it could not ask: only
	// what it says tells them apart.
	if err := json.Unmarshal(out, &answer); err != nil || answer.AuditReportVersion == 0 || answer.Vulnerabilities == nil {
		return a.end(what, nil, &unasked{what, "the registry of npm does not answer about advisories (" + reason(out) + ")"})
	}
	if answer.Metadata.Dependencies.Total == 0 {
		return a.end(what, nil, errors.New(what+": the lock file has no packages, so nothing was checked"))
	}
	inPages := map[string]bool{}
	if pages, err := t.bundled(); err == nil {
		for _, p := range pages {
			inPages[p.name] = true
		}
	} else {
		fmt.Fprintln(a.stderr, what+": what of it is in the pages is not known:", err)
	}
	var all []advisory
	for name, v := range answer.Vulnerabilities {
		for _, via := range v.Via {
			var of struct{ URL, Title, Range string }
			if json.Unmarshal(via, &of) != nil || of.URL == "" {
				continue // a name: concerned through that other package, which has a row of its own
			}
			where := "in tools and tests"
			if inPages[name] {
				where = "IN THE PAGES"
			}
			all = append(all, advisory{ID: of.URL[strings.LastIndex(of.URL, "/")+1:], Module: name, Reached: true,
				Detail: fmt.Sprintf("%s %s (%s, %s): %s", name, of.Range, v.Severity, where, of.Title)})
		}
	}
	if ended != nil && len(all) == 0 {
		return a.end(what, nil, fmt.Errorf("%s: npm failed and names no advisory", what))
	}
	return a.judge(t, what, all, fmt.Sprintf("%d packages of the lock file", answer.Metadata.Dependencies.Total))
}

// reason says in few words why npm could not ask. Its own words name addresses.
func reason(out []byte) string {
	var failed struct {
		StatusCode int
		Error      struct{ Code string }
	}
	if json.Unmarshal(out, &failed) == nil {
		if failed.StatusCode != 0 {
			return fmt.Sprintf("it answers %d", failed.StatusCode)
		}
		if failed.Error.Code != "" {
			return failed.Error.Code
		}
	}
	return "no connection, or no answer of its kind"
}

// judge holds what was found against what is accepted.
func (a asking) judge(t *tree, what string, all []advisory, checked string) error {
	slices.SortFunc(all, func(x, y advisory) int { return strings.Compare(x.ID+x.Module, y.ID+y.Module) })
	reached := 0
	met := map[string]bool{}
	for i := range all {
		f := &all[i]
		for _, rule := range t.rules.Advisories {
			if rule.ID != f.ID {
				continue
			}
			met[rule.ID] = true
			if a.now().UTC().Format(time.DateOnly) <= rule.Until {
				f.Accepted = rule.Why
			}
		}
		mark := "not reached"
		if f.Reached && f.Accepted == "" {
			reached++
			mark = "FOUND"
		} else if f.Accepted != "" {
			mark = "accepted"
		}
		fmt.Fprintf(a.stdout, "  %-12s %s %s\n", mark, f.ID, f.Detail)
	}
	if reached > 0 {
		return a.end(what, all, fmt.Errorf("%s: %d advisories concern us (%s)", what, reached, checked))
	}
	if err := a.end(what, all, nil); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "%s: no advisory concerns us (%s; %d known and not reached or accepted)\n", what, checked, len(all))
	return nil
}

// end writes the report, whatever the end is, and returns the end.
func (a asking) end(what string, all []advisory, end error) error {
	if a.report == "" {
		return end
	}
	state := "nothing found"
	var unknown *unasked
	switch {
	case errors.As(end, &unknown):
		state = "not checked"
	case len(all) > 0 && end != nil:
		state = "found"
	case end != nil:
		state = "failed"
	}
	if all == nil {
		all = []advisory{}
	}
	report := map[string]any{"part": what, "state": state, "advisories": all}
	if end != nil {
		report["says"] = end.Error()
	}
	data, err := json.MarshalIndent(report, "", "  ")
	if err == nil {
		err = os.WriteFile(a.report, append(data, '\n'), 0o644)
	}
	return errors.Join(end, err)
}
