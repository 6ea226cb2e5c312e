package cli

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// askTimeout bounds one question to the agent.
const askTimeout = 20 * time.Second

// errStop ends a watch that has seen what it waited for.
var errStop = errors.New("seen")

// dial connects to the agent; the error is agent_unreachable.
func (p Program) dial(ctx context.Context) (*control.Client, error) {
	c, err := control.Dial(ctx, p.Layout)
	if errors.Is(err, control.ErrNoAgent) {
		return nil, problem.With(problem.AgentUnreachable, "It is not running.", err)
	}
	return c, err
}

func (p Program) do(ctx context.Context, i control.Intent) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c, err := p.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	i.Activation = p.Click
	return c.Do(ctx, i)
}

func (p Program) snapshot(ctx context.Context) (view.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c, err := p.dial(ctx)
	if err != nil {
		return view.Snapshot{}, err
	}
	defer c.Close()
	return c.Snapshot(ctx)
}

// statusJSON is the answer of status --json (design §11); fields are only added.
type statusJSON struct {
	Version  string      `json:"version"`
	Agent    string      `json:"agent"`
	SignedIn bool        `json:"signed_in"`
	Person   *personJSON `json:"person"`
	Policy   policyJSON  `json:"policy"`
	Launch   *launchJSON `json:"launch"`
	Recents  int         `json:"recents"`
	// MemoryOnly says that the sign-in ends with the agent; Keyring is the code
	// of what is wrong with the keyring, or empty.
	MemoryOnly bool   `json:"memory_only"`
	Keyring    string `json:"keyring"`
}

type personJSON struct {
	Subject string `json:"subject"`
	Email   string `json:"email"`
}

type policyJSON struct {
	OK       bool     `json:"ok"`
	Problems []string `json:"problems"`
}

type launchJSON struct {
	ID        string           `json:"id"`
	Stage     string           `json:"stage"`
	Code      string           `json:"code"`
	Reference string           `json:"reference"`
	MS        map[string]int64 `json:"ms"`
}

func (p Program) statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "status", Short: "Show what is happening now", GroupID: "daily", Args: cobra.NoArgs,
		Long: "Shows who is signed in, whether policy is in force, and the last launch.\n\nExit status: 0 signed in, 1 not signed in, 3 the agent does not run.",
	}
	js := asJSON(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := p.snapshot(cmd.Context())
		absent := problem.IsCode(err, problem.AgentUnreachable)
		if err != nil && !absent {
			return err
		}
		if *js {
			if err := p.printJSON(p.statusOf(s, absent)); err != nil {
				return err
			}
		} else {
			p.printStatus(s, absent)
		}
		switch {
		case absent:
			return status(NoAgent)
		case s.SignIn.Person == nil:
			return status(Negative)
		}
		return nil
	}
	return c
}

func (p Program) statusOf(s view.Snapshot, absent bool) statusJSON {
	if absent {
		local := p.localPolicy()
		return statusJSON{Version: p.Version, Agent: "absent", Policy: local}
	}
	out := statusJSON{
		Version: s.Version, Agent: "running", SignedIn: s.SignIn.Person != nil, Recents: len(s.Recents),
		Policy:     policyJSON{OK: s.Policy.OK, Problems: s.Policy.Problems},
		MemoryOnly: s.SignIn.MemoryOnly, Keyring: string(s.Keyring.Code),
	}
	if who := s.SignIn.Person; who != nil {
		out.Person = &personJSON{who.Subject, who.Email}
	}
	if l := s.Launch; l != nil {
		out.Launch = &launchJSON{ID: l.ID, Stage: string(l.Stage), MS: make(map[string]int64, len(l.MS))}
		for stage, ms := range l.MS {
			out.Launch.MS[string(stage)] = ms
		}
		if l.Problem != nil {
			out.Launch.Code, out.Launch.Reference = string(l.Problem.Code), l.Problem.Reference
		}
	}
	return out
}

