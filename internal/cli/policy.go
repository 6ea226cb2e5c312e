package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// policyAnswer is the answer of policy --json and of policy check --json.
type policyAnswer struct {
	OK       bool             `json:"ok"`
	Code     string           `json:"code"`
	Values   []policyValue    `json:"values"`
	Findings []policy.Finding `json:"findings"`
}

type policyValue struct {
	policy.Value
	Effective json.RawMessage `json:"effective"`
	Default   json.RawMessage `json:"default"`
}

// keyAnswer is the answer of policy KEY --json: the value, and what the table
// says of the key.
type keyAnswer struct {
	policyValue
	Sentence        string           `json:"sentence"`
	Since           string           `json:"since"`
	Scope           string           `json:"scope"`
	Only            string           `json:"only"`
	PersonMayChoose bool             `json:"person_may_choose"`
	Required        bool             `json:"required"`
	OnError         string           `json:"on_error"`
	Safest          json.RawMessage  `json:"safest"`
	Allowed         []string         `json:"allowed"`
	Min             *int             `json:"min"`
	Max             *int             `json:"max"`
	Example         json.RawMessage  `json:"example"`
	RegAdd          string           `json:"reg_add"`
	Member          string           `json:"json_member"`
	Findings        []policy.Finding `json:"findings"`
}

