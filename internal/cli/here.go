package cli

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/audit"
	"encounterlauncher/internal/autostart"
	"encounterlauncher/internal/intake"
	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/notify"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/scheme"
)

// checkJSON is the answer of check-link --json (design §4).
type checkJSON struct {
	Accepted bool   `json:"accepted"`
	Form     string `json:"form"`
	Code     string `json:"code"`
	Sentence string `json:"sentence,omitempty"`
}

// checkLink is the verb that takes a link as its argument.
const checkLink = "check-link"

func (p Program) checkLinkCommand() *cobra.Command {
	c := &cobra.Command{
		Use: checkLink + " LINK", Short: "Say what the program thinks of a link", GroupID: "it",
		Args:    cobra.ExactArgs(1),
		Long:    "Says whether a link would be accepted on this computer, by its policy. It has no side\neffect: nothing is opened, redeemed or kept, and the link is not repeated. Write the\nlink in single quotes, because shells have their own use for “&” and “?”.\n\nExit status: 0 accepted, 1 refused, 2 bad arguments.",
		Example: fmt.Sprintf("  %[1]s check-link '%[2]s://launch?handle=…'\n  %[1]s check-link --json --forms handle,identifiers '%[2]s://launch?…'", p.Layout.Name, p.Layout.Scheme()),
	}
	js := asJSON(c)
	forms := c.Flags().StringSlice("forms", nil, "link forms to allow for this check: handle, request, identifiers (default: those of the policy)")
	_ = c.RegisterFlagCompletionFunc("forms", cobra.FixedCompletions(knownForms(), cobra.ShellCompDirectiveNoFileComp))
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("forms") && (len(*forms) == 0 || slices.ContainsFunc(*forms, unknownForm)) {
			return usage("The forms are handle, request and identifiers.")
		}
		form, err := p.judge(args[0], *forms)
		answer := checkJSON{Accepted: err == nil, Form: string(form)}
		if prob := problem.Of(err); prob != nil {
			answer.Code, answer.Sentence = string(prob.Code), prob.Error()
		}
		if *js {
			if err := p.printJSON(answer); err != nil {
				return err
			}
		} else if answer.Accepted {
			p.say("accepted: a link of the form “%s”", answer.Form)
		} else {
			p.say("refused: %s (%s)", answer.Sentence, answer.Code)
		}
		if !answer.Accepted {
			return status(Negative)
		}
		return nil
	}
	return c
}

func knownForms() []string {
	return []string{string(launch.FormHandle), string(launch.FormRequest), string(launch.FormIdentifiers)}
}

func unknownForm(form string) bool { return !slices.Contains(knownForms(), form) }

// judge says what parser and rules say of a link. forms replaces the policy's
// when there are any.
func (p Program) judge(link string, forms []string) (launch.Form, error) {
	candidate, err := intake.FromText(link)
	if err != nil {
		return "", err
	}
	request, err := candidate.Parse(p.Layout.Scheme())
	if err != nil {
		return "", err
	}
	snapshot := policy.Load(p.Layout)
	if spoilt(snapshot.Findings, request.Form(), len(forms) > 0) {
		return request.Form(), problem.New(problem.PolicyInvalid, nil)
	}
	if len(forms) == 0 {
		forms = snapshot.AllowedLinkForms
	}
	rules, err := launch.NewRules(forms, snapshot.LinkKeys, snapshot.BackendURL)
	if err != nil {
		return request.Form(), err
	}
	_, err = rules.Check(time.Now(), request)
	return request.Form(), err
}

// spoilt reports whether a broken policy leaves open what the check needs to know:
// the forms, unless they were given, and the keys of signed requests.
func spoilt(findings []policy.Finding, form launch.Form, formsGiven bool) bool {
	return slices.ContainsFunc(findings, func(f policy.Finding) bool {
		forms := !formsGiven && (f.Key == "" || f.Key == "AllowedLinkForms")
		keys := form == launch.FormRequest && (f.Key == "" || f.Key == "LinkKeys")
		return f.RefusesLaunches && (forms || keys)
	})
}

