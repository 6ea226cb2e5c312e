//go:build supply

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestThePagesContainWhatTheBundlerPutThereAndNoTool(t *testing.T) {
	pages, err := repository(t).bundled()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range pages {
		names = append(names, p.name)
		if !strings.HasPrefix(p.sum, "sha512-") || len(p.texts) == 0 {
			t.Errorf("%s has the sum %q and %d texts", p.name, p.sum, len(p.texts))
		}
	}
	// Svelte's runtime, what it imports, and the bundler's own helper.
	if want := []string{"clsx", "svelte", "vite"}; !slices.Equal(names, want) {
		t.Errorf("the pages contain %v, not %v: say in docs/dependencies.md what is new there", names, want)
	}
}

func TestPagesOfAnotherStateOfTheTreeAreNotDescribed(t *testing.T) {
	repo := repository(t)
	stray := filepath.Join(repo.root, "frontend", "dist", "stray.js")
	if err := os.WriteFile(stray, []byte("0"), 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(stray)
	if _, err := repo.bundled(); err == nil || !strings.Contains(err.Error(), "stray.js differs") {
		t.Errorf("it ended with %v", err)
	}
}
