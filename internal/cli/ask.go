package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/agent"
	"encounterlauncher/internal/control"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// askTimeout bounds one question to the agent.
const askTimeout = 20 * time.Second

// completeTimeout bounds what a person waits for after a Tab.
const completeTimeout = time.Second

// quitTimeout is how long an agent may take to end: longer than it takes at most
// (agent.EndsWithin), so that none which still stores a token counts as left.
const quitTimeout = 10 * time.Second

// beginTimeout is how long the agent may take to begin a sign-in that it took on.
const beginTimeout = 2 * time.Second

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
		Long:    "Shows whether the agent runs, who is signed in, whether policy is in force, and\nwhat became of the last launch. It never starts the agent.\n\nExit status: 0 signed in, 1 not signed in, 3 the agent does not run.",
		Example: fmt.Sprintf("  %[1]s status\n  %[1]s status --json | jq .launch.stage", p.Layout.Name),
	}
	js := asJSON(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := p.snapshot(cmd.Context())
		absent := errors.Is(err, control.ErrNoAgent)
		if err != nil && !absent && !*js {
			return err
		}
		if *js {
			if err := p.printJSON(p.statusOf(s, err != nil)); err != nil {
				return err
			}
		} else {
			p.printStatus(s, absent)
		}
		switch {
		case absent:
			return status(NoAgent)
		case err != nil:
			return told(p.Stderr, err)
		case s.SignIn.Person == nil:
			return status(Negative)
		}
		return nil
	}
	return c
}

// told prints a problem beside an answer that has been given already.
func told(w io.Writer, err error) error {
	prob := problem.Of(err)
	PrintProblem(w, prob)
	return status(exitOf(prob))
}

func (p Program) statusOf(s view.Snapshot, absent bool) statusJSON {
	if absent {
		local := p.localPolicy()
		return statusJSON{Version: p.Version, Agent: "absent", Policy: local}
	}
	out := statusJSON{
		Version: s.Version, Agent: "running", SignedIn: s.SignIn.Person != nil, Recents: len(s.Recents),
		Policy:     policyJSON{OK: s.Policy.OK, Problems: append([]string{}, s.Policy.Problems...)},
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
	w := tabwriter.NewWriter(p.Stdout, 0, 4, 3, ' ', 0)
	defer w.Flush()
	row := func(name, format string, args ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", args...) }
	policy := policyJSON{s.Policy.OK, s.Policy.Problems}
	if absent {
		row("agent", "not running: the next link starts it")
		policy = p.localPolicy()
	} else {
		row("agent", "running, version %s", view.Inert(s.Version, 40))
		row("person", "%s", personLine(s.SignIn))
	}
	if policy.OK {
		row("policy", "in force")
	}
	for i, sentence := range policy.Problems {
		name := ""
		if i == 0 {
			name = "policy"
		}
		row(name, "%s", view.Inert(sentence, 400))
	}
	if absent {
		return
	}
	if code := s.Keyring.Code; code != "" {
		about := problem.Restore(string(code), "", "").Row()
		row("keyring", "%s %s (%s)", about.Sentence, about.NextStep, about.Code)
	}
	if in := s.SignIn.Problem; in != nil && s.SignIn.State == view.SignedOut {
		row("sign-in", "%s", oneLine(*in))
	}
	switch l := s.Launch; {
	case l == nil:
		row("launch", "none yet")
	default:
		row("launch", "%s, %s", stageWord(l.Stage), since(time.Since(l.StartedAt), l.StartedAt))
		if l.Problem != nil {
			row("", "%s", oneLine(*l.Problem))
		}
	}
	row("recents", "%d", len(s.Recents))
}

func personLine(in view.SignIn) string {
	switch {
	case in.Person != nil && in.MemoryOnly:
		return view.Inert(nameOf(in.Person), 80) + ", signed in until the agent ends"
	case in.Person != nil:
		return view.Inert(nameOf(in.Person), 80)
	case in.State == view.SigningInNow:
		return "signing in: the page is open in the browser"
	default:
		return "nobody is signed in"
	}
}

func stageWord(s view.Stage) string {
	if s == view.SigningIn {
		return "signing in"
	}
	return view.Inert(string(s), 20)
}

// since says how long ago something was, and from an hour on when it was.
func since(d time.Duration, at time.Time) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", max(int(d.Seconds()), 0))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	default:
		return "at " + at.Local().Format(dateAndTime)
	}
}

