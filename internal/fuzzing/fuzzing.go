// Package fuzzing runs every fuzz target of a Go module and counts: executions,
// inputs that reached something new, and violations of what a target claims. Each
// package's test is built once, with Go's own instrumentation, and then run for one
// target after another, so that nothing has to be compiled between them.
//
// It never judges an input (the targets do), never deletes a corpus, and leaves a
// failing input where Go puts it: testdata/fuzz/<target> of the package.
package fuzzing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Options says what is run and for how long. Zero values mean: Go as "go", every
// target, ten seconds each, one worker, Go's own cache.
type Options struct {
	// Root is the folder that holds go.mod.
	Root string
	// Go is the program that builds the tests.
	Go string
	// Only picks targets by "<package>.<target>"; nil means all.
	Only *regexp.Regexp
	// Time is for each target and round, as -fuzztime of go test takes it: a
	// duration, or a number of executions with an x ("10s", "5000x").
	Time string
	// Least is how many executions every target has at the end; a slow one goes on
	// until it has them.
	Least int64
	// Total is how many executions all targets have together at the end; rounds go
	// on, the target with the least time first, until they are reached.
	Total int64
	// Within is the time after which no further run begins; 0 means no bound. What
	// was not reached is then in Report.Short.
	Within time.Duration
	// Parallel is how many workers fuzz at once.
	Parallel int
	// Earlier are runs whose executions count as well, so that a long run can be
	// made in pieces; their targets stay in the report where Only leaves them out.
	Earlier Report
	// Cache holds the inputs that reached something new; "" is Go's own.
	Cache string
	// Progress gets a line for each run; nil means nowhere.
	Progress io.Writer
	// After is told after each run what was run until then, so that a long run that is
	// ended loses nothing; nil is told nothing. Its error ends the run.
	After func(Report) error
}

// Report is what was run: one row for each target, in the order of their names.
type Report struct {
	Targets    []Target `json:"targets"`
	Executions int64    `json:"executions"`
	// Violations counts the inputs that showed a claim to be wrong.
	Violations int `json:"violations"`
	// Short says in words what of Least and Total was not reached; empty means that
	// all of it was.
	Short string `json:"short,omitempty"`
}

// Target is one fuzz target.
type Target struct {
	// Package is the folder from the root, with slashes ("internal/launch").
	Package string `json:"package"`
	Name    string `json:"target"`
	// Executions are of all runs; those of the committed corpus count as well.
	Executions int64 `json:"executions"`
	// New counts the inputs that reached something that none before them had.
	New     int64   `json:"new_interesting"`
	Seconds float64 `json:"seconds"`
	// Violations are the failures, one for each run that ended with one.
	Violations []Violation `json:"violations"`
}

// Violation is one failure of a target.
type Violation struct {
	// Input is the file with the failing input, from the package's folder; empty
	// when the target failed on a seed or did not end.
	Input string `json:"input,omitempty"`
	// Says is what the target printed, at most 4,000 bytes.
	Says string `json:"says"`
}

func (t Target) String() string { return t.Package + "." + t.Name }

// mostSays is how many bytes of a failure are kept, and slack the time beyond its
// own that a run may take to gather its corpus and to end.
const (
	mostSays = 4000
	slack    = 3 * time.Minute
)

