package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/doctor"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/text"
)

func (p Program) doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "doctor", Short: "Examine this computer, and pack up what support needs", GroupID: "it", Args: cobra.NoArgs,
		Long: `Looks at everything on this computer that opening an encounter depends on, and says
of each thing that is wrong what it is and what to do. It opens nothing, signs nobody
in, sends no token, and ends within ten seconds whatever can be reached.

With --fix it repairs what is safe: this user's registration for the links, and who may
enter the program's folders. It says what it leaves to IT.

With --bundle it writes a zip file for support. No patient, link, token or person is in
it; README.txt inside says what is.

Exit status: 0 all is well, 1 there are warnings, 2 something is broken, or the
arguments are bad.`,
		Example: fmt.Sprintf("  %[1]s doctor\n  %[1]s doctor --only tls,proxy\n  %[1]s doctor --json | jq -r .result\n  %[1]s doctor --bundle support.zip", p.Layout.Name),
	}
	js := asJSON(c)
	lines := c.Flags().Bool("json-lines", false, "print each check as a line of JSON as it ends")
	only := c.Flags().StringSlice("only", nil, "the checks to make: "+strings.Join(doctor.Names(), ", "))
	fix := c.Flags().Bool("fix", false, "repair what is safe to repair, and look at that again")
	bundle := c.Flags().String("bundle", "", "write a zip file for support")
	force := c.Flags().Bool("force", false, "replace the file of --bundle where there is one")
	_ = c.RegisterFlagCompletionFunc("only", cobra.FixedCompletions(doctor.Names(), cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("bundle", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault))
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		changed := cmd.Flags().Changed
		switch {
		case slices.ContainsFunc(*only, func(name string) bool { return !doctor.Known(name) }), changed("only") && len(*only) == 0:
			return usage("The checks are " + strings.Join(doctor.Names(), ", ") + ".")
		case *js && *lines:
			return usage("Give one of --json and --json-lines.")
		case changed("bundle") && *bundle == "":
			return usage("Name the file of --bundle.")
		case *force && *bundle == "":
			return usage("Give --force together with --bundle.")
		}
		return p.examine(cmd.Context(), examination{*js, *lines, *only, *fix, *bundle, *force})
	}
	return c
}

// examination is what a person asked of the doctor.
type examination struct {
	json, lines bool
	only        []string
	fix         bool
	bundle      string
	force       bool
}

func (p Program) examine(ctx context.Context, e examination) error {
	words := text.For(text.English)
	if _, err := os.Lstat(e.bundle); e.bundle != "" && err == nil && !e.force {
		return p.existing(doctor.ErrExists) // before the checks take their time
	}
	d := doctor.Real(p.Layout, p.Version, p.Executable)
	quiet := e.json || e.lines
	var printed func(doctor.Result)
	switch {
	case e.lines:
		if err := p.line(planOf(planned(e.only))); err != nil {
			return err
		}
		printed = func(r doctor.Result) { _ = p.line(doctor.Detailed(r, words)) }
	case !quiet && !e.fix:
		// In the order in which they are listed: what ends early waits for its turn.
		printed = p.inOrder(e.only, words)
	}
	results := doctor.Run(ctx, d, e.only, printed)
	var fixed []doctor.Fixed
	if e.fix {
		anew := func() doctor.Deps { return doctor.Real(p.Layout, p.Version, p.Executable) }
		results, fixed = doctor.FixAndLook(ctx, d, anew, results)
		if !quiet {
			ordered := p.inOrder(e.only, words)
			for _, r := range results {
				ordered(r)
			}
		}
	}
	report := doctor.Summarise(d, results, words)
	report.Fixes = fixed
	switch {
	case e.json:
		if err := p.printJSON(report); err != nil {
			return err
		}
	case e.lines:
		if err := p.line(endLine{report.Version, report.At.Format("2006-01-02T15:04:05Z07:00"), report.Result, report.Fixes}); err != nil {
			return err
		}
	default:
		p.summary(report)
	}
	if e.bundle != "" {
		if err := p.bundle(d, e, results, quiet); err != nil {
			return err
		}
	}
	switch report.Result {
	case doctor.Warnings:
		return status(Negative)
	case doctor.IsBroken:
		return status(Refused)
	}
	return nil
}