// localPolicy says whether the policy on this machine is good, without an agent.
func (p Program) localPolicy() policyJSON {
	s := policy.Load(p.Layout)
	out := policyJSON{OK: len(s.Findings) == 0, Problems: []string{}}
	for _, f := range s.Findings {
		out.Problems = append(out.Problems, f.Sentence)
	}
	if err := s.LaunchProblem(); err != nil {
		out.OK = false
		if len(out.Problems) == 0 {
			out.Problems = append(out.Problems, problem.Of(err).Error())
		}
	}
	return out
}

func (p Program) auditCommand() *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Work with the audit of this computer", GroupID: "it", Args: cobra.NoArgs,
		Long: "The audit says what became of every link. Who opened which patient is in the\naudit of the organisation's server.\n\nExit status: that of the command below; 0 for this help.",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	verify := &cobra.Command{
		Use: "verify", Short: "Check that no audit line was lost or changed", Args: cobra.NoArgs,
		Long: "Checks the chain of hashes in every audit file of this user, and compares with the system's log where AuditDestination is “system”.\nIt shows accidental loss and casual edits, not an attacker with this user's rights.\n\nExit status: 0 whole, 1 something is missing or was changed.",
	}
	js := asJSON(verify)
	verify.RunE = func(_ *cobra.Command, _ []string) error {
		var sink audit.Sink
		if policy.Load(p.Layout).AuditDestination == "system" {
			var err error
			if sink, err = audit.SystemSink(); err != nil {
				fmt.Fprintln(p.Stderr, "the system's log cannot be read: only the files are checked")
			}
		}
		report, err := audit.Verify(p.Layout.AuditDir(), sink)
		if err != nil {
			return err
		}
		if *js {
			if err := p.printJSON(report); err != nil {
				return err
			}
		} else {
			for _, line := range report.Lines() {
				p.say("%s", line)
			}
		}
		if !report.OK {
			return status(Negative)
		}
		return nil
	}
	c.AddCommand(verify)
	return c
}

func (p Program) registerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "register", Short: "Make this program open the EHR's links, for this user", GroupID: "it", Args: cobra.NoArgs,
		Long: "Makes this program the one that opens the EHR's links, for this user only. Packages\ndo the same for the whole computer; doing it again is harmless.\n\nExit status: 0 registered, 2 it could not be done.",
		RunE: func(*cobra.Command, []string) error {
			if err := scheme.Register(p.Layout, p.Executable); err != nil {
				return err
			}
			p.say("%s links now open with this program", p.Layout.Scheme())
			return nil
		},
	}
}

func (p Program) unregisterCommand() *cobra.Command {
	return &cobra.Command{
		Use: "unregister", Short: "Undo register", GroupID: "it", Args: cobra.NoArgs,
		Long: "Removes what “register” did, and what the program has set for this user: the start at\nlogon, and on Windows the name under which its notices are shown. The program of before\nopens the links again. Nobody is signed out, and logs stay.\n\nExit status: 0 nothing of it is left, 2 it could not be done.",
		RunE: func(*cobra.Command, []string) error {
			if err := errors.Join(scheme.Unregister(p.Layout), autostart.Remove(p.Layout), notify.Remove(p.Layout.Name)); err != nil {
				return err
			}
			p.say("%s links no longer open with this program by this user's choice", p.Layout.Scheme())
			return nil
		},
	}
}

func (p Program) versionCommand() *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Print the version", GroupID: "it", Args: cobra.NoArgs,
		Long: "Prints the version of this program.\n\nExit status: 0."}
	js := asJSON(c)
	c.RunE = func(*cobra.Command, []string) error {
		if !*js {
			p.say("%s", p.Version)
			return nil
		}
		answer := map[string]string{"name": p.Layout.Name, "version": p.Version, "scheme": p.Layout.Scheme()}
		if info, ok := debug.ReadBuildInfo(); ok {
			answer["go"] = info.GoVersion
			if i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "vcs.revision" }); i >= 0 {
				answer["revision"] = strings.TrimSpace(info.Settings[i].Value)
			}
		}
		return p.printJSON(answer)
	}
	return c
}
