//go:build supply

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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

func TestThePageForTheSecurityOfficerSaysWhatThePartsReallyAre(t *testing.T) {
	repo := clone(t)
	page, err := os.ReadFile(filepath.Join(repo.root, "docs", "supply-chain.md"))
	if err != nil {
		t.Fatal(err)
	}
	for file, row := range map[string]string{
		"encounter-launcher": "`encounter-launcher`, Linux x64", "encounter-launcher-window": "`encounter-launcher-window`, Linux x64", "org-backend": "`org-backend`, Linux x64",
		"encounter-launcher.exe": "`encounter-launcher.exe`, Windows x64 and arm64", "arm64/encounter-launcher.exe": "`encounter-launcher.exe`, Windows x64 and arm64",
		"encounter-launcher.com": "`encounter-launcher.com`, Windows x64 and arm64", "arm64/encounter-launcher.com": "`encounter-launcher.com`, Windows x64 and arm64",
	} {
		p, err := repo.read(filepath.Join(repo.root, "build", "bin", filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		npm := "–"
		if n := len(slices.DeleteFunc(slices.Clone(p.parts), func(of part) bool { return of.kind != "npm" })); n > 0 {
			npm = strconv.Itoa(n)
		}
		if want := fmt.Sprintf("| %s | %d | %s |", row, len(p.parts), npm); !strings.Contains(string(page), want) {
			t.Errorf("docs/supply-chain.md does not say %s", want)
		}
	}
}