// Run builds and runs. Its error says that something could not be run at all; a
// violation is no error but a row. A context that ends stops the run, and the report
// holds what was counted until then.
func Run(ctx context.Context, o Options) (Report, error) {
	if o.Go == "" {
		o.Go = "go"
	}
	if o.Time == "" {
		o.Time = "10s"
	}
	o.Parallel = max(o.Parallel, 1)
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	r := runner{Options: o, begun: time.Now(), binaries: map[string]string{}}
	var err error
	if r.each, r.times, err = bound(o.Time); err != nil {
		return Report{}, err
	}
	if r.work, err = os.MkdirTemp("", "fuzz"); err != nil {
		return Report{}, fmt.Errorf("making a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(r.work) }()
	if r.Cache == "" {
		out, err := r.output(ctx, r.Root, r.Go, "env", "GOCACHE")
		if err != nil {
			return Report{}, err
		}
		r.Cache = filepath.Join(strings.TrimSpace(out), "fuzz")
	}
	if err := r.find(ctx); err != nil {
		return Report{}, err
	}
	if len(r.rows) == 0 {
		return Report{}, errors.New("no fuzz target was found")
	}
	for ctx.Err() == nil && (o.Within == 0 || time.Since(r.begun) < o.Within) {
		row, amount := r.next()
		if row == nil {
			break
		}
		err := r.run(ctx, row, amount)
		if err == nil && r.After != nil {
			err = r.After(r.report())
		}
		if err != nil {
			return r.report(), err
		}
	}
	return r.report(), ctx.Err()
}

// bound reads a -fuzztime.
func bound(text string) (each time.Duration, times int64, err error) {
	if count, found := strings.CutSuffix(text, "x"); found {
		times, err = strconv.ParseInt(count, 10, 64)
	} else {
		each, err = time.ParseDuration(text)
	}
	if err != nil || each < 0 || times < 0 || each == 0 && times == 0 {
		return 0, 0, fmt.Errorf("%q is neither a duration nor a number of executions (5000x)", text)
	}
	return each, times, nil
}

type runner struct {
	Options
	each     time.Duration
	times    int64
	begun    time.Time
	work     string
	module   string
	binaries map[string]string
	rows     []*row
}

type row struct {
	Target
	folder string
	// once: it has had its time in this run. left: it is not run.
	once, left bool
}

var function = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(\w+ \*testing\.F\)`)

// find lists the targets that are built here: files for other systems and tags are
// not.
func (r *runner) find(ctx context.Context) error {
	out, err := r.output(ctx, r.Root, r.Go, "list", "-json=ImportPath,Dir,Module,TestGoFiles,XTestGoFiles", "./...")
	if err != nil {
		return err
	}
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var p struct {
			ImportPath, Dir           string
			Module                    struct{ Path string }
			TestGoFiles, XTestGoFiles []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("reading the list of packages: %w", err)
		}
		r.module = p.Module.Path
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, p.Module.Path), "/")
		if name == "" {
			name = "."
		}
		for _, file := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				return fmt.Errorf("reading a test: %w", err)
			}
			for _, m := range function.FindAllSubmatch(text, -1) {
				t := Target{Package: name, Name: string(m[1]), Violations: []Violation{}}
				left := r.Only != nil && !r.Only.MatchString(t.String())
				known := false
				for _, earlier := range r.Earlier.Targets {
					if earlier.String() == t.String() {
						t, known = earlier, true
					}
				}
				if !left || known {
					r.rows = append(r.rows, &row{Target: t, folder: p.Dir, left: left})
				}
			}
		}
	}
	slices.SortFunc(r.rows, func(a, b *row) int { return strings.Compare(a.String(), b.String()) })
	return nil
}

// next is whose turn it is and for how long, as -fuzztime; nil when all is done.
func (r *runner) next() (*row, string) {
	var slow, least *row
	var total int64
	for _, row := range r.rows {
		total += row.Executions
		if len(row.Violations) > 0 || row.left {
			continue
		}
		// Where a number is wanted, what earlier runs had of a target's time counts.
		if !row.once && (row.Executions == 0 || r.Least == 0 && r.Total == 0) {
			return row, r.Time
		}
		if row.Executions < r.Least && (slow == nil || row.Executions < slow.Executions) {
			slow = row
		}
		if least == nil || row.Seconds < least.Seconds {
			least = row
		}
	}
	switch {
	case slow != nil:
		// In pieces of half a minute, so that Within holds.
		pace := float64(slow.Executions) / max(slow.Seconds, 0.1)
		return slow, fmt.Sprintf("%dx", min(r.Least-slow.Executions, max(int64(pace*30), 100)))
	case total < r.Total && least != nil:
		return least, r.Time
	}
	return nil, ""
}

var (
	counted = regexp.MustCompile(`execs: (\d+) \([^)]*\)(?:, new interesting: (\d+))?`)
	written = regexp.MustCompile(`Failing input written to (\S+)`)
	ended   = regexp.MustCompile(`^\s*--- FAIL: \w+ \([0-9.]+s\)\n\s+context deadline exceeded\s*$`)
)

// run lets one target run once and adds what it did to its row.
func (r *runner) run(ctx context.Context, row *row, amount string) error {
	binary, err := r.build(ctx, row)
	if err != nil {
		return err
	}
	limit := r.each + slack
	if r.each == 0 || strings.HasSuffix(amount, "x") {
		limit = 30 * time.Minute
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c := exec.CommandContext(bounded, binary, "-test.run=^$", "-test.fuzz=^"+row.Name+"$", "-test.fuzztime="+amount, "-test.fuzzminimizetime=200x",
		"-test.fuzzcachedir="+filepath.Join(r.Cache, filepath.FromSlash(r.module), filepath.FromSlash(row.Package)),
		"-test.parallel="+strconv.Itoa(r.Parallel), "-test.timeout=0")
	c.Dir = row.folder
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	begun := time.Now()
	err = c.Run()
	row.once = true
	row.Seconds += time.Since(begun).Seconds()
	executions, fresh := countOf(out.String())
	row.Executions += executions
	row.New += fresh
	if err != nil && ctx.Err() == nil {
		if v, found := violation(out.String()); found {
			row.Violations = append(row.Violations, v)
		} else if bounded.Err() != nil {
			row.Violations = append(row.Violations, Violation{Says: "it did not end within " + limit.String()})
		}
	}
	fmt.Fprintf(r.Progress, "%-70s %10d executions, %4d new, %.0f s\n", row, executions, fresh, time.Since(begun).Seconds())
	return nil
}

// countOf reads the last line of figures.
func countOf(text string) (executions, fresh int64) {
	for _, m := range counted.FindAllStringSubmatch(text, -1) {
		executions, _ = strconv.ParseInt(m[1], 10, 64)
		if m[2] != "" {
			fresh, _ = strconv.ParseInt(m[2], 10, 64)
		}
	}
	return executions, fresh
}

// violation reads a failure. Go's fuzzing may end its own time with "context
// deadline exceeded" and no input: that is no finding (go.dev/issue/48591).
func violation(text string) (Violation, bool) {
	at := strings.Index(text, "--- FAIL")
	if at < 0 {
		at = max(strings.Index(text, "panic:"), 0)
	}
	says := strings.TrimSuffix(strings.TrimSpace(text[at:]), "FAIL")
	if ended.MatchString(says) {
		return Violation{}, false
	}
	v := Violation{Says: says[:min(len(says), mostSays)]}
	if m := written.FindStringSubmatch(text); m != nil {
		v.Input = filepath.ToSlash(m[1])
	}
	return v, true
}

func (r *runner) build(ctx context.Context, row *row) (string, error) {
	if binary := r.binaries[row.Package]; binary != "" {
		return binary, nil
	}
	binary := filepath.Join(r.work, strings.ReplaceAll(row.Package, "/", "_")+".test")
	if _, err := r.output(ctx, r.Root, r.Go, "test", "-c", "-fuzz=Fuzz", "-o", binary, "./"+row.Package); err != nil {
		return "", err
	}
	r.binaries[row.Package] = binary
	return binary, nil
}

func (r *runner) output(ctx context.Context, folder, program string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, program, args...)
	c.Dir = folder
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, said.String())
	}
	return out.String(), nil
}

func (r *runner) report() Report {
	var all Report
	slow := 0
	for _, row := range r.rows {
		all.Targets = append(all.Targets, row.Target)
		all.Executions += row.Executions
		all.Violations += len(row.Violations)
		if row.Executions < r.Least || row.Executions == 0 && len(row.Violations) == 0 {
			slow++
		}
	}
	switch {
	case slow > 0:
		all.Short = fmt.Sprintf("%d targets have not had their executions yet", slow)
	case all.Executions < r.Total:
		all.Short = fmt.Sprintf("%d of %d executions", all.Executions, r.Total)
	}
	return all
}
