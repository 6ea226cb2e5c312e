// Package cli is the command line: the verbs, their output and their exit
// status. A verb asks the agent over the control channel or reads what lies on
// this machine; it launches nothing itself.
//
// What stands behind --json is kept stable, because scripts and tests stand on
// it. Exit status: 0 done, 1 a negative answer, 2 bad arguments or refused, 3 no
// agent. Output never holds a link, a URL or a token, and never repeats an
// argument.
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
	"encounterlauncher/internal/tokenstore"
	"encounterlauncher/internal/view"
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
	// Stdin is where proxy-credential reads from; nil is the process's own.
	Stdin io.Reader
	// Keyring is where proxy-credential stores; nil is the system's.
	Keyring tokenstore.Keyring
	// StartAgent starts the agent detached and returns at once.
	StartAgent func() error
	// StartWindow starts the window's process and returns when it shows its page or
	// cannot; its end arrives on the channel.
	StartWindow func(ctx context.Context, click control.Activation) (ended <-chan error, err error)
	// RunWindow is the window role in this process, until the window is closed.
	RunWindow func(ctx context.Context) error
	// Click is the right of the person's click that came with this process.
	Click control.Activation
	// Executable is the path of this program, for the desktop entry.
	Executable string
}

// agentVerb is how the agent is started.
const agentVerb = "agent"