const dateAndTime = "2006-01-02 15:04"

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
	c := &cobra.Command{
		Use: "recents", Short: "List the recent encounters, or remove them", GroupID: "daily", Args: cobra.NoArgs,
		Long:    "Lists the recent encounters of the person who is signed in, newest first.\n\nExit status: 0 listed, 1 not signed in, 3 the agent does not run.",
		Example: fmt.Sprintf("  %[1]s recents\n  %[1]s recents --json | jq -r '.[0].id'\n  %[1]s recents remove ID", p.Layout.Name),
	}
	c.AddCommand(p.removeRecentCommand(), p.clearRecentsCommand(), p.undoRemoveCommand())
	js := asJSON(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := p.snapshot(cmd.Context())
		if err != nil && !*js {
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
		case err != nil:
			return told(p.Stderr, err)
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
		p.say("nobody is signed in: recent encounters belong to a person")
	case len(s.Recents) == 0:
		p.say("no recent encounters")
	default:
		w := tabwriter.NewWriter(p.Stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tOPENED\tLABEL\tSTATUS")
		for _, r := range s.Recents {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", view.Inert(r.ID, 40), r.OpenedAt.Local().Format(dateAndTime), view.Inert(r.Label, 60), view.Inert(r.Status, 20))
		}
		_ = w.Flush()
	}
}

func (p Program) removeRecentCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove ID", Short: "Take one encounter out of the recent ones", Args: cobra.ExactArgs(1),
		Long:              "Takes one encounter out of the recent ones of the person who is signed in, at once.\nThe ids are those that “recents” shows. For half a minute “recents undo” brings it\nback.\n\nExit status: 0 removed, 2 refused, 3 the agent does not run.",
		ValidArgsFunction: p.completeRecent,
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" {
				return usage("Name one recent encounter by its id.")
			}
			return p.ask(cmd.Context(), control.Intent{Name: control.RemoveRecent, ID: args[0]}, "removed")
		},
	}
}

func (p Program) clearRecentsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "clear", Short: "Remove all recent encounters", Args: cobra.NoArgs,
		Long: "Removes all recent encounters of the person who is signed in, at once. For half a\nminute “recents undo” brings them back.\n\nExit status: 0 removed, or there were none, 2 refused, 3 the agent does not run.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.ask(cmd.Context(), control.Intent{Name: control.ClearRecents}, "removed")
		},
	}
}

func (p Program) undoRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "undo", Short: "Bring back what was removed last", Args: cobra.NoArgs,
		Long: "Brings back what “recents remove” or “recents clear” removed last, within half a\nminute and as long as nobody signed out.\n\nExit status: 0 brought back, 2 there is nothing to bring back, 3 the agent does not\nrun.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.ask(cmd.Context(), control.Intent{Name: control.UndoRemove}, "brought back")
		},
	}
}

// completeRecent offers the ids of the recent encounters for the only argument.
func (p Program) completeRecent(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	// Without an agent there is nothing to offer, and a Tab starts none.
	s, err := p.snapshot(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	for _, r := range s.Recents {
		ids = append(ids, view.Inert(r.ID, 128)+"\t"+r.OpenedAt.Local().Format("15:04 ")+view.Inert(r.Label, 40))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

func (p Program) openRecentCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "open-recent {ID | --last}", Short: "Open a recent encounter again", GroupID: "daily",
		Long:              "Opens a recent encounter again, always through a fresh address. The ids are those\nthat “recents” shows.\n\nExit status: 0 under way (with --wait: opened), 1 it failed or was cancelled while\n--wait waited, 2 refused, 3 the agent does not run.",
		Example:           fmt.Sprintf("  %s open-recent --last --wait", p.Layout.Name),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: p.completeRecent,
	}
	last := c.Flags().Bool("last", false, "open the newest one")
	wait := c.Flags().Bool("wait", false, "wait until it is open or has failed; Ctrl-C cancels it")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if *last == (len(args) == 1) {
			return usage("Name one recent encounter by its id, or give --last.")
		}
		i := control.Intent{Name: control.OpenRecent, Last: *last}
		if len(args) == 1 {
			i.ID = args[0]
		}
		if !*last && i.ID == "" {
			return usage("Name one recent encounter by its id, or give --last.")
		}
		return p.start(cmd.Context(), i, *wait, func(view.Snapshot) bool { return true })
	}
	return c
}

