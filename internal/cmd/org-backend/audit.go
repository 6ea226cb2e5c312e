package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/orgaudit"
	"encounterlauncher/internal/orgconfig"
)

// dayForm is a day, in the time zone of whoever asks.
const dayForm = "2006-01-02"

func auditVerb() *cobra.Command {
	c := &cobra.Command{
		Use:   "audit [--config FILE]",
		Short: "Answer who opened what, from the audit's files",
		Long: "Answer who opened what, from the file of audit.file and those that it was moved aside to,\n" +
			"also where they were zipped. Everything that is asked for must apply; ids are compared\n" +
			"exactly. Times are a day (2026-11-01), a moment (2026-11-01T08:00:00Z) or how long ago\n" +
			"(7d, 12h).",
		Example: "  org-backend audit --config /etc/org-backend/config.yaml --patient 4711 --since 30d\n" +
			"  org-backend audit --config /etc/org-backend/config.yaml --person ada@hospital.example --json",
	}
	var q orgaudit.Query
	var since, until string
	var asJSON bool
	flags := c.Flags()
	flags.StringVar(&q.Patient, "patient", "", "the EHR's id of a patient")
	flags.StringVar(&q.Person, "person", "", "subject or e-mail address of a clinician")
	flags.StringVar(&q.Encounter, "encounter", "", "the EHR's id of an encounter")
	flags.StringVar(&q.Provider, "provider", "", "the EHR's id of a clinician, who asked or whose encounter it is")
	flags.StringVar(&since, "since", "", "the first moment that counts")
	flags.StringVar(&until, "until", "", "the first moment that does not count any more")
	flags.BoolVar(&asJSON, "json", false, "print the records as they are, one JSON object a line")
	return withConfig(c, func(c *cobra.Command, cfg orgconfig.Config) error {
		var err error
		now := time.Now()
		if q.Since, err = moment(since, now); err != nil {
			return usageError{fmt.Errorf("--since: %w", err)}
		}
		if q.Until, err = moment(until, now); err != nil {
			return usageError{fmt.Errorf("--until: %w", err)}
		}
		if cfg.Audit.File == "" {
			return errors.New("the configuration names no audit.file; what goes to syslog is searched there")
		}
		return answer(c, cfg.Audit.File, q, asJSON)
	})
}

// answer prints each record as it is found.
func answer(c *cobra.Command, file string, q orgaudit.Query, asJSON bool) error {
	out, asides := c.OutOrStdout(), c.ErrOrStderr()
	count := 0
	show := func(r orgaudit.Record) error {
		if count++; count == 1 && !asJSON {
			if err := row(out, "TIME", "WHAT", "HOW IT ENDED", "PERSON", "PROVIDER", "ENCOUNTER", "PATIENT", "EHR", "REQUEST"); err != nil {
				return err
			}
		}
		if asJSON {
			text, err := json.Marshal(r)
			if err == nil {
				_, err = fmt.Fprintf(out, "%s\n", text)
			}
			return err
		}
		person := r.Email
		if person == "" {
			person = r.Subject
		}
		provider := r.Provider
		if r.AskedProvider != "" {
			provider += " (of " + r.AskedProvider + ")"
		}
		ended := r.Outcome
		if r.Code != "" {
			ended += " " + string(r.Code)
		}
		return row(out, r.Time.Local().Format(time.DateTime), r.Action, ended, person, provider, r.Encounter, r.Patient, r.EHR, r.RequestID)
	}
	damaged := func(d orgaudit.Damage) {
		what := "cannot be read"
		if d.Torn {
			what = "is cut off"
		}
		_, _ = fmt.Fprintf(asides, "line %d of %s %s\n", d.Line, visible(d.File), what)
	}
	if err := orgaudit.Search(c.Context(), file, q, show, damaged); err != nil {
		return err
	}
	if count == 0 {
		_, err := fmt.Fprintln(asides, "no record fits")
		return err
	}
	if q.Patient != "" && !asJSON {
		// Who asks for a patient means these, too.
		_, err := fmt.Fprintln(asides, "Lines of reopened encounters and delivered notes do not name the patient: ask again with --encounter for each encounter above.")
		return err
	}
	return nil
}

// row prints columns that are wide enough for what is usual: records are printed as
// they are found, so the widest is not known.
func row(out io.Writer, cells ...string) error {
	widths := []int{19, 19, 29, 28, 16, 14, 14, 10, 0} // the third for "refused link_form_not_allowed"
	var b strings.Builder
	for i, c := range cells {
		if c == "" {
			c = "-"
		}
		fmt.Fprintf(&b, "%-*s", widths[i], visible(c))
		if i < len(cells)-1 {
			b.WriteString("  ")
		}
	}
	_, err := fmt.Fprintln(out, b.String())
	return err
}

// visible shows an id from outside so that it can neither steer a terminal nor turn
// the row round: everything that is not a plain character is written as its code.
func visible(text string) string {
	var b strings.Builder
	for _, r := range text {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar || r == '\\' {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// moment reads a day, a moment, or how long before now.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.ParseInLocation(dayForm, text, time.Local); err == nil {
		return t, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n <= 36500 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	return time.Time{}, errors.New("it is neither a day (2026-11-01), a moment (2026-11-01T08:00:00Z) nor how long ago (7d, 12h)")
}
