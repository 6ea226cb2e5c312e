// Command policyfiles writes what internal/policyfiles makes into the tree:
// templates, schema and pages. “go generate ./internal/policyfiles” runs it.
//
// It never writes below another folder than the one that holds go.mod above it.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"encounterlauncher/internal/policyfiles"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "policyfiles:", err)
		os.Exit(1)
	}
}

func run() error {
	root, err := os.Getwd()
	for err == nil {
		if _, missing := os.Stat(filepath.Join(root, "go.mod")); missing == nil {
			break
		}
		if filepath.Dir(root) == root {
			return fmt.Errorf("there is no go.mod here or above")
		}
		root = filepath.Dir(root)
	}
	if err != nil {
		return err
	}
	files, err := policyfiles.Files()
	if err != nil {
		return err
	}
	for name, text := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