func (p Program) policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "policy [KEY]", Short: "Show every setting, its source, and what was rejected", GroupID: "it", Args: cobra.MaximumNArgs(1),
		Long:    "Reads the policy of this machine anew and shows each key with its effective value, where\nthat comes from, and values that could not be used and why. With a key it explains that\none: what it does, who may set it, and what to paste.\n\nExit status: 0 launches can go on, 1 policy refuses launches (with a key: its value cannot\nbe used, or it is missing), 2 there is no such key.",
		Example: fmt.Sprintf("  %[1]s policy\n  %[1]s policy BackendURL\n  %[1]s policy --json | jq '.findings'\n  %[1]s policy check new-policy.json", p.Layout.Name),
		ValidArgsFunction: func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, k := range policy.Keys() {
				if len(args) == 0 && strings.HasPrefix(k.Name, begun) {
					names = append(names, k.Name)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
	js := asJSON(c)
	all := c.Flags().Bool("all", false, "also show keys that nobody has set")
	c.RunE = func(_ *cobra.Command, args []string) error {
		s := policy.Load(p.Layout)
		if len(args) == 1 {
			return p.explainKey(s, args[0], *js)
		}
		return p.answerPolicy(s, *js, func() { p.printPolicy(s, *all, "launches can go on", "launches are refused until this is mended") })
	}
	c.AddCommand(p.policyCheckCommand())
	return c
}

func (p Program) policyCheckCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "check FILE", Short: "Say what would be refused in a policy file, before its rollout", Args: cobra.ExactArgs(1),
		Long:    "Says what this version would make of a file as " + policyFileName + ". Nothing\nelse is read, and nothing is put in force. Who owns the file does not matter here.\n\nExit status: 0 nothing would be refused, 1 something would, or a key that launches wait\nfor is missing, 2 the file cannot be read.",
		Example: fmt.Sprintf("  %[1]s policy check new-policy.json\n  %[1]s policy check --part defaults.json", p.Layout.Name),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []string{"json"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	js := asJSON(c)
	part := c.Flags().Bool("part", false, "the file is one of several sources: a key that launches wait for may be missing")
	c.RunE = func(_ *cobra.Command, args []string) error {
		s, err := policy.CheckFile(p.Layout, args[0])
		if err != nil {
			return err
		}
		if *part {
			s.Findings = slices.DeleteFunc(s.Findings, func(f policy.Finding) bool { return f.Code == problem.PolicyMissing })
		}
		answer := answerOf(s)
		// What is missing was taken out of the findings, and stays missing in the snapshot.
		if answer.OK = len(s.Findings) == 0; answer.OK {
			answer.Code = ""
		}
		if *js {
			if err := p.printJSON(answer); err != nil {
				return err
			}
		} else {
			set := 0
			for _, v := range s.Values {
				if v.Source == policy.SourceFile {
					set++
				}
			}
			for _, f := range s.Findings {
				p.say("! %s", view.Inert(f.Sentence, 400))
			}
			if answer.OK {
				p.say("nothing would be refused: %d keys would be in force", set)
			} else {
				p.say("%d to mend; %d keys would be in force", len(s.Findings), set)
			}
		}
		if !answer.OK {
			return status(Negative)
		}
		return nil
	}
	return c
}

// policyFileName is how people call the file that is checked.
const policyFileName = "policy.json"

func answerOf(s policy.Snapshot) policyAnswer {
	refuse := problem.Of(s.LaunchProblem())
	answer := policyAnswer{OK: refuse == nil && len(s.Findings) == 0, Values: []policyValue{}, Findings: append([]policy.Finding{}, s.Findings...)}
	if refuse != nil {
		answer.Code = string(refuse.Code)
	}
	for _, v := range s.Values {
		answer.Values = append(answer.Values, inJSON(v))
	}
	return answer
}

func inJSON(v policy.Value) policyValue {
	return policyValue{v, json.RawMessage(v.Effective), json.RawMessage(v.Default)}
}

func (p Program) answerPolicy(s policy.Snapshot, js bool, inWords func()) error {
	if js {
		if err := p.printJSON(answerOf(s)); err != nil {
			return err
		}
	} else {
		inWords()
	}
	if s.LaunchProblem() != nil {
		return status(Negative)
	}
	return nil
}

// printPolicy has the value last, because it alone may be long: a narrow terminal
// then breaks no other column.
func (p Program) printPolicy(s policy.Snapshot, all bool, good, bad string) {
	w := tabwriter.NewWriter(p.Stdout, 0, 4, 2, ' ', 0)
	shown := 0
	for _, v := range s.Values {
		if v.Source == policy.SourceBuiltIn && len(v.Rejected) == 0 && !all {
			continue
		}
		if shown == 0 {
			fmt.Fprintln(w, "KEY\tSOURCE\tVALUE")
		}
		shown++
		fmt.Fprintf(w, "%s\t%s\t%s\n", v.Key, v.Source, valueOf(v))
	}
	_ = w.Flush()
	if hidden := len(s.Values) - shown; hidden > 0 {
		p.say("%d keys have their built-in default: add --all to see them", hidden)
	}
	for _, f := range s.Findings {
		p.say("! %s", view.Inert(f.Sentence, 400))
	}
	if refuse := problem.Of(s.LaunchProblem()); refuse != nil {
		p.say("%s (%s)", bad, refuse.Code)
	} else {
		p.say("%s", good)
	}
}

// valueOf is the value as a person reads it: “-” when there is none.
func valueOf(v policy.Value) string {
	if v.Effective == "null" {
		return "-"
	}
	return view.Inert(v.Effective, 72)
}

// explainKey is everything about one key, for whoever has to set it.
func (p Program) explainKey(s policy.Snapshot, name string, js bool) error {
	keys := policy.Keys()
	i := slices.IndexFunc(keys, func(k policy.Key) bool { return strings.EqualFold(k.Name, name) })
	if i < 0 {
		return usage("There is no such key of policy.")
	}
	k, v := keys[i], s.Values[i]
	var findings []policy.Finding
	for _, f := range s.Findings {
		// A source that cannot be read as a whole concerns every key.
		if f.Key == k.Name || (f.Key == "" && f.Code != "") {
			findings = append(findings, f)
		}
	}
	refused := len(v.Rejected) > 0 || slices.ContainsFunc(findings, func(f policy.Finding) bool { return f.RefusesLaunches })
	line := k.RegAdd(`HKLM\`+policy.PoliciesKey, k.WindowsExample())
	member := k.JSONMember(k.Example)
	switch k.Only {
	case policy.Linux:
		line = ""
	case policy.Windows:
		member = ""
	}
	if js {
		answer := keyAnswer{
			policyValue: inJSON(v), Sentence: k.Sentence, Since: k.Since, Scope: string(k.Scope), Only: k.Only, PersonMayChoose: k.PersonMayChoose, Required: k.Required,
			OnError: string(k.OnError), Safest: json.RawMessage(k.Safest), Allowed: append([]string{}, k.Allowed...), Example: json.RawMessage(k.Example),
			RegAdd: line, Member: member, Findings: append([]policy.Finding{}, findings...),
		}
		if k.Type == policy.Number {
			answer.Min, answer.Max = &k.Min, &k.Max
		}
		if err := p.printJSON(answer); err != nil {
			return err
		}
	} else {
		p.printKey(k, v)
		for _, r := range v.Rejected {
			p.say("! %s", view.Inert(r.Sentence, 400))
		}
		for _, f := range findings {
			if !slices.ContainsFunc(v.Rejected, func(r policy.Rejected) bool { return r.Sentence == f.Sentence }) {
				p.say("! %s", view.Inert(f.Sentence, 400))
			}
		}
		if line != "" {
			p.say("\nfor example, in a command prompt of Windows:\n%s", line)
		}
		if member != "" {
			p.say("\nfor example, in %s of Linux:\n%s", policyFileName, member)
		}
	}
	if refused {
		return status(Negative)
	}
	return nil
}

func (p Program) printKey(k policy.Key, v policy.Value) {
	p.say("%s: %s\n", k.Name, k.Sentence)
	w := tabwriter.NewWriter(p.Stdout, 0, 4, 2, ' ', 0)
	row := func(name, text string) { fmt.Fprintf(w, "%s\t%s\n", name, text) }
	dash := func(raw string) string {
		if raw == "null" {
			return "-"
		}
		return raw
	}
	source := v.Source
	if v.Path != "" && v.Source != policy.SourcePerson {
		source += ", " + view.Inert(v.Path, 200)
	}
	row("value", valueOf(v))
	row("source", source)
	if k.Only != "" {
		row("only on", k.Only)
	}
	row("type", typeOf(k))
	row("default", dash(k.Default))
	who := []string{policy.SourceMachine}
	if k.Scope == policy.MachineAndUser {
		who = append(who, policy.SourceUser+" (Windows)")
	}
	if k.PersonMayChoose {
		who = append(who, policy.SourcePerson)
	}
	row("set by", strings.Join(append(who, policy.SourceDefaults), ", "))
	switch {
	case k.OnError == policy.RefuseLaunches:
		row("a wrong value", "refuses launches")
	default:
		row("a wrong value", "puts "+dash(k.Safest)+" in force")
	}
	row("since", k.Since)
	_ = w.Flush()
}

// typeOf is the type of a key with what it allows.
func typeOf(k policy.Key) string {
	switch {
	case len(k.Allowed) > 0:
		return string(k.Type) + ": " + strings.Join(k.Allowed, ", ")
	case k.Type == policy.Number:
		return fmt.Sprintf("%s from %d to %d", k.Type, k.Min, k.Max)
	}
	return string(k.Type)
}