func (p Program) printStatus(s view.Snapshot, absent bool) {
	if absent {
		p.say("not running: the next link starts it")
		for _, problem := range p.localPolicy().Problems {
			p.say("policy: %s", problem)
		}
		return
	}
	p.say("running, version %s", s.Version)
	switch {
	case s.SignIn.Person != nil && s.SignIn.MemoryOnly:
		p.say("signed in as %s, until the program ends", visible(nameOf(s.SignIn.Person), 80))
	case s.SignIn.Person != nil:
		p.say("signed in as %s", visible(nameOf(s.SignIn.Person), 80))
	case s.SignIn.State == view.SigningInNow:
		p.say("signing in: the page is open in the browser")
	default:
		p.say("not signed in")
	}
	if s.Policy.OK {
		p.say("policy is in force")
	}
	for _, problem := range s.Policy.Problems {
		p.say("policy: %s", problem)
	}
	if l := s.Launch; l != nil {
		p.say("last launch: %s, %s ago", l.Stage, time.Since(l.StartedAt).Round(time.Second))
		if l.Problem != nil {
			p.say("  %s\n  %s\n  reference %s (%s)", l.Problem.Sentence, l.Problem.NextStep, l.Problem.Reference, l.Problem.Code)
		}
	}
	p.say("%d recent encounters", len(s.Recents))
}

func nameOf(who *view.Person) string {
	if who.Email != "" {
		return who.Email
	}
	return who.Subject
}

type recentJSON struct {
	ID       string `json:"id"`
	Label    string `json:"label"`
	OpenedAt string `json:"opened_at"`
	Status   string `json:"status"`
}

func (p Program) recentsCommand() *cobra.Command {
	c := &cobra.Command{Use: "recents", Short: "List the recent encounters", GroupID: "daily", Args: cobra.NoArgs,
		Long: "Lists the recent encounters of the person signed in, newest first.\n\nExit status: 0 listed, 1 not signed in, 3 the agent does not run."}
	js := asJSON(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := p.snapshot(cmd.Context())
		absent := problem.IsCode(err, problem.AgentUnreachable)
		if err != nil && (!absent || !*js) {
			return err
		}
		if *js {
			list := []recentJSON{}
			for _, r := range s.Recents {
				list = append(list, recentJSON{r.ID, r.Label, r.OpenedAt.UTC().Format(time.RFC3339), r.Status})
			}
			if err := p.printJSON(list); err != nil {
				return err
			}
		} else {
			p.printRecents(s)
		}
		switch {
		case absent:
			return status(NoAgent)
		case s.SignIn.Person == nil:
			return status(Negative)
		}
		return nil
	}
	return c
}

func (p Program) printRecents(s view.Snapshot) {
	switch {
	case s.SignIn.Person == nil:
		p.say("not signed in: recent encounters belong to a person")
	case len(s.Recents) == 0:
		p.say("no recent encounters")
	default:
		w := tabwriter.NewWriter(p.Stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tOPENED\tLABEL\tSTATUS")
		for _, r := range s.Recents {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", visible(r.ID, 40), r.OpenedAt.Local().Format("2006-01-02 15:04"), visible(r.Label, 60), visible(r.Status, 20))
		}
		_ = w.Flush()
	}
}

func (p Program) openRecentCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "open-recent {ID | --last}", Short: "Open a recent encounter again", GroupID: "daily",
		Long: "Opens a recent encounter again, always through a fresh address.\n\nExit status: 0 under way (with --wait: opened), 1 it failed while --wait waited, 2 refused, 3 the agent does not run.",
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			s, err := p.snapshot(cmd.Context())
			if err != nil || len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var ids []string
			for _, r := range s.Recents {
				ids = append(ids, r.ID+"\t"+visible(r.Label, 40))
			}
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
	}
	last := c.Flags().Bool("last", false, "open the newest one")
	wait := c.Flags().Bool("wait", false, "wait until it is open or has failed")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if *last == (len(args) == 1) {
			return problem.With(problem.RequestInvalid, "Name one recent encounter, or give --last.", nil)
		}
		i := control.Intent{Name: control.OpenRecent, Last: *last}
		if len(args) == 1 {
			i.ID = args[0]
		}
		return p.start(cmd.Context(), i, *wait)
	}
	return c
}

func (p Program) retryCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "retry", Short: "Try the last failed launch again", GroupID: "daily", Args: cobra.NoArgs,
		Long: "Tries the last failed launch again, with the same link.\n\nExit status: 0 under way (with --wait: opened), 1 it failed while --wait waited, 2 nothing to retry, 3 the agent does not run.",
	}
	wait := c.Flags().Bool("wait", false, "wait until it is open or has failed")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.start(cmd.Context(), control.Intent{Name: control.Retry}, *wait)
	}
	return c
}

