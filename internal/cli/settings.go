package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/agent"
	"encounterlauncher/internal/control"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

func (p Program) freshLinkCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "fresh-link", Short: "Open the encounter of the last launch again", GroupID: "daily", Args: cobra.NoArgs,
		Long: "Opens the encounter of the last launch again through a fresh address, when the browser\ndid not show it. This works for ten minutes, for the person who opened it.\n\nExit status: 0 under way (with --wait: opened), 1 it failed or was cancelled while\n--wait waited, 2 there is no such launch, 3 the agent does not run.",
	}
	wait := c.Flags().Bool("wait", false, "wait until it is open or has failed; Ctrl-C cancels it")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.start(cmd.Context(), control.Intent{Name: control.FreshLink}, *wait, func(view.Snapshot) bool { return true })
	}
	return c
}

func (p Program) settingsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "settings", Short: "Show what you can choose, and choose it", GroupID: "daily", Args: cobra.NoArgs,
		Long:    "Shows the settings that a person can choose, what is in force, and who has decided.\nWhat a policy has set is locked. It works without the agent.\n\nExit status: 0 shown.",
		Example: fmt.Sprintf("  %[1]s settings\n  %[1]s settings set Language fr\n  %[1]s settings reset Language", p.Layout.Name),
	}
	js := asJSON(c)
	c.RunE = func(*cobra.Command, []string) error {
		list := agent.Settings(policy.Load(p.Layout))
		if *js {
			return p.printJSON(list)
		}
		w := tabwriter.NewWriter(p.Stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "KEY\tVALUE\tDECIDED BY\t")
		for _, s := range list {
			value, locked := s.Value, ""
			if value == "" {
				value = "-"
			}
			if s.Locked {
				locked = "locked"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Key, value, s.Source, locked)
		}
		return w.Flush()
	}
	c.AddCommand(p.settingsSetCommand(), p.settingsResetCommand())
	return c
}

func (p Program) settingsSetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "set KEY VALUE", Short: "Keep a choice", Args: cobra.ExactArgs(2),
		Long:              "Keeps your choice for a setting, which is in force at once.\n\nExit status: 0 kept, 2 refused: the organisation decides, or there is no such setting or\nvalue.",
		Example:           fmt.Sprintf("  %s settings set Notices problems", p.Layout.Name),
		ValidArgsFunction: p.completeSetting,
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[1] == "" {
				return usage("Give a value, or use “settings reset”.")
			}
			return p.choose(cmd.Context(), args[0], args[1], "kept")
		},
	}
}

func (p Program) settingsResetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reset KEY", Short: "Take a choice back", Args: cobra.ExactArgs(1),
		Long:              "Takes your choice for a setting back: what the organisation or the program sets is in\nforce again.\n\nExit status: 0 taken back, 2 refused: the organisation decides, or there is no such\nsetting.",
		ValidArgsFunction: p.completeSetting,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.choose(cmd.Context(), args[0], "", "taken back")
		},
	}
}

// completeSetting offers the keys that can be chosen, and for set their values.
func (p Program) completeSetting(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var offers []string
	list := agent.Settings(policy.Load(p.Layout))
	switch i := slices.IndexFunc(list, func(s view.Setting) bool { return len(args) > 0 && s.Key == args[0] }); {
	case len(args) == 0:
		for _, s := range list {
			if !s.Locked {
				offers = append(offers, s.Key)
			}
		}
	case len(args) == 1 && i >= 0 && cmd.Name() == "set":
		offers = append(offers, list[i].Choices...)
		if list[i].Kind == view.SettingYesNo {
			offers = append(offers, "true", "false")
		}
	}
	return offers, cobra.ShellCompDirectiveNoFileComp
}

// choose asks the agent to keep a choice, so that it is in force at once, and where
// none runs keeps it itself.
func (p Program) choose(ctx context.Context, key, value, done string) error {
	if key == "" {
		return usage("Name a setting by its key.")
	}
	err := p.do(ctx, control.Intent{Name: control.Choose, Key: key, Value: value})
	if errors.Is(err, control.ErrNoAgent) {
		err = policy.Choose(p.Layout, key, value)
	}
	if err != nil {
		return problem.Of(err)
	}
	p.say("%s", done)
	return nil
}
