package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgserver"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/provision"
)

const mostParallel = 16

// errNotAll ends a run of which some users were not provisioned; the summary has said
// which.
var errNotAll = errors.New("not every user was provisioned")

// provisionFlags are the flags of the verb.
type provisionFlags struct {
	email, id, specialty, other, locale, secondary string
	list, conflicts                                string
	dryRun                                         bool
	parallel                                       int
}

func provisionVerb() *cobra.Command {
	var f provisionFlags
	c := withConfig(&cobra.Command{
		Use:   "provision [--config FILE] (--email ADDRESS --provider-id ID | --csv LIST)",
		Short: "Make users at Nabla ahead of their first encounter",
		Long: `Make users at Nabla ahead of their first encounter: one, or those of a list. A user
who is there already gets the settings that are given; others stay as they are.

A list is CSV in UTF-8 with a header: provider_email and external_provider_id, and any of
specialty, other_specialty_name, speech_locale and secondary_speech_locale. It is checked as a
whole before anything is sent. LIST.done remembers what was done: run the same command again
after an interruption, or after mending lines, and only what is missing or has changed is sent.

Specialties and locales are Nabla's words, such as CARDIOLOGY; OTHER takes a name beside it.

Ends with 0 when every user is at Nabla, 1 when some are not, 2 when arguments or list are wrong
and nothing was sent.`,
		Example: `  org-backend provision --config config.yaml --email ada@hospital.example --provider-id D-17 --specialty CARDIOLOGY
  org-backend provision --config config.yaml --csv users.csv --dry-run
  org-backend provision --config config.yaml --csv users.csv --conflicts conflicts.csv`,
	}, func(c *cobra.Command, cfg orgconfig.Config) error { return f.run(c, cfg) })
	flags := c.Flags()
	flags.StringVar(&f.email, "email", "", "the clinician's e-mail address in the EHR")
	flags.StringVar(&f.id, "provider-id", "", "the clinician's id in the EHR")
	flags.StringVar(&f.specialty, "specialty", "", "Nabla's word for the specialty, or OTHER")
	flags.StringVar(&f.other, "other-specialty", "", "the specialty's name, for OTHER")
	flags.StringVar(&f.locale, "speech-locale", "", "Nabla's word for the language that is spoken")
	flags.StringVar(&f.secondary, "secondary-speech-locale", "", "Nabla's word for the second language")
	flags.StringVar(&f.list, "csv", "", "a list of users")
	flags.StringVar(&f.conflicts, "conflicts", "", "write the lines that Nabla refused to this file (CSV)")
	flags.BoolVar(&f.dryRun, "dry-run", false, "check everything, send nothing")
	flags.IntVar(&f.parallel, "parallel", 4, fmt.Sprintf("how many calls are under way at once, 1 to %d", mostParallel))
	return c
}

