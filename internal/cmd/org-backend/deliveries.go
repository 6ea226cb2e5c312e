package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/delivery"
	"encounterlauncher/internal/orgconfig"
)

const (
	maxAdminAnswer = 64 << 20
	adminPatience  = 70 * time.Second
)

// deliveries looks at exported notes and acts on them: it asks the running backend
// over its admin socket.
func deliveries() *cobra.Command {
	var d deliveriesCommand
	all := false
	root := &cobra.Command{
		Use:   "deliveries [--config FILE]",
		Short: "Look at exported notes on their way to the EHR, and replay or discard them",
		Long: "Look at exported notes on their way to the EHR: what waits and is tried again, and what\n" +
			"was put aside because a person must look. It asks the running backend over admin_socket.\n" +
			"Nothing of a patient is shown; show names the encounter and the clinician.",
		Example: "  org-backend deliveries --config /etc/org-backend/config.yaml\n" +
			"  org-backend deliveries replay --all-aside --config /etc/org-backend/config.yaml",
		Args: func(_ *cobra.Command, args []string) error { return none(args) },
		RunE: func(c *cobra.Command, _ []string) error { return d.list(c, all) },
	}
	root.PersistentFlags().StringVar(&d.config, "config", "", configHelp)
	root.PersistentFlags().BoolVar(&d.json, "json", false, "answer in JSON")
	list := &cobra.Command{
		Use: "list [--config FILE]", Short: "List what waits and what was put aside, the oldest first",
		Args: root.Args,
		RunE: root.RunE,
	}
	for _, c := range []*cobra.Command{root, list} {
		c.Flags().BoolVar(&all, "all", false, "also what was delivered or discarded in the last days")
	}
	show := &cobra.Command{
		Use: "show ID [--config FILE]", Short: "Show one, with its encounter and clinician",
		Args: ids(1, 1), RunE: func(c *cobra.Command, args []string) error { return d.show(c, args[0]) },
	}
	aside := false
	replay := &cobra.Command{
		Use: "replay (ID… | --all-aside) [--config FILE]", Short: "Deliver again, at once, what was put aside or waits",
		Args: func(c *cobra.Command, args []string) error {
			if aside == (len(args) > 0) {
				return usageError{errors.New("name either the ids or --all-aside")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return d.replay(c, args) },
	}
	replay.Flags().BoolVar(&aside, "all-aside", false, "everything that was put aside")
	yes := false
	discard := &cobra.Command{
		Use: "discard ID… [--config FILE]", Short: "Give up notes for good: they are not brought to the EHR any more",
		Args: ids(1, 0), RunE: func(c *cobra.Command, args []string) error { return d.discard(c, args, yes) },
	}
	discard.Flags().BoolVar(&yes, "yes", false, "do not ask")
	root.AddCommand(list, show, replay, discard)
	return root
}

// ids wants at least and, unless it is 0, at most so many ids.
func ids(least, most int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < least {
			return usageError{errors.New("an id is missing; `org-backend deliveries` lists them")}
		}
		if most > 0 && len(args) > most {
			return none(args)
		}
		return nil
	}
}

type deliveriesCommand struct {
	config string
	json   bool
}

// withConfig is what a command that is proposed needs, too.
func (d *deliveriesCommand) withConfig() string {
	switch {
	case d.config == "":
		return ""
	case strings.ContainsFunc(d.config, func(r rune) bool {
		return !strings.ContainsRune("/._-", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}):
		return " --config " + strconv.Quote(d.config)
	}
	return " --config " + d.config
}

// call asks the backend. into may be nil.
func (d *deliveriesCommand) call(ctx context.Context, method, path string, into any) error {
	name, err := configOf(d.config)
	if err != nil {
		return err
	}
	cfg, err := orgconfig.Load(name)
	if err != nil {
		return err
	}
	if cfg.AdminSocket == "" {
		return errors.New("the configuration has no admin_socket; name one, and restart org-backend")
	}
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://org-backend"+path, nil)
	if err != nil {
		return usageError{errors.New("that is not an id")}
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", cfg.AdminSocket)
	}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return errors.New("org-backend does not answer at admin_socket; see whether it runs, and run this as its user or as root")
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAdminAnswer))
	if err != nil {
		return errors.New("the answer of org-backend was cut off")
	}
	if response.StatusCode != http.StatusOK {
		var no delivery.Refusal
		if json.Unmarshal(body, &no) != nil || no.Error == "" {
			no.Error = "org-backend answered " + strconv.Itoa(response.StatusCode)
		}
		return errors.New(no.Error)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return errors.New("the answer of org-backend cannot be read")
	}
	return nil
}

