//go:build unix

package audit

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"encounterlauncher/internal/problem"
)

func closedToOthers(info fs.FileInfo) bool { return info.Mode().Perm() == 0o600 }

func TestAFolderOpenToOthersIsRefusedWithoutItsPath(t *testing.T) {
	d := newDesk(t)
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(d.dir, "agent-1.jsonl", nil, d.now); problem.CodeOf(err) != problem.Internal {
		t.Errorf("got %v", err)
	}
	if err := os.Chmod(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(d.dir, "agent-1.jsonl"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Open(d.dir, "agent-1.jsonl", nil, d.now)
	if problem.CodeOf(err) != problem.Internal || strings.Contains(problem.Of(err).LogValue().String(), d.dir) {
		t.Errorf("got %v", problem.Of(err).LogValue())
	}
}