func (f provisionFlags) run(c *cobra.Command, cfg orgconfig.Config) error {
	if err := f.check(); err != nil {
		return usageError{err}
	}
	lines, err := f.lines()
	if err != nil {
		return usageError{err}
	}
	// Its faults are those of the configuration; see check-config.
	client, err := orgserver.NewNabla(cfg.Nabla, orgserver.Deps{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if client == nil {
		return errors.New("configuration: nabla.key_files: there is none")
	}
	account := cfg.Nabla.Region + cfg.Nabla.BaseURL + " " + cfg.Nabla.ClientID
	if f.dryRun {
		return f.rehearse(c.OutOrStdout(), lines, account)
	}
	if f.list == "" {
		return one(c, client, lines[0].User)
	}
	return f.many(c, client, lines, account)
}

func (f provisionFlags) check() error {
	single := f.email + f.id + f.specialty + f.other + f.locale + f.secondary
	switch {
	case f.list == "" && (f.email == "" || f.id == ""):
		return errors.New("--email and --provider-id are missing, or --csv")
	case f.list != "" && single != "":
		return errors.New("--csv LIST says everything of its users; the other flags are for one")
	case f.list == "" && f.conflicts != "":
		return errors.New("--conflicts is for a list")
	case f.parallel < 1 || f.parallel > mostParallel:
		return fmt.Errorf("--parallel is not 1 to %d", mostParallel)
	case f.conflicts != "" && (samePlace(f.conflicts, f.list) || samePlace(f.conflicts, f.record())):
		return errors.New("--conflicts would overwrite the list or the record of what was done")
	}
	return nil
}

func samePlace(a, b string) bool {
	first, err := os.Stat(a)
	if second, err2 := os.Stat(b); err == nil && err2 == nil {
		return os.SameFile(first, second)
	}
	return filepath.Clean(a) == filepath.Clean(b)
}

func (f provisionFlags) record() string { return f.list + ".done" }

func (f provisionFlags) lines() ([]provision.Line, error) {
	if f.list == "" {
		u := provision.User(f.email, f.id, f.specialty, f.other, f.locale, f.secondary)
		return []provision.Line{{User: u}}, provision.Check(u)
	}
	list, err := os.Open(f.list)
	if err != nil {
		return nil, err
	}
	defer func() { _ = list.Close() }()
	lines, err := provision.ReadCSV(list)
	if err != nil {
		return nil, fmt.Errorf("%s: nothing was sent:\n%w", f.list, err)
	}
	return lines, nil
}

// rehearse says what a run would do.
func (f provisionFlags) rehearse(out io.Writer, lines []provision.Line, account string) error {
	var record *provision.Record
	if f.list != "" {
		var err error
		if record, err = provision.ReadRecord(f.record(), account); err != nil {
			return usageError{err}
		}
	}
	_, err := fmt.Fprintln(out, provision.Rehearsal(lines, record))
	return err
}

func one(c *cobra.Command, client *nabla.Client, u nabla.User) error {
	p, err := client.CreateUser(c.Context(), u)
	if err != nil {
		return said(err)
	}
	text := "provisioned"
	if p.Found {
		text = "the user was there already, since " + p.CreatedAt.Format("2006-01-02") + "; the settings that were given are set"
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), text)
	return err
}

// said adds to a problem's sentence, which is for clinicians, what an administrator can
// use.
func said(err error) error {
	switch {
	case problem.IsCode(err, problem.Cancelled):
		return errors.New("interrupted; the same command may be run again")
	case problem.IsCode(err, problem.ProviderConflict):
		return errors.New("the e-mail address and the id belong to two different users at Nabla; match them there, or correct them here")
	}
	p := problem.Of(err)
	if cause := errors.Unwrap(p); cause != nil {
		return fmt.Errorf("%w (%w)", p, cause)
	}
	return p
}

func (f provisionFlags) many(c *cobra.Command, client *nabla.Client, lines []provision.Line, account string) (err error) {
	record, err := provision.OpenRecord(f.record(), account)
	if err != nil {
		return usageError{err}
	}
	defer func() { err = errors.Join(err, record.Close()) }()
	var refused *os.File
	if f.conflicts != "" {
		// Opened now, so that an hour's report is not lost to a folder that is not there.
		if refused, err = os.OpenFile(f.conflicts, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return usageError{err}
		}
		defer func() { err = errors.Join(err, refused.Close()) }()
	}
	progress, waiting, end := provision.Show(c.ErrOrStderr(), len(lines), record.Count(lines), isTerminal(c.ErrOrStderr()))
	result := provision.Run(c.Context(), provision.Job{
		Users: client, Lines: lines, Record: record, Parallel: f.parallel, Progress: progress, Waiting: waiting,
	})
	end()
	if refused != nil {
		if err := provision.WriteConflicts(refused, result); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(c.OutOrStdout(), result.Summary(f.conflicts)); err != nil {
		return err
	}
	switch {
	case result.Done():
		return nil
	case result.Interrupted:
		return errors.New("interrupted; run the same command again to go on")
	case result.Stopped != nil:
		return fmt.Errorf("%w; run the same command again to go on", said(result.Stopped))
	case len(result.Conflicts) > 0:
		return fmt.Errorf("%w; a conflict is an e-mail address and an id that belong to two different users at Nabla: match them there, or correct the line, and run the same command again", errNotAll)
	}
	return fmt.Errorf("%w; correct what was refused and run the same command again", errNotAll)
}

// isTerminal reports whether somebody may be looking.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
