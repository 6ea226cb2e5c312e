// linux-docs writes what the Linux packages say about the program: manual pages,
// completions of the shells, and the changelog.
//
// It writes from the program's own commands and table of policy keys, into one
// folder and nowhere else, the same bytes for the same tree and moment. It starts
// nothing and reads no policy.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/cli"
	"encounterlauncher/internal/paths"
)

func main() {
	if err := command().Execute(); err != nil {
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var version, maintainer, markdown string
	c := &cobra.Command{
		Use: "linux-docs FOLDER", Short: "Write manual pages, completions and changelog of the Linux packages", Args: cobra.ExactArgs(1), SilenceUsage: true,
		RunE: func(_ *cobra.Command, args []string) error {
			seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
			if err != nil {
				return errors.New("SOURCE_DATE_EPOCH is not set to a number of seconds")
			}
			text, err := os.ReadFile(markdown)
			if err != nil {
				return fmt.Errorf("reading the changelog: %w", err)
			}
			files, err := documents(version, maintainer, string(text), time.Unix(seconds, 0))
			if err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("creating the folder: %w", err)
			}
			for name, text := range files {
				if err := os.WriteFile(filepath.Join(args[0], name), []byte(text), 0o644); err != nil {
					return fmt.Errorf("writing %s: %w", name, err)
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&version, "version", "", "version of the package")
	c.Flags().StringVar(&maintainer, "maintainer", "", "maintainer of the package, as name and address")
	c.Flags().StringVar(&markdown, "changelog", "CHANGELOG.md", "the changelog to write from")
	for _, flag := range []string{"version", "maintainer"} {
		if err := c.MarkFlagRequired(flag); err != nil {
			panic(err)
		}
	}
	return c
}

// documents returns the text of every file by its name.
func documents(version, maintainer, markdown string, at time.Time) (map[string]string, error) {
	layout := paths.Of("")
	root := cli.Commands(cli.Program{Layout: layout, Version: version, Stdout: io.Discard, Stderr: io.Discard})
	changes, err := changelog(markdown, version, maintainer, at)
	if err != nil {
		return nil, err
	}
	files := map[string]string{
		"encounter-launcher.1":        programPage(root, version, layout, at),
		"encounter-launcher-window.1": windowPage(version, at),
		"encounter-launcher-policy.5": policyPage(layout, version, at),
		"changelog":                   changes,
	}
	for name, write := range map[string]func(io.Writer) error{
		"encounter-launcher.bash": func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"_encounter-launcher":     root.GenZshCompletion,
		"encounter-launcher.fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			return nil, fmt.Errorf("writing a completion: %w", err)
		}
		files[name] = b.String()
	}
	return files, nil
}
