package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"encounterlauncher/internal/paths"
)

// programPage is encounter-launcher(1), with every command of the tree.
func programPage(root *cobra.Command, version string, l paths.Layout, day time.Time) string {
	p := newPage(root.Name(), "1", version, day, lowered(root.Short))
	p.section("Synopsis")
	p.line(".B %s\n.I COMMAND\n.RI [ flags ]\n.br\n.B %[1]s\n.br\n.B %[1]s\n.I LINK", escape(root.Name()))
	p.section("Description")
	p.say(before(root.Long, "Exit status"))
	p.say(`
Given a link as its only argument, which is how the desktop calls it, the program hands the link to the agent of the
user and ends; where none runs it starts one. The agent asks the organisation's backend for the encounter, opens it in
the browser and stays in the tray. Any argument beside a link is refused.

IT governs the program by a policy, described in encounter-launcher-policy(5).`)
	p.section("Commands")
	for _, g := range root.Groups() {
		p.subsection(strings.TrimSuffix(g.Title, ":"))
		for _, c := range root.Commands() {
			if c.GroupID == g.ID && c.IsAvailableCommand() || g.ID == "parts" && c.Name() == "help" {
				commandItem(p, c)
			}
		}
	}
	p.section("Exit status")
	p.item("0", "Done; of a link: accepted.")
	p.item("1", "A negative answer, such as nobody signed in.")
	p.item("2", "Bad arguments, or the program refused; of a link: refused.")
	p.item("3", "The agent does not run; of a link: nobody answered.")
	p.section("Files")
	p.item(l.MachinePolicyFile(), "The policy of this computer: encounter-launcher-policy(5).")
	p.item(l.InstallerDefaultsFile(), "What is in force where neither policy nor the person decides. It is written like the policy.")
	p.item(l.MachineAutostartFile(), "Starts the agent when somebody logs on. It is a configuration file: what you change in it, Hidden=true for example, outlasts upgrades.")
	p.item("/usr/share/doc/encounter-launcher/third-party-notices.gz", "The licences of everything of others that the programs contain.")
	p.item("~/.local/state/encounter-launcher/agent.log", "The log of the agent, JSON lines. It holds no link, address, token or patient.")
	p.item("~/.local/state/encounter-launcher/audit/", "What became of every link: “encounter-launcher audit verify”.")
	p.item("~/.config/encounter-launcher/settings.json", "The person's choices: “encounter-launcher settings”.")
	p.section("Environment")
	p.text("XDG_STATE_HOME, XDG_CONFIG_HOME, XDG_DATA_HOME and XDG_RUNTIME_DIR move the files of the user. Nothing in the environment moves those of the computer.")
	if root.Example != "" {
		p.section("Examples")
		p.verbatim(root.Example)
	}
	p.section("See also")
	p.line(".BR encounter\\-launcher\\-policy (5),\n.BR encounter\\-launcher\\-window (1),\n.BR xdg\\-mime (1)")
	return p.String()
}

// commandItem writes a command, and behind it those below it.
func commandItem(p *page, c *cobra.Command) {
	p.line(".TP\n%s", synopsis(c))
	about := c.Long
	below := c.Commands()
	if c.Name() == "completion" {
		// One shell is like the other, and each explains itself at length.
		about, below = c.Short+": bash, zsh, fish or powershell. The package has those of bash, zsh and fish in place.", nil
	}
	if about == "" {
		about = c.Short + "."
	}
	for i, paragraph := range strings.Split(strings.Trim(about, "\n"), "\n\n") {
		if i > 0 {
			p.line(".IP")
		}
		p.text(paragraph)
	}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name, usage := pflag.UnquoteUsage(f)
		p.line(".RS\n.TP\n%s", strings.TrimSpace(bold("--"+f.Name)+" "+italic(strings.ToUpper(name))))
		p.text(strings.ToUpper(usage[:1]) + usage[1:] + ".")
		p.line(".RE")
	})
	if c.Example != "" {
		p.line(".RS")
		p.verbatim(c.Example)
		p.line(".RE")
	}
	for _, sub := range below {
		if sub.IsAvailableCommand() {
			commandItem(p, sub)
		}
	}
}

// synopsis is how a command is called, without the program's name.
func synopsis(c *cobra.Command) string {
	path := strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")
	_, arguments, _ := strings.Cut(c.Use, " ")
	s := bold(path)
	if c.Name() == "completion" {
		arguments = "SHELL"
	}
	if arguments != "" {
		s += " " + italic(arguments)
	}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			name, _ := pflag.UnquoteUsage(f)
			s += " [" + strings.TrimSpace(bold("--"+f.Name)+" "+italic(strings.ToUpper(name))) + "]"
		}
	})
	return strings.ReplaceAll(s, ` \fI\fR`, "")
}

// windowPage is encounter-launcher-window(1), which says that it is not for people.
func windowPage(version string, day time.Time) string {
	p := newPage("encounter-launcher-window", "1", version, day, "the window of encounter-launcher(1)")
	p.section("Synopsis")
	p.line(".B encounter\\-launcher\\-window")
	p.section("Description")
	p.say(`
This is the window's part of encounter-launcher(1), which starts it when the window is wanted: call “encounter-launcher
window” instead. It takes no arguments, shows what the agent says, and keeps nothing itself.

It needs GTK 3 and WebKitGTK 4.1, which the package recommends and does not demand. Without them tray, notices and
command line work, and “encounter-launcher window” says what is missing.`)
	p.section("Exit status")
	p.item("0", "The window was closed.")
	p.item("2", "It cannot be shown.")
	p.item("127", "A library is missing.")
	p.section("See also")
	p.line(".BR encounter\\-launcher (1)")
	return p.String()
}

func before(text, mark string) string {
	text, _, _ = strings.Cut(text, mark)
	return text
}

// lowered is a sentence as the line of a name section wants it.
func lowered(sentence string) string {
	return strings.ToLower(sentence[:1]) + strings.TrimSuffix(sentence[1:], ".")
}