func (p Program) retryCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "retry", Short: "Try the last failed launch again", GroupID: "daily", Args: cobra.NoArgs,
		Long: "Tries the last failed launch again, with the same link: nothing has to be done in\nthe EHR again while the link lives.\n\nExit status: 0 under way (with --wait: opened), 1 it failed or was cancelled while\n--wait waited, 2 there is nothing to try again, 3 the agent does not run.",
	}
	wait := c.Flags().Bool("wait", false, "wait until it is open or has failed; Ctrl-C cancels it")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.start(cmd.Context(), control.Intent{Name: control.Retry}, *wait, func(before view.Snapshot) bool {
			return before.Launch != nil && before.Launch.Reopen
		})
	}
	return c
}

// start asks for a launch and, with wait, follows it to its end. reopens says by
// the snapshot before whether the launch will be one from the recents.
func (p Program) start(ctx context.Context, i control.Intent, wait bool, reopens func(before view.Snapshot) bool) error {
	before, err := p.snapshot(ctx)
	if err != nil {
		return err
	}
	// A Ctrl-C before the answer must not leave open whether there is a launch.
	if err := p.do(context.WithoutCancel(ctx), i); err != nil || !wait {
		return err
	}
	reopen, old := reopens(before), ""
	// One that still runs may be the very launch that this one was joined to.
	if before.Launch != nil && before.Launch.Stage.Over() {
		old = before.Launch.ID
	}
	err = p.follow(ctx, func(s view.Snapshot) error {
		l := s.Launch
		if l == nil || l.ID == old || l.Reopen != reopen || !l.Stage.Over() {
			return nil
		}
		if l.Problem != nil {
			fmt.Fprintln(p.Stderr, oneLine(*l.Problem))
			return status(Negative)
		}
		p.say("opened")
		return errStop
	})
	if ctx.Err() != nil {
		return p.cancelled(ctx, problem.Cancelled)
	}
	return err
}

// cancelled ends what this command waited for after a Ctrl-C.
func (p Program) cancelled(ctx context.Context, code problem.Code) error {
	// It may have ended meanwhile, and then there is nothing to cancel.
	_ = p.do(context.WithoutCancel(ctx), control.Intent{Name: control.Cancel})
	PrintProblem(p.Stderr, problem.New(code, ctx.Err()))
	return status(Negative)
}

// follow watches snapshots until seen returns an error; errStop is a good end,
// and so is the end of ctx.
func (p Program) follow(ctx context.Context, seen func(view.Snapshot) error) error {
	c, err := p.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.Watch(ctx, seen)
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

func (p Program) signInCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "sign-in", Short: "Sign in with the browser", GroupID: "daily", Args: cobra.NoArgs,
		Long: "Opens the organisation's sign-in page in the browser and waits until somebody has\nsigned in. Press Ctrl-C to cancel.\n\nExit status: 0 signed in, 1 it did not work or was cancelled, 2 refused, 3 the agent\ndoes not run.",
	}
	noWait := c.Flags().Bool("no-wait", false, "return as soon as the page opens")
	c.RunE = func(cmd *cobra.Command, _ []string) error { return p.signIn(cmd.Context(), *noWait) }
	return c
}

