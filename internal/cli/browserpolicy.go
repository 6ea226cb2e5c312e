package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/browserpolicy"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

// browserFile is one policy in the answer of browser-policy --json.
type browserFile struct {
	Browser string   `json:"browser"`
	Name    string   `json:"name"`
	Place   string   `json:"place"`
	Text    string   `json:"text"`
	Notes   []string `json:"notes"`
}

// browserPolicy is the verb that takes web addresses.
const browserPolicy = "browser-policy"

func (p Program) browserPolicyCommand() *cobra.Command {
	c := &cobra.Command{
		Use: browserPolicy + " --ehr-origin URL…", Short: "Print the browsers' policy for the EHR's links and the microphone", GroupID: "it", Args: cobra.NoArgs,
		Long:    "Prints managed policy for Chrome, Edge, Chromium and Firefox: links that come from the\nEHR's pages open without a question, and encounter pages on the hosts of\nEncounterURLHosts may use the microphone. Several browsers are printed with a heading\neach; one alone is ready for its file. What to heed goes to the standard error.\n\nExit status: 0 printed or written, 2 refused: an origin that is none, no encounter hosts,\nor a file that exists.",
		Example: fmt.Sprintf("  %[1]s browser-policy --ehr-origin https://ehr.hospital.example --browser chromium\n  %[1]s browser-policy --ehr-origin https://ehr.hospital.example --format reg --out policies", p.Layout.Name),
	}
	js := asJSON(c)
	origins := c.Flags().StringArray("ehr-origin", nil, "an origin of the EHR's pages, such as https://ehr.hospital.example; may be repeated")
	hosts := c.Flags().StringArray("encounter-host", nil, "a host of the encounter pages, in the place of EncounterURLHosts; may be repeated")
	browser := c.Flags().String("browser", "all", "chrome, edge, chromium, firefox or all")
	format := c.Flags().String("format", string(browserFormat), "json (files for Linux) or reg (a registry file for Windows)")
	out := c.Flags().String("out", "", "write the files into this folder instead of printing them")
	force := c.Flags().Bool("force", false, "with --out: replace files that exist")
	_ = c.RegisterFlagCompletionFunc("browser", cobra.FixedCompletions([]string{"all", "chrome", "edge", "chromium", "firefox"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"json", "reg"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.MarkFlagDirname("out")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		browsers := browserpolicy.Browsers()
		if *browser != "all" {
			if !slices.Contains(browsers, browserpolicy.Browser(*browser)) {
				return usage("The browsers are chrome, edge, chromium, firefox and all.")
			}
			browsers = []browserpolicy.Browser{browserpolicy.Browser(*browser)}
		}
		in := browserpolicy.Format(*format)
		switch {
		case in != browserpolicy.JSON && in != browserpolicy.Reg:
			return usage("The formats are json and reg.")
		case len(*origins) == 0:
			return usage("Name the origin of the EHR's pages by --ehr-origin.")
		case *force && *out == "":
			return usage("--force goes with --out.")
		}
		what, err := p.browserPolicyFor(*origins, *hosts)
		if err != nil {
			return err
		}
		files := browserpolicy.Files(what, browsers, in)
		if *out != "" {
			if err := writeAll(*out, files, *force); err != nil {
				return err
			}
		}
		if *js {
			answer := []browserFile{}
			for _, f := range files {
				answer = append(answer, browserFile{string(f.Browser), f.Name, f.Place, string(f.Text), append([]string{}, f.Notes...)})
			}
			return p.printJSON(answer)
		}
		var said []string
		for _, f := range files {
			switch {
			case *out != "" && f.Place != "":
				p.say("%s is written: it belongs to %s", f.Name, f.Place)
			case *out != "":
				p.say("%s is written: import it on Windows as administrator", f.Name)
			case len(files) > 1:
				p.say("# %s: %s", f.Browser, f.Place)
				fallthrough
			default:
				_, _ = p.Stdout.Write(f.Text)
			}
			for _, note := range f.Notes {
				if !slices.Contains(said, note) {
					said = append(said, note)
					fmt.Fprintln(p.Stderr, note)
				}
			}
		}
		return nil
	}
	return c
}

// browserPolicyFor checks what is to be allowed. Hosts that are given stand in the place of
// those of the policy in force.
func (p Program) browserPolicyFor(origins, hosts []string) (browserpolicy.What, error) {
	what := browserpolicy.What{Scheme: p.Layout.Scheme(), Hosts: hosts, Demo: p.Layout.IsDemo()}
	for _, origin := range origins {
		if err := browserpolicy.CheckOrigin(origin, what.Demo); err != nil {
			return what, err
		}
		if !slices.Contains(what.Origins, origin) {
			what.Origins = append(what.Origins, origin)
		}
	}
	if len(hosts) == 0 {
		// Policy has checked them, by its own stricter rules.
		what.Hosts = policy.Load(p.Layout).EncounterURLHosts
	}
	if len(what.Hosts) == 0 {
		return what, problem.With(problem.PolicyMissing, "EncounterURLHosts is not in force here: set it, or name the hosts by --encounter-host.", errors.New("no hosts for the microphone"))
	}
	for _, host := range what.Hosts {
		if err := browserpolicy.CheckHost(host, what.Demo); err != nil {
			return what, err
		}
	}
	return what, nil
}

// writeAll writes every file or, when one exists and may not be replaced, none.
func writeAll(dir string, files []browserpolicy.File, force bool) error {
	trouble := func(fact string, err error) error { return problem.With(problem.RequestInvalid, fact, err) }
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return trouble("The folder cannot be made.", err)
	}
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.Name)); !errors.Is(err, fs.ErrNotExist) && !force {
			return trouble(f.Name+" is there already, and nothing was written: add --force to replace it.", errors.New("a file that exists"))
		}
	}
	for _, f := range files {
		// Whole or not at all, and never through a link that somebody has laid there.
		next, err := os.CreateTemp(dir, ".browser-policy-*")
		if err != nil {
			return trouble("The folder cannot be written to.", err)
		}
		_, err = next.Write(f.Text)
		if err = errors.Join(err, next.Chmod(0o644), next.Close()); err == nil {
			err = os.Rename(next.Name(), filepath.Join(dir, f.Name))
		}
		if err != nil {
			_ = os.Remove(next.Name())
			return trouble(f.Name+" cannot be written.", err)
		}
	}
	return nil
}
