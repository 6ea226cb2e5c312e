package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgserver"
)

func checkConfig() *cobra.Command {
	c := &cobra.Command{
		Use:   "check-config [--config FILE]",
		Short: "Say whether a configuration and the files that it names can be used",
		Long: "Say everything that is wrong with a configuration and the files that it names, with the\n" +
			"line of each fault, and warn of what is seldom meant. Nothing is started. With --connect\n" +
			"also ask the services that it names whether they answer us.",
		Example: "  org-backend check-config --config /etc/org-backend/config.yaml --connect",
		Args:    func(_ *cobra.Command, args []string) error { return none(args) },
	}
	file := configFlag(c)
	connect := c.Flags().Bool("connect", false, "also ask issuer, Nabla, FHIR server and NATS cluster")
	c.RunE = func(c *cobra.Command, _ []string) error {
		name, err := configOf(*file)
		if err != nil {
			return err
		}
		cfg, err := orgconfig.Load(name)
		var form *orgconfig.FormError
		if err != nil && !errors.As(err, &form) {
			return err
		}
		lines := orgconfig.Lines(name)
		if all := allFaults(cfg, form, lines); len(all) > 0 {
			return errors.New("the configuration cannot be used:\n  " + strings.Join(all, "\n  "))
		}
		out := c.OutOrStdout()
		for _, warning := range cfg.Warnings() {
			if _, err := fmt.Fprintln(out, "warning:", orgconfig.At(lines, warning)); err != nil {
				return err
			}
		}
		if *connect {
			if err := connected(c, cfg, lines); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintln(out, "the configuration can be used")
		return err
	}
	return c
}

// connected prints how each service answers.
func connected(c *cobra.Command, cfg orgconfig.Config, lines map[string]int) error {
	failed := 0
	for _, p := range orgserver.Probe(c.Context(), cfg, orgserver.Deps{}) {
		said := "answers"
		if p.Err != nil {
			failed++
			said = strings.TrimPrefix(p.Err.Error(), p.Key+": ")
		}
		if _, err := fmt.Fprintln(c.OutOrStdout(), orgconfig.At(lines, p.Key+": "+said)); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("the configuration can be used, and %d of the services that it names do not answer as they should", failed)
	}
	return nil
}

// allFaults says everything that is wrong, in the order of the file's lines; what is
// missing in it comes last. Of a line whose form is wrong nothing more is said.
func allFaults(cfg orgconfig.Config, form *orgconfig.FormError, lines map[string]int) []string {
	var all []string
	malformed := map[string]bool{}
	if form != nil {
		all = append(all, form.Faults...)
		for _, fault := range form.Faults {
			line, _, _ := strings.Cut(fault, ": ")
			malformed[line] = true
		}
		if !form.Read {
			return append(all, "the rest is looked at once this is mended")
		}
	}
	if err := orgserver.Check(cfg); err != nil {
		for text := range strings.SplitSeq(err.Error(), "\n") {
			fault := orgconfig.At(lines, strings.TrimPrefix(text, "configuration: "))
			if line, _, _ := strings.Cut(fault, ": "); !malformed[line] {
				all = append(all, fault)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b string) int { return cmp.Compare(lineOf(a), lineOf(b)) })
	return all
}

func lineOf(fault string) int {
	line := math.MaxInt
	_, _ = fmt.Sscanf(fault, "line %d:", &line) // else it names no line
	return line
}

func configReference() *cobra.Command {
	c := &cobra.Command{
		Use:   "config-reference",
		Short: "Print every key of the configuration with its type, default and meaning",
		Example: "  org-backend config-reference\n" +
			"  org-backend config-reference --example --output config.yaml",
		Args: func(_ *cobra.Command, args []string) error { return none(args) },
	}
	example := c.Flags().Bool("example", false, "print a commented configuration instead, to start from")
	output := c.Flags().String("output", "", "write to this new file instead of printing")
	force := c.Flags().Bool("force", false, "write over the file of --output")
	c.RunE = func(c *cobra.Command, _ []string) error {
		text := orgconfig.Reference()
		if *example {
			text = orgconfig.Example()
		}
		if *output == "" {
			_, err := c.OutOrStdout().Write(text)
			return err
		}
		flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
		if *force {
			flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
		}
		file, err := os.OpenFile(*output, flags, 0o644)
		if errors.Is(err, fs.ErrExist) {
			return errors.New("that file is there already, and may be your configuration; --force writes over it")
		}
		if err != nil {
			return err
		}
		_, err = file.Write(text)
		return errors.Join(err, file.Close())
	}
	return c
}