// planLine is the first line of --json-lines, endLine the last.
type planLine struct {
	Plan []string `json:"plan"`
	// Groups are those of the checks of Plan.
	Groups []string `json:"groups"`
}

func planOf(names []string) planLine {
	plan := planLine{Plan: names}
	for _, c := range doctor.Checks() {
		if slices.Contains(names, c.Name) {
			plan.Groups = append(plan.Groups, c.Group)
		}
	}
	return plan
}

type endLine struct {
	Version string         `json:"version"`
	At      string         `json:"at"`
	Result  string         `json:"result"`
	Fixes   []doctor.Fixed `json:"fixes,omitempty"`
}

func (p Program) line(v any) error {
	enc := json.NewEncoder(p.Stdout)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return problem.New(problem.Internal, fmt.Errorf("writing JSON: %w", err))
	}
	return nil
}

func (p Program) bundle(d doctor.Deps, e examination, results []doctor.Result, quiet bool) error {
	_, err := doctor.WriteBundle(e.bundle, e.force, d, results)
	switch {
	case errors.Is(err, doctor.ErrExists):
		return p.existing(err)
	case err != nil:
		return problem.With(problem.RequestInvalid, "The file of --bundle cannot be written.", err)
	}
	if !quiet {
		p.say("\nwrote the file for support: look at its README.txt before you send it")
	}
	return nil
}

func (p Program) existing(err error) error {
	return problem.With(problem.RequestInvalid, "The file of --bundle exists already; --force replaces it.", err)
}

// marks are how a terminal shows a state, without colours: the words carry it too.
var marks = map[doctor.State]string{doctor.OK: "ok     ", doctor.Skipped: "skipped", doctor.Warning: "warning", doctor.Broken: "BROKEN "}

// planned are the checks that will be made, in their order.
func planned(only []string) []string {
	return slices.DeleteFunc(doctor.Names(), func(name string) bool { return len(only) > 0 && !slices.Contains(only, name) })
}

// inOrder prints each result as soon as all before it have been printed.
func (p Program) inOrder(only []string, words text.Catalogue) func(doctor.Result) {
	names := planned(only)
	waiting := map[string]doctor.Result{}
	return func(r doctor.Result) {
		waiting[r.Name] = r
		for len(names) > 0 {
			next, ok := waiting[names[0]]
			if !ok {
				return
			}
			names = names[1:]
			printCheck(p.Stdout, doctor.Describe(next, words))
		}
	}
}

// terminalWidth is what every terminal has.
const terminalWidth = 80

func printCheck(w io.Writer, c doctor.Check) {
	fmt.Fprintf(w, "%s  %s (%s)\n", marks[c.State], c.Title, c.Name)
	for _, f := range c.Findings {
		printWrapped(w, "         ", f.Sentence)
		if f.NextStep != "" {
			printWrapped(w, "         → ", f.NextStep)
		}
	}
}

// printWrapped breaks a sentence between words; a word that is longer than the line
// stays whole, so that a path can be copied. Further lines stand below the first.
func printWrapped(w io.Writer, indent, sentence string) {
	line, width := indent, utf8.RuneCountInString(indent)
	start := width
	for _, word := range strings.Fields(sentence) {
		n := utf8.RuneCountInString(word)
		if width > start && width+1+n > terminalWidth {
			fmt.Fprintln(w, line)
			line, width = strings.Repeat(" ", start), start
		}
		if width > start {
			line, width = line+" ", width+1
		}
		line, width = line+word, width+n
	}
	fmt.Fprintln(w, line)
}

func (p Program) summary(r doctor.Report) {
	count := map[doctor.State]int{}
	for _, c := range r.Checks {
		count[c.State]++
	}
	if len(r.Fixes) > 0 {
		p.say("")
		for _, f := range r.Fixes {
			mark := "left   "
			if f.Done {
				mark = "fixed  "
			}
			fmt.Fprintf(p.Stdout, "%s  %s: ", mark, f.Check)
			fmt.Fprintln(p.Stdout, f.Sentence)
		}
	}
	p.say("\n%d checks: %d ok, %d skipped, %d with warnings, %d broken", len(r.Checks), count[doctor.OK], count[doctor.Skipped], count[doctor.Warning], count[doctor.Broken])
}
