// Package cli is the command line: the verbs, their output and their exit
// status. A verb asks the agent over the control channel or reads what lies on
// this machine; it launches nothing itself.
//
// What stands behind --json is kept stable, because scripts and tests stand on
// it. Exit status: 0 done, 1 a negative answer, 2 bad arguments or refused, 3 no
// agent. Output never holds a link, a URL or a token.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

// The exit statuses (design §11).
const (
	Done     = 0
	Negative = 1
	Refused  = 2
	NoAgent  = 3
)

// Program is what main gives the command line.
type Program struct {
	Layout  paths.Layout
	Version string
	Stdout  io.Writer
	Stderr  io.Writer
	// StartAgent starts the agent detached and returns at once.
	StartAgent func() error
	// StartWindow starts the window's process; its end arrives on the channel.
	StartWindow func(control.Activation) (ended <-chan error, err error)
	// RunWindow is the window role in this process, until the window is closed.
	RunWindow func(ctx context.Context) error
	// Click is the right of the person's click that came with this process.
	Click control.Activation
	// Executable is the path of this program, for the desktop entry.
	Executable string
}

// verbs are the first words of a command line that is not a link.
var verbs = [...]string{
	"agent", "audit", "cancel", "check-link", "completion", "help", "open-recent", "policy", "quit", "recents", "register",
	"retry", "sign-in", "sign-out", "status", "unregister", "version", "window",
	"--help", "-h", "--version", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd,
}

// IsVerb reports whether a command line may begin with the word.
func IsVerb(word string) bool {
	for _, v := range verbs {
		if v == word {
			return true
		}
	}
	return false
}

// CarriesLink reports whether the verb takes a link as its argument.
func CarriesLink(verb string) bool { return verb == "check-link" }

// status is an exit status on its way through cobra. Its text has been printed.
type status int

func (s status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// Run carries out a command line that begins with a verb and returns the exit
// status.
func Run(ctx context.Context, p Program, args []string) int {
	root := p.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var s status
	switch {
	case err == nil:
		return Done
	case errors.As(err, &s):
		return int(s)
	}
	var prob *problem.Problem
	if errors.As(err, &prob) {
		return p.fail(prob)
	}
	// What is left is cobra's own: a flag or an argument that it does not know.
	// Its text may quote the argument, which may be a link.
	fmt.Fprintf(p.Stderr, "The arguments are not ones that this command takes. Run “%s help” to see the commands, or add --help to one of them.\n", p.Layout.Name)
	return Refused
}

// fail prints a problem for people and returns its exit status.
func (p Program) fail(prob *problem.Problem) int {
	PrintProblem(p.Stderr, prob)
	if prob.Code == problem.AgentUnreachable {
		return NoAgent
	}
	return Refused
}

// PrintProblem writes in one line what happened, what to do, and the reference.
func PrintProblem(w io.Writer, p *problem.Problem) {
	PrintRefusal(w, p.Error(), p.Row().NextStep, p.Reference, p.Code)
}

// PrintRefusal is PrintProblem for an answer of the agent, in its language.
func PrintRefusal(w io.Writer, sentence, nextStep, reference string, code problem.Code) {
	fmt.Fprintf(w, "%s %s (%s, reference %s)\n", visible(sentence, 400), visible(nextStep, 400), code, visible(reference, 16))
}

func (p Program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   p.Layout.Name,
		Short: "Opens encounters from the EHR in the browser",
		Long: strings.TrimSpace(`
Encounter Launcher takes you from a button in the EHR to the open encounter.

It runs in the background and is started by the first link. Without a command it
opens its window.`),
		Example: fmt.Sprintf(`  %[1]s status              what is happening now
  %[1]s open-recent --last  reopen the last encounter
  %[1]s policy              what IT has set, and from where`, p.Layout.Name),
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE:              func(cmd *cobra.Command, _ []string) error { return p.window(cmd.Context()) },
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
		Version:           p.Version,
	}
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddGroup(
		&cobra.Group{ID: "daily", Title: "Every day:"},
		&cobra.Group{ID: "it", Title: "For IT and integrators:"},
		&cobra.Group{ID: "parts", Title: "Parts of the program:"},
	)
	for _, c := range []*cobra.Command{
		p.statusCommand(), p.recentsCommand(), p.openRecentCommand(), p.signInCommand(), p.signOutCommand(), p.cancelCommand(), p.retryCommand(), p.quitCommand(),
		p.checkLinkCommand(), p.policyCommand(), p.auditCommand(), p.registerCommand(), p.unregisterCommand(), p.versionCommand(),
		p.agentCommand(), p.windowCommand(),
	} {
		root.AddCommand(c)
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

// asJSON adds the flag --json to a command.
func asJSON(c *cobra.Command) *bool {
	return c.Flags().Bool("json", false, "print JSON for programs (kept stable)")
}

func (p Program) printJSON(v any) error {
	enc := json.NewEncoder(p.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return problem.New(problem.Internal, fmt.Errorf("writing JSON: %w", err))
	}
	return nil
}

// say writes one line for people: no capital initial, no full stop.
func (p Program) say(format string, args ...any) { fmt.Fprintf(p.Stdout, format+"\n", args...) }

// visible makes text from elsewhere safe for a terminal: control and format
// characters are dropped, and it is cut to a width.
func visible(s string, most int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r >= 0x80 && r <= 0x9f || r == 0x61c || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2060 && r <= 0x206f || r == 0xfeff || r >= 0xe0000 && r <= 0xe007f {
			continue
		}
		if n == most {
			b.WriteRune('…')
			break
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}
