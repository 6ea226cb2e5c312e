package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manual prints org-backend(8), written from the commands themselves. The package's
// build calls it; SOURCE_DATE_EPOCH is the page's day.
func manual() *cobra.Command {
	return &cobra.Command{
		Use: "manual", Short: "Print the manual page", Hidden: true,
		Args: func(_ *cobra.Command, args []string) error { return none(args) },
		RunE: func(c *cobra.Command, _ []string) error {
			seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
			if err != nil {
				return errors.New("SOURCE_DATE_EPOCH is not set to a number of seconds")
			}
			_, err = fmt.Fprint(c.OutOrStdout(), page(c.Root(), time.Unix(seconds, 0)))
			return err
		},
	}
}

func page(root *cobra.Command, day time.Time) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p(`.TH ORG\-BACKEND 8 %s "Encounter Launcher %s"`, day.UTC().Format("2006-01-02"), roff(released()))
	p(".nh\n.ad l\n.SH NAME\norg\\-backend \\- %s", roff(strings.ToLower(root.Short[:1])+root.Short[1:]))
	p(".SH SYNOPSIS\n.B org\\-backend\n.I COMMAND\n.RI [ flags ]")
	p(".SH DESCRIPTION\n%s", roff(root.Long))
	p(".SH COMMANDS")
	for _, c := range root.Commands() {
		commandPage(p, c)
	}
	p(".SH EXIT STATUS\n.TP\n.B 0\nDone.\n.TP\n.B 1\nIt did not work; standard error says why.\n.TP\n.B 2\nBad arguments.")
	p(".SH SIGNALS\n.TP\n.B SIGTERM, SIGINT\nThe first drains and ends, the second ends at once.")
	p(".SH FILES")
	for _, f := range [][2]string{
		{"/etc/org-backend/config.yaml", "The configuration. The package brings none: see the example below."},
		{"/usr/share/doc/org-backend/examples/config.yaml", "A configuration with every key."},
		{"/var/lib/org-backend/", "Audit, queue and exports, as far as the configuration names them. Removing or purging the package leaves it."},
	} {
		p(".TP\n.I %s\n%s", roff(f[0]), roff(f[1]))
	}
	p(".SH SEE ALSO\n.BR systemctl (1),\n.BR systemd.exec (5)")
	return b.String()
}

func commandPage(p func(string, ...any), c *cobra.Command) {
	if !c.IsAvailableCommand() || c.Name() == "completion" {
		return
	}
	_, arguments, _ := strings.Cut(c.Use, " ")
	p(".TP\n\\fB%s\\fR \\fI%s\\fR", roff(strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")), roff(arguments))
	about := c.Long
	if about == "" {
		about = c.Short + "."
	}
	p("%s", roff(strings.ReplaceAll(about, "\n\n", "\n")))
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name, usage := pflag.UnquoteUsage(f)
		p(".RS\n.TP\n\\fB\\-\\-%s\\fR \\fI%s\\fR\n%s\n.RE", roff(f.Name), roff(strings.ToUpper(name)), roff(strings.ToUpper(usage[:1])+usage[1:]+"."))
	})
	if c.Example != "" {
		p(".RS\n.PP\n.nf\n%s\n.fi\n.RE", roff(c.Example))
	}
	for _, sub := range c.Commands() {
		commandPage(p, sub)
	}
}

var roffEscapes = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "’", `\(cq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, "“", `\(lq`, "”", `\(rq`, "…", `.\|.\|.`, "→", `\(->`, "–", `\(en`)

// roff writes text so that man shows it as it is.
func roff(text string) string {
	text = roffEscapes.Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return strings.ReplaceAll(text, "\n.", "\n"+`\&.`)
}
