package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/conformance"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/secret"
)

// maxWordBytes bounds the files of tokens and secrets.
const maxWordBytes = 16 << 10

// errNotKept ends with 1: the table has said why.
var errNotKept = errors.New("the backend does not keep the contract")

// conformanceFlags are what the cases may need.
type conformanceFlags struct {
	token                                              string
	tokenFile, otherFile, expiredFile, idFile, ehrFile string
	secretFile, caFile                                 string
	json, list                                         bool
}

func conformanceCommand() *cobra.Command {
	var cfg conformance.Config
	var f conformanceFlags
	c := &cobra.Command{
		Use:   "conformance --base-url URL --token-file FILE",
		Short: "Say whether a backend keeps the contract, by playing the published cases against it",
		Long: "Plays the published cases of the contract against any backend and prints a table: what was tried, what\n" +
			"failed and what to mend. A case that needs something that was not given is not tried, and has not passed.\n" +
			"It creates encounters of an invented patient: use a backend that speaks to a test organisation, or to nabla-sim.\n\n" +
			"Tokens and secrets are given by file: arguments are visible to others on this computer.\n" +
			"It ends with 0 when no case of severity must has failed, 1 when one has, 2 for bad arguments\nor when nobody answers.",
		Example: "  org-backend conformance --base-url https://backend.hospital.example/launcher \\\n" +
			"    --token-file clinician.token --other-token-file another.token --ehr-token-file ehr.secret",
		Args: func(_ *cobra.Command, args []string) error { return none(args) },
	}
	flags := c.Flags()
	flags.StringVar(&cfg.BaseURL, "base-url", "", "BackendURL: https, or http to this computer (required)")
	flags.StringVar(&cfg.EHRURL, "ehr-url", "", "where EHR servers know the backend (default: the base URL)")
	flags.StringVar(&cfg.CallbackURL, "callback-url", "", "where Nabla knows it (default: /nabla/callbacks below the base URL)")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with a clinician's access token (- for standard input)")
	flags.StringVar(&f.token, "token", "", "the access token itself; a file is better, since others can see arguments")
	flags.StringVar(&f.otherFile, "other-token-file", "", "file with another clinician's access token")
	flags.StringVar(&f.expiredFile, "expired-token-file", "", "file with an access token that has expired")
	flags.StringVar(&f.idFile, "id-token-file", "", "file with an ID token of the clinician's")
	flags.StringVar(&f.ehrFile, "ehr-token-file", "", "file with an EHR server's secret or access token")
	flags.StringVar(&f.secretFile, "callback-secret-file", "", "file with the secret shared with Nabla")
	flags.StringVar(&f.caFile, "ca-file", "", "file with further authorities (PEM) to trust")
	flags.StringVar(&cfg.ProviderID, "provider-id", "", "external_provider_id for which the clinician must be taken")
	flags.StringSliceVar(&cfg.Only, "only", nil, "ids of cases; only these are played")
	flags.BoolVar(&cfg.Slow, "slow", false, "also play what takes half a minute")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	flags.BoolVar(&f.list, "list", false, "print the published cases, and play none")
	c.RunE = func(c *cobra.Command, _ []string) error { return f.run(c, cfg) }
	return c
}

func (f conformanceFlags) run(c *cobra.Command, cfg conformance.Config) error {
	out := json.NewEncoder(c.OutOrStdout())
	out.SetIndent("", "  ")
	if f.list {
		if f.json {
			return out.Encode(conformance.Cases())
		}
		for _, k := range conformance.Cases() {
			if _, err := fmt.Fprintf(c.OutOrStdout(), "%-6s  %-30s  %s (%s)\n", k.Severity, k.ID, k.Sentence, k.Clause); err != nil {
				return err
			}
		}
		return nil
	}
	if err := f.read(c, &cfg); err != nil {
		return usageError{err}
	}
	say := func(r conformance.Result) {
		if !f.json {
			_, _ = fmt.Fprintln(c.OutOrStdout(), conformance.Line(r))
		}
	}
	results, err := conformance.Run(c.Context(), cfg, say)
	switch {
	case err != nil && len(results) == 0 && c.Context().Err() == nil:
		return usageError{err}
	case err != nil:
		return err
	case f.json:
		err = out.Encode(struct {
			Summary conformance.Summary  `json:"summary"`
			Results []conformance.Result `json:"results"`
		}{conformance.Summarise(results), results})
	default:
		_, err = fmt.Fprintln(c.OutOrStdout(), "\n"+conformance.Verdict(results))
	}
	if err == nil && !conformance.Kept(results) {
		err = errNotKept
	}
	return err
}

// read fills in what is in files.
func (f conformanceFlags) read(c *cobra.Command, cfg *conformance.Config) error {
	if cfg.BaseURL == "" {
		return errors.New("--base-url URL is missing")
	}
	if f.token != "" && f.tokenFile != "" {
		return errors.New("--token and --token-file exclude each other")
	}
	cfg.Token = secret.New(f.token)
	if f.token == "" {
		cfg.Token = secret.Text{}
	}
	for _, w := range []struct {
		flag, file string
		into       *secret.Text
	}{
		{"--token-file", f.tokenFile, &cfg.Token}, {"--other-token-file", f.otherFile, &cfg.OtherToken},
		{"--expired-token-file", f.expiredFile, &cfg.ExpiredToken}, {"--id-token-file", f.idFile, &cfg.IDToken},
		{"--ehr-token-file", f.ehrFile, &cfg.EHRToken}, {"--callback-secret-file", f.secretFile, &cfg.CallbackSecret},
	} {
		if w.file == "" {
			continue
		}
		word, err := readWord(c, w.file)
		if err != nil {
			return fmt.Errorf("%s: %w", w.flag, err)
		}
		*w.into = secret.New(word)
	}
	if f.caFile == "" {
		return nil
	}
	pool, err := orgconfig.ReadAuthorities(f.caFile)
	if err != nil {
		return fmt.Errorf("--ca-file: %w", err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	cfg.HTTP = &http.Client{Transport: transport}
	return nil
}

// readWord reads one line without spaces from a file, or from standard input.
func readWord(c *cobra.Command, file string) (string, error) {
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(io.LimitReader(c.InOrStdin(), maxWordBytes))
	} else {
		text, err = orgconfig.ReadBounded(file, maxWordBytes)
	}
	if err != nil {
		return "", err
	}
	word := strings.TrimRight(string(text), "\r\n")
	if word == "" || strings.ContainsAny(word, " \t\r\n") {
		return "", errors.New("the file does not hold one line without spaces")
	}
	return word, nil
}