// start asks for a launch and, with wait, follows it to its end.
func (p Program) start(ctx context.Context, i control.Intent, wait bool) error {
	before, err := p.snapshot(ctx)
	if err != nil {
		return err
	}
	if err := p.do(ctx, i); err != nil || !wait {
		return err
	}
	old := ""
	if before.Launch != nil {
		old = before.Launch.ID
	}
	return p.follow(ctx, func(s view.Snapshot) error {
		l := s.Launch
		if l == nil || l.ID == old || !l.Stage.Over() {
			return nil
		}
		if l.Problem != nil {
			PrintProblem(p.Stderr, problem.Restore(string(l.Problem.Code), l.Problem.Reference, ""))
			return status(Negative)
		}
		p.say("opened")
		return errStop
	})
}

// follow watches snapshots until seen returns an error; errStop is a good end.
func (p Program) follow(ctx context.Context, seen func(view.Snapshot) error) error {
	c, err := p.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	switch err := c.Watch(ctx, seen); {
	case errors.Is(err, errStop):
		return nil
	case err == nil:
		return problem.New(problem.Cancelled, ctx.Err())
	default:
		return err
	}
}

func (p Program) signInCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "sign-in", Short: "Sign in with the browser", GroupID: "daily", Args: cobra.NoArgs,
		Long: "Opens the organisation's sign-in page and waits until somebody has signed in.\nPress Ctrl-C to cancel.\n\nExit status: 0 signed in, 1 it did not work or was cancelled, 2 refused, 3 the agent does not run.",
	}
	noWait := c.Flags().Bool("no-wait", false, "return as soon as the page opens")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		s, err := p.snapshot(ctx)
		if err != nil {
			return err
		}
		if s.SignIn.State == view.SignedIn {
			p.say("signed in as %s", visible(nameOf(s.SignIn.Person), 80))
			return nil
		}
		if err := p.do(ctx, control.Intent{Name: control.SignIn}); err != nil || *noWait {
			return err
		}
		p.say("the sign-in page opens in the browser; press Ctrl-C to cancel")
		begun := false
		err = p.follow(ctx, func(s view.Snapshot) error {
			switch {
			case s.SignIn.State == view.SignedIn:
				p.say("signed in as %s", visible(nameOf(s.SignIn.Person), 80))
				return errStop
			case s.SignIn.State == view.SigningInNow:
				begun = true
			case begun && s.SignIn.Problem != nil:
				PrintProblem(p.Stderr, problem.Restore(string(s.SignIn.Problem.Code), s.SignIn.Problem.Reference, ""))
				return status(Negative)
			case begun:
				PrintProblem(p.Stderr, problem.New(problem.SigninCancelled, nil))
				return status(Negative)
			}
			return nil
		})
		if ctx.Err() != nil {
			_ = p.do(context.WithoutCancel(ctx), control.Intent{Name: control.Cancel})
			PrintProblem(p.Stderr, problem.New(problem.SigninCancelled, nil))
			return status(Negative)
		}
		return err
	}
	return c
}

func (p Program) signOutCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "sign-out", Short: "Sign out", GroupID: "daily", Args: cobra.NoArgs,
		Long: "Signs out, revokes the sign-in where the organisation's service can, and deletes it from the keyring.\n\nExit status: 0 signed out, 3 the agent does not run.",
	}
	all := c.Flags().Bool("all", false, "also wipe the recent encounters of everybody who signed in here")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.do(cmd.Context(), control.Intent{Name: control.SignOut, All: *all})
	}
	return c
}

func (p Program) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cancel", Short: "Cancel the running launch or sign-in", GroupID: "daily", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.do(cmd.Context(), control.Intent{Name: control.Cancel})
		},
	}
}

func (p Program) quitCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "quit", Short: "End the agent", GroupID: "daily", Args: cobra.NoArgs,
		Long: "Ends the agent; the next link starts it again. You stay signed in.\n\nExit status: 0 ended, 3 the agent does not run.",
	}
	all := c.Flags().Bool("all-sessions", false, "end the agents of all sessions of this machine that you may end")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.do(cmd.Context(), control.Intent{Name: control.Quit, All: *all})
	}
	return c
}
