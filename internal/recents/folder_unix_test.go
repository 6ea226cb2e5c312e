//go:build unix

// On Windows the folder inherits its access list; modes say nothing there.

package recents

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"encounterlauncher/internal/problem"
)

func TestTheListAndItsFolderAreClosedToOthers(t *testing.T) {
	w := newWorld(t)
	add(t, w.open("issuer dr-a"), encounter(1))
	names := w.files()
	if len(names) != 1 {
		t.Fatalf("files %v", names)
	}
	if info, err := os.Stat(filepath.Join(w.dir, names[0])); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if folder, err := os.Stat(w.dir); err != nil || folder.Mode().Perm() != 0o700 {
		t.Errorf("folder %v, %v", folder.Mode(), err)
	}
}

func TestAFolderOpenToOthersIsRefused(t *testing.T) {
	w := newWorld(t)
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := w.open("issuer dr-a").Add(context.Background(), encounter(1)); problem.CodeOf(err) != problem.Internal {
		t.Errorf("got %v", err)
	}
	if names := w.files(); len(names) != 0 {
		t.Errorf("wrote %v", names)
	}
}