func (d *deliveriesCommand) print(c *cobra.Command, v any, people func(io.Writer)) error {
	if d.json {
		e := json.NewEncoder(c.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	people(c.OutOrStdout())
	return nil
}

func (d *deliveriesCommand) list(c *cobra.Command, all bool) error {
	var l delivery.Listing
	if err := d.call(c.Context(), http.MethodGet, "/deliveries?all="+strconv.FormatBool(all), &l); err != nil {
		return err
	}
	return d.print(c, l, func(w io.Writer) {
		if len(l.Items) > 0 {
			table(w, l.Items)
		}
		if l.LeftOut > 0 {
			_, _ = fmt.Fprintf(w, "… and %d more\n", l.LeftOut)
		}
		_, _ = fmt.Fprintf(w, "%d waiting, %d put aside, %d delivered and %d discarded in the last days\n",
			l.Counts[delivery.Queued], l.Counts[delivery.Aside], l.Counts[delivery.Delivered], l.Counts[delivery.Discarded])
		advise(w, l.Items)
		if l.Counts[delivery.Aside] > 0 {
			_, _ = fmt.Fprintln(w, "\nWhat was put aside is not tried any more. Once the cause is repaired: org-backend deliveries replay --all-aside"+d.withConfig())
		}
	})
}

func table(w io.Writer, items []delivery.Item) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "ID\tSTATE\tTYPE\tRECEIVED\tTRIES\tPLACES")
	for _, i := range items {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\n", i.ID, i.State, kind(i.Type), i.Received.Local().Format(time.DateTime), i.Tries, placesOf(i))
	}
	_ = t.Flush()
}

func kind(vendors string) string {
	return strings.ReplaceAll(strings.TrimSuffix(strings.ToLower(vendors), "_export"), "_", " ")
}

// placesOf says of each place whether it has the note.
func placesOf(i delivery.Item) string {
	var words []string
	for name, o := range i.Places {
		word := name + " " + o.State
		if o.State == "again" {
			word = name + " waits"
		}
		if o.Code != "" {
			word += " (" + o.Code + ")"
		}
		words = append(words, word)
	}
	if len(words) == 0 && i.Code != "" {
		words = append(words, i.Code)
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// advise says once for each code what is wrong and what to do.
func advise(w io.Writer, items []delivery.Item) {
	counts := map[string]int{}
	for _, i := range items {
		// What has ended needs nobody's advice.
		if i.Code != "" && i.State != delivery.Delivered && i.State != delivery.Discarded {
			counts[i.Code]++
		}
	}
	codes := make([]string, 0, len(counts))
	for code := range counts {
		codes = append(codes, code)
	}
	slices.SortFunc(codes, func(a, b string) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return strings.Compare(a, b)
	})
	for _, code := range codes {
		_, _ = fmt.Fprintf(w, "\n%s (%d): %s\n", code, counts[code], delivery.Advice(code))
	}
}

func (d *deliveriesCommand) show(c *cobra.Command, id string) error {
	var s delivery.Shown
	if err := d.call(c.Context(), http.MethodGet, "/deliveries/"+url.PathEscape(id), &s); err != nil {
		return err
	}
	return d.print(c, s, func(w io.Writer) {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		line := func(name, value string) {
			if value != "" {
				_, _ = fmt.Fprintf(t, "%s\t%s\n", name, value)
			}
		}
		line("id", s.ID)
		line("state", s.State)
		line("type", kind(s.Type))
		if s.Encounter != nil {
			line("encounter", strconv.Quote(s.Encounter.EncounterID))
			line("clinician", strconv.Quote(s.Encounter.ProviderID))
		}
		line("received", s.Received.Local().Format(time.DateTime))
		line("tries", strconv.Itoa(s.Tries))
		line("places", placesOf(s.Item))
		if s.Ended != nil {
			line("ended", s.Ended.Local().Format(time.DateTime))
		}
		_ = t.Flush()
		advise(w, []delivery.Item{s.Item})
	})
}

func (d *deliveriesCommand) replay(c *cobra.Command, ids []string) error {
	var answer delivery.Replayed
	if len(ids) == 0 {
		if err := d.call(c.Context(), http.MethodPost, "/deliveries/replay-aside", &answer); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if err := d.call(c.Context(), http.MethodPost, "/deliveries/"+url.PathEscape(id)+"/replay", new(delivery.Item)); err != nil {
			return fmt.Errorf("%w (replayed before it: %d)", err, answer.Replayed)
		}
		answer.Replayed++
	}
	return d.print(c, answer, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "%d replayed; see `org-backend deliveries` for what becomes of it\n", answer.Replayed)
	})
}

// discarded is the answer of discard.
type discarded struct {
	Discarded int `json:"discarded"`
}

func (d *deliveriesCommand) discard(c *cobra.Command, ids []string, yes bool) error {
	if !yes {
		if d.json {
			return usageError{errors.New("with --json nobody is asked: discard wants --yes")}
		}
		_, _ = fmt.Fprintf(c.ErrOrStderr(), "The content of %d note(s) is deleted for good, and whatever place lacks it will not get it.\nType yes to go on: ", len(ids))
		word, _ := bufio.NewReader(io.LimitReader(c.InOrStdin(), 64)).ReadString('\n') // no answer is no
		if strings.TrimSpace(word) != "yes" {
			return errors.New("nothing was discarded")
		}
	}
	var answer discarded
	for _, id := range ids {
		if err := d.call(c.Context(), http.MethodPost, "/deliveries/"+url.PathEscape(id)+"/discard", new(delivery.Item)); err != nil {
			return fmt.Errorf("%w (discarded before it: %d)", err, answer.Discarded)
		}
		answer.Discarded++
	}
	return d.print(c, answer, func(w io.Writer) { _, _ = fmt.Fprintf(w, "%d discarded\n", answer.Discarded) })
}
