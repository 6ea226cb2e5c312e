// supply tells what is in the artefacts of a release, under which licences, and what
// is known against it: it reads finished programs and packages and writes notices,
// bills of materials (CycloneDX 1.6) and reports.
//
// It changes no artefact and decides nothing by itself: which licences may be in a
// product, and which advisories are accepted, stands in build/supply. Where a database
// of advisories cannot be asked it says so, and never that nothing was found.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// notChecked is how the process ends when a database could not be asked (EX_TEMPFAIL
// of sysexits.h): neither well nor found.
const notChecked = 75

func main() {
	err := command(os.Stdout).Execute()
	var unknown *unasked
	switch {
	case errors.As(err, &unknown):
		fmt.Println(err)
		os.Exit(notChecked)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// moment is SOURCE_DATE_EPOCH: what is written bears no time of its own.
func moment() (time.Time, error) {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return time.Time{}, errors.New("SOURCE_DATE_EPOCH is not set to a number of seconds")
	}
	return time.Unix(seconds, 0).UTC(), nil
}

func command(stdout io.Writer) *cobra.Command {
	var root, rules string
	c := &cobra.Command{Use: "supply", Short: "What is in the artefacts, under which licences, and what is known against it", SilenceUsage: true, SilenceErrors: true}
	c.PersistentFlags().StringVar(&root, "root", ".", "folder of the tree")
	c.PersistentFlags().StringVar(&rules, "rules", "build/supply/rules.json", "what may be in a product, and which advisories are accepted")
	open := func() (*tree, error) {
		read, err := readRules(rules)
		if err != nil {
			return nil, err
		}
		full, err := filepath.Abs(root)
		return &tree{root: full, rules: read}, err
	}

	licences := &cobra.Command{
		Use: "licences FILE…", Short: "Hold the licences of everything in programs and packages against the list of those allowed", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := open()
			if err != nil {
				return err
			}
			return reportLicences(stdout, t, args)
		},
	}

	var of, form string
	notices := &cobra.Command{
		Use: "notices PROGRAM…", Short: "Print the licences of everything that programs contain, with their texts", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := open()
			if err != nil {
				return err
			}
			parts, err := t.partsOf(args)
			if err != nil {
				return err
			}
			text, err := noticesOf(of, form, parts)
			if err != nil {
				return err
			}
			_, err = io.WriteString(stdout, text)
			return err
		},
	}
	notices.Flags().StringVar(&of, "of", "Encounter Launcher", "what contains them, for the first line")
	notices.Flags().StringVar(&form, "form", "text", "text; windows: with the ends of line of Windows; or debian: stanzas for debian/copyright, where common licences are named and not repeated")

	var version, into string
	sbom := &cobra.Command{
		Use: "sbom FILE…", Short: "Write the bill of materials of programs and packages, beside each or into a folder", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := open()
			if err != nil {
				return err
			}
			at, err := moment()
			if err != nil {
				return err
			}
			return writeBills(stdout, t, version, at, into, args)
		},
	}
	sbom.Flags().StringVar(&version, "version", "", "version of the artefacts")
	sbom.Flags().StringVar(&into, "into", "", "folder for them, with one folder below it for each platform; beside the artefact when empty")
	if err := sbom.MarkFlagRequired("version"); err != nil {
		panic(err)
	}

	verify := &cobra.Command{
		Use: "verify FILE SBOM", Short: "Say whether a bill of materials is valid and is that of this file", Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := verify(root, args[0], args[1]); err != nil {
				return fmt.Errorf("%s: %w", filepath.Base(args[1]), err)
			}
			fmt.Fprintf(stdout, "%s is that of %s\n", filepath.Base(args[1]), filepath.Base(args[0]))
			return nil
		},
	}

	ask := asking{stdout: stdout, stderr: os.Stderr, now: time.Now}
	vulnerable := &cobra.Command{
		Use: "vulncheck", Short: "Ask Go's database of advisories about what the programs call", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			t, err := open()
			if err != nil {
				return err
			}
			return ask.vulncheck(t)
		},
	}
	vulnerable.Flags().StringVar(&ask.tool, "tool", "", "govulncheck, as module path and version")
	vulnerable.Flags().StringVar(&ask.database, "db", "https://vuln.go.dev", "address of the database; file: for a folder")
	vulnerable.Flags().StringSliceVar(&ask.packages, "packages", nil, "these packages, for Linux, instead of every program")
	vulnerable.Flags().StringVar(&ask.report, "report", "", "file for what was found, as JSON")
	if err := vulnerable.MarkFlagRequired("tool"); err != nil {
		panic(err)
	}
	audit := &cobra.Command{
		Use: "npm-audit", Short: "Ask the npm registry for advisories about everything in the front end's lock file", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			t, err := open()
			if err != nil {
				return err
			}
			return ask.npmAudit(t)
		},
	}
	audit.Flags().StringVar(&ask.registry, "registry", "", "address of the registry; npm's own setting when empty")
	audit.Flags().StringVar(&ask.report, "report", "", "file for what was found, as JSON")

	c.AddCommand(licences, notices, sbom, verify, vulnerable, audit)
	return c
}