// verbs are the first words of a command line that is not a link.
var verbs = [...]string{
	agentVerb, "audit", "browser-policy", "cancel", "check-link", "completion", "doctor", "fresh-link", "help", "open-recent", "policy", "proxy-credential", "quit", "recents", "register",
	"retry", "settings", "sign-in", "sign-out", "status", "unregister", "version", "window",
	"--help", "-h", "--version", "-v", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd,
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

// CarriesLink reports whether a command line that begins with the verb may hold
// a link, or web addresses: check-link does, browser-policy, and so does a shell
// that completes them.
func CarriesLink(verb string) bool {
	return verb == checkLink || verb == browserPolicy || verb == cobra.ShellCompRequestCmd || verb == cobra.ShellCompNoDescRequestCmd
}

// status is an exit status on its way through cobra. Its text has been printed.
type status int

func (s status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// usage is a command line that its command does not take. Its text is a sentence
// of this program: cobra's own would quote the argument, which may be a link.
type usage string

func (u usage) Error() string { return string(u) }

// Run carries out a command line that begins with a verb and returns the exit
// status.
func Run(ctx context.Context, p Program, args []string) int {
	if len(args) == 1 && args[0] == agentVerb {
		// The one command line that a link waits for: it needs no tree of commands.
		if err := p.agent(ctx); err != nil {
			prob := problem.Of(err)
			PrintProblem(p.Stderr, prob)
			return exitOf(prob)
		}
		return Done
	}
	letExplorerIn()
	root := p.root()
	root.SetArgs(dashed(args))
	command, err := root.ExecuteContextC(ctx)
	var s status
	var prob *problem.Problem
	var u usage
	switch {
	case err == nil:
		return Done
	case errors.As(err, &s):
		return int(s)
	case errors.As(err, &prob):
		PrintProblem(p.Stderr, prob)
		return exitOf(prob)
	case !errors.As(err, &u):
		u = "The arguments are not ones that this command takes."
	}
	next := fmt.Sprintf("Run “%s --help” to see how it is called.", command.CommandPath())
	if command == root || command.Name() == "help" {
		next = fmt.Sprintf("Run “%s help” to see the commands.", p.Layout.Name)
	}
	fmt.Fprintf(p.Stderr, "%s %s (%s)\n", u, next, problem.RequestInvalid)
	return Refused
}

func exitOf(p *problem.Problem) int {
	if p.Code == problem.AgentUnreachable {
		return NoAgent
	}
	return Refused
}

// dashed moves what is a link although it begins with a dash behind a “--”, so
// that check-link judges it instead of taking it for a flag.
func dashed(args []string) []string {
	if len(args) == 0 || args[0] != checkLink {
		return args
	}
	var before, links []string
	for i, arg := range args {
		switch {
		case arg == "--":
			return args
		case strings.HasPrefix(arg, "-") && strings.Contains(arg, ":"):
			links = append(links, arg)
		default:
			before = append(before, args[i])
		}
	}
	if len(links) == 0 {
		return args
	}
	return append(append(before, "--"), links...)
}

// PrintProblem writes in one line what happened, what to do, and the reference.
func PrintProblem(w io.Writer, p *problem.Problem) {
	PrintRefusal(w, p.Error(), p.Row().NextStep, p.Reference, p.Code)
}

// PrintRefusal is PrintProblem for an answer of the agent, in its language.
func PrintRefusal(w io.Writer, sentence, nextStep, reference string, code problem.Code) {
	fmt.Fprintln(w, oneLine(view.Problem{Code: code, Sentence: sentence, NextStep: nextStep, Reference: reference}))
}

// oneLine is a problem as a line of a terminal.
func oneLine(p view.Problem) string {
	return fmt.Sprintf("%s %s (%s, reference %s)", view.Inert(p.Sentence, 400), view.Inert(p.NextStep, 400), view.Inert(string(p.Code), 40), view.Inert(p.Reference, 16))
}

// Commands returns the tree of all commands, for what is written from it: manual
// pages and completions. It runs nothing. Only Run knows what to do with the errors
// of its commands.
func Commands(p Program) *cobra.Command { return p.root() }

func (p Program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   p.Layout.Name,
		Short: "Opens encounters from the EHR in the browser",
		Long: `Encounter Launcher takes you from a button in the EHR to the open encounter.

It runs in the background and is started by the first link. Without a command it
opens its window.

Exit status of every command: 0 done, 1 a negative answer, 2 bad arguments or
refused, 3 the agent does not run.`,
		Example: fmt.Sprintf(`  %[1]s status              what is happening now
  %[1]s open-recent --last  reopen the last encounter
  %[1]s policy              what IT has set, and from where`, p.Layout.Name),
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
	}
	// Cobra's own flag for the version brings a language of templates along, for whose
	// sake the linker keeps everything that is never called.
	version := root.Flags().BoolP("version", "v", false, "print the version")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *version {
			p.say("%s", p.Version)
			return nil
		}
		return p.window(cmd.Context())
	}
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	root.AddGroup(
		&cobra.Group{ID: "daily", Title: "Every day:"},
		&cobra.Group{ID: "it", Title: "For IT and integrators:"},
		&cobra.Group{ID: "parts", Title: "Parts of the program:"},
	)
	root.AddCommand(
		p.statusCommand(), p.recentsCommand(), p.openRecentCommand(), p.signInCommand(), p.signOutCommand(), p.cancelCommand(), p.retryCommand(), p.freshLinkCommand(), p.settingsCommand(), p.quitCommand(),
		p.checkLinkCommand(), p.policyCommand(), p.doctorCommand(), p.browserPolicyCommand(), p.proxyCredentialCommand(), p.auditCommand(), p.registerCommand(), p.unregisterCommand(), p.versionCommand(),
		p.agentCommand(), p.windowCommand(),
	)
	p.settle(root)
	root.SetHelpCommand(helpCommand())
	root.SetHelpCommandGroupID("parts")
	root.SetCompletionCommandGroupID("parts")
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil && c.RunE == nil {
		// Without this a shell that cobra does not know would be shown the help, as
		// if all were well.
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	return root
}

// settle makes every command's end one that Run knows: an exit status, wrong
// usage, or a problem, which with --json is an answer in JSON too.
func (p Program) settle(c *cobra.Command) {
	for _, sub := range c.Commands() {
		p.settle(sub)
	}
	run := c.RunE
	c.RunE = func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		var s status
		var u usage
		if err == nil || errors.As(err, &s) || errors.As(err, &u) {
			return err
		}
		prob := problem.Of(err)
		if js, err := cmd.Flags().GetBool("json"); err == nil && js {
			_ = p.printJSON(view.Problem{Code: prob.Code, Sentence: prob.Error(), NextStep: prob.Row().NextStep, Reference: prob.Reference})
		}
		return prob
	}
}

// helpCommand replaces cobra's, which repeats a word that it does not know and
// ends as if all were well.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Show how a command is used",
		Long: "Shows how a command is used, and its exit status.\n\nExit status: 0 shown, 2 there is no such command.",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			about, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) == 0 {
				for _, c := range about.Commands() {
					if c.IsAvailableCommand() || c == cmd {
						names = append(names, c.Name()+"\t"+c.Short)
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usage("There is no such command.")
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
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
