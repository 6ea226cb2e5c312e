package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"

	"encounterlauncher/internal/scheme"
)

// Fixed is one thing that Fix did, or that it leaves to somebody else. Its sentences
// are English, as the command line is.
type Fixed struct {
	// Check is the check that found it.
	Check string `json:"check"`
	// Done says that it is repaired.
	Done bool `json:"done"`
	// Sentence says what was done, or what is left and to whom; lower case, without a
	// full stop.
	Sentence string `json:"sentence"`
}

// Fix repairs what is safe to repair without asking anybody: this user's registration
// for the links, and who may enter the program's own folders. It changes nothing of the
// machine's, of the policy or of other programs, and says of everything else that is
// wrong that it is left.
func Fix(ctx context.Context, d Deps, results []Result) []Fixed {
	var all []Fixed
	for _, r := range results {
		if r.State != Warning && r.State != Broken {
			continue
		}
		switch {
		case r.Name == "scheme":
			all = append(all, d.fixScheme()...)
		case r.Name == "files" && has(r, "open_to_others"):
			all = append(all, d.fixFolder())
		case ctx.Err() == nil:
			all = append(all, Fixed{Check: r.Name, Sentence: "not repaired by this program: see its next step"})
		}
	}
	return all
}

// FixAndLook is Fix, and then makes anew the checks of what was repaired, in the world
// that anew returns. The other results are those of before: nothing was changed that
// they saw.
func FixAndLook(ctx context.Context, d Deps, anew func() Deps, results []Result) ([]Result, []Fixed) {
	fixed := Fix(ctx, d, results)
	var repaired []string
	for _, f := range fixed {
		if f.Done && !slices.Contains(repaired, f.Check) {
			repaired = append(repaired, f.Check)
		}
	}
	if len(repaired) == 0 {
		return results, fixed
	}
	results = slices.Clone(results)
	for _, seen := range Run(ctx, anew(), repaired, nil) {
		results[slices.IndexFunc(results, func(r Result) bool { return r.Name == seen.Name })] = seen
	}
	return results, fixed
}

func has(r Result, code string) bool {
	for _, f := range r.Findings {
		if f.Code == code {
			return true
		}
	}
	return false
}

func (d Deps) fixScheme() []Fixed {
	did, err := scheme.Repair(d.Layout, d.Executable)
	var all []Fixed
	for _, sentence := range did {
		all = append(all, Fixed{Check: "scheme", Done: true, Sentence: (&world{Deps: d}).shown(sentence)})
	}
	if err != nil {
		all = append(all, Fixed{Check: "scheme", Sentence: "another program's registration, or the machine's, is in the way: left to IT"})
	} else if len(did) == 0 {
		all = append(all, Fixed{Check: "scheme", Sentence: "nothing of this user's is left to repair: see its next step"})
	}
	return all
}

// fixFolder closes the state folder to others. A folder of somebody else cannot be
// changed, and a link in its place is not followed.
func (d Deps) fixFolder() Fixed {
	dir := d.Layout.StateDir()
	left := Fixed{Check: "files", Sentence: "the state folder is not this user's own: left to IT"}
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() {
		return left
	}
	if err := closeFolder(dir); err != nil {
		return left
	}
	if _, err := d.Layout.EnsureStateDir(); err != nil {
		return left
	}
	return Fixed{Check: "files", Done: true, Sentence: "closed the state folder to other users"}
}

// closeFolder opens before it changes, so that what is changed is what was looked at.
func closeFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	now, err := os.Lstat(dir)
	if err != nil || !os.SameFile(info, now) {
		return errors.Join(err, fs.ErrInvalid)
	}
	return f.Chmod(0o700)
}