func (p Program) signIn(ctx context.Context, noWait bool) error {
	before, err := p.snapshot(ctx)
	if err != nil {
		return err
	}
	if before.SignIn.Person != nil {
		p.say("signed in as %s", view.Inert(nameOf(before.SignIn.Person), 80))
		return nil
	}
	// A Ctrl-C before the answer must not leave open whether there is a page.
	if err := p.do(context.WithoutCancel(ctx), control.Intent{Name: control.SignIn}); err != nil {
		return err
	}
	p.say("the sign-in page opens in the browser")
	if noWait {
		return nil
	}
	p.say("waiting for the sign-in; press Ctrl-C to cancel")
	begun, seen, old := false, false, ""
	if before.SignIn.Problem != nil {
		old = before.SignIn.Problem.Reference
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	// One that somebody else cancelled at once may never be seen to begin.
	begins := time.AfterFunc(beginTimeout, stop)
	defer begins.Stop()
	err = p.follow(watching, func(s view.Snapshot) error {
		switch in := s.SignIn; {
		case in.Person != nil:
			seen = true
			p.say("signed in as %s", view.Inert(nameOf(in.Person), 80))
			return errStop
		case in.State == view.SigningInNow:
			begun = true
			begins.Stop()
		// A sign-in that failed at once may never have been seen to begin.
		case in.Problem != nil && (begun || in.Problem.Reference != old):
			fmt.Fprintln(p.Stderr, oneLine(*in.Problem))
			return status(Negative)
		case begun:
			PrintProblem(p.Stderr, problem.New(problem.SigninCancelled, nil))
			return status(Negative)
		}
		return nil
	})
	switch {
	case ctx.Err() != nil && !seen:
		return p.cancelled(ctx, problem.SigninCancelled)
	case watching.Err() != nil && !seen && err == nil:
		PrintProblem(p.Stderr, problem.New(problem.SigninCancelled, nil))
		return status(Negative)
	}
	return err
}

func (p Program) signOutCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "sign-out", Short: "Sign out", GroupID: "daily", Args: cobra.NoArgs,
		Long:    "Signs out: revokes the sign-in where the organisation's service can, and deletes it\nfrom the keyring. Signing out when nobody is signed in is no error. Where no agent\nruns it does all that by itself, and starts none. It needs no display.\n\nExit status: 0 signed out, 1 no agent runs and the keyring cannot be reached, so a\nsign-in may still be stored, 2 refused.",
		Example: fmt.Sprintf("  %[1]s sign-out\n  %[1]s sign-out --all    # when a badge leaves its reader", p.Layout.Name),
	}
	all := c.Flags().Bool("all", false, "also wipe the recent encounters of everybody who signed in here, and on a shared\ncomputer close the window")
	c.RunE = func(cmd *cobra.Command, _ []string) error { return p.signOut(cmd.Context(), *all) }
	return c
}

func (p Program) signOut(ctx context.Context, all bool) error {
	err := p.ask(ctx, control.Intent{Name: control.SignOut, All: all}, "signed out")
	if !errors.Is(err, control.ErrNoAgent) {
		return err
	}
	switch err := agent.SignOut(ctx, agent.Options{Layout: p.Layout, Version: p.Version}, all); {
	case problem.IsCode(err, problem.KeyringUnavailable):
		PrintProblem(p.Stderr, problem.Of(err))
		return status(Negative)
	case err != nil:
		return err
	}
	p.say("signed out")
	return nil
}

func (p Program) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cancel", Short: "Cancel the running launch or sign-in", GroupID: "daily", Args: cobra.NoArgs,
		Long: "Cancels the launch that is running, and the sign-in that it waits for.\n\nExit status: 0 cancelled, 2 nothing is running, 3 the agent does not run.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.ask(cmd.Context(), control.Intent{Name: control.Cancel}, "cancelled")
		},
	}
}

// ask sends an intent and says that it was done.
func (p Program) ask(ctx context.Context, i control.Intent, done string) error {
	if err := p.do(ctx, i); err != nil {
		return err
	}
	p.say("%s", done)
	return nil
}

func (p Program) quitCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "quit", Short: "End the agent", GroupID: "daily", Args: cobra.NoArgs,
		Long: "Ends the agent and waits until it has gone. The next link starts it again; you stay\nsigned in where the computer has a keyring.\n\nWith --all-sessions it ends the agents of all your sessions, each as soon as nothing\nis in flight and after four seconds at the latest, and on Windows, run by the\nsystem's account as deployment tools do, those of everybody, closes what windows are\nopen, and takes ten seconds at most: afterwards the program's files can be replaced. That nothing runs is no failure then.\n\nExit status: 0 ended, 1 it was told but has not ended in time, 2 refused, 3 the agent\ndoes not run.",
	}
	all := c.Flags().Bool("all-sessions", false, "end the agents of all your sessions on this computer")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if *all {
			return p.quitAll(cmd.Context())
		}
		return p.quit(cmd.Context(), control.Intent{Name: control.Quit})
	}
	return c
}

func (p Program) quit(ctx context.Context, i control.Intent) error {
	c, err := p.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Do(ctx, i); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, quitTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := control.Dial(ctx, p.Layout)
		if errors.Is(err, control.ErrNoAgent) {
			break
		}
		if err == nil {
			now.Close()
			// A link may have started the next one already.
			if now.AgentPID() != c.AgentPID() {
				break
			}
		}
		select {
		case <-ctx.Done():
			p.say("told to end, but it has not ended yet")
			return status(Negative)
		case <-tick.C:
		}
	}
	p.say("ended")
	return nil
}
