//go:build unix

package policy

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

func replace(t *testing.T, file, text string) {
	t.Helper()
	write(t, file+".new", text, 0o644)
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func TestAChangeIsHeardHoweverTheFileComesAndGoes(t *testing.T) {
	l := paths.Under(t.TempDir(), "")
	file := l.MachinePolicyFile()
	dir := filepath.Dir(file)
	snapshots := listen(t, l)
	code := func(want problem.Code) func(Snapshot) bool {
		return func(s Snapshot) bool { return codeOf(s) == want }
	}
	limit := func(want int) func(Snapshot) bool {
		return func(s Snapshot) bool { return s.RecentsLimit == want }
	}
	until(t, snapshots, code(problem.PolicyMissing))

	write(t, file, goodPolicy, 0o644) // /etc and the folder in it come too
	until(t, snapshots, code(""))
	replace(t, file, with(t, "RecentsLimit", "3"))
	until(t, snapshots, limit(3))
	write(t, file, with(t, "RecentsLimit", "4"), 0o644)
	until(t, snapshots, limit(4))
	chmod(t, file, 0o666)
	until(t, snapshots, code(problem.PolicyInvalid))
	chmod(t, file, 0o644)
	until(t, snapshots, code(""))
	chmod(t, dir, 0o777)
	until(t, snapshots, code(problem.PolicyInvalid))
	chmod(t, dir, 0o755)
	until(t, snapshots, code(""))

	// A link in its place is not believed, wherever it leads; the file again is.
	if err := os.Rename(file, file+".real"); err != nil {
		t.Fatal(err)
	}
	until(t, snapshots, code(problem.PolicyMissing))
	if err := os.Symlink(file+".real", file); err != nil {
		t.Fatal(err)
	}
	until(t, snapshots, code(problem.PolicyInvalid))
	if err := os.Rename(file+".real", file); err != nil {
		t.Fatal(err)
	}
	until(t, snapshots, code(""))

	if err := os.Rename(dir, dir+".aside"); err != nil {
		t.Fatal(err)
	}
	until(t, snapshots, code(problem.PolicyMissing))
	write(t, filepath.Join(dir+".aside", "policy.json"), with(t, "RecentsLimit", "5"), 0o644)
	if err := os.Rename(dir+".aside", dir); err != nil {
		t.Fatal(err)
	}
	until(t, snapshots, limit(5))
	replace(t, file, with(t, "RecentsLimit", "6"))
	until(t, snapshots, limit(6))
	remove(t, filepath.Dir(dir))
	until(t, snapshots, code(problem.PolicyMissing))
	write(t, file, with(t, "RecentsLimit", "7"), 0o644)
	until(t, snapshots, limit(7))

	write(t, l.SettingsFile(), `{"Language":"de"}`, 0o600)
	until(t, snapshots, func(s Snapshot) bool { return s.Language == "de" && s.RecentsLimit == 7 })
	write(t, l.InstallerDefaultsFile(), `{"LogLevel":"debug"}`, 0o644)
	until(t, snapshots, func(s Snapshot) bool { return s.LogLevel == "debug" })
}

func TestThePollFindsWhatTheKernelDidNotTell(t *testing.T) {
	root := t.TempDir()
	l := paths.Under(filepath.Join(root, "a", "b"), "")
	polls := make(chan time.Time)
	clock := func(d time.Duration) <-chan time.Time {
		if d >= poll {
			return polls
		}
		return atOnce(d)
	}
	write(t, l.MachinePolicyFile(), goodPolicy, 0o644)
	snapshots := watch(t.Context(), func() Snapshot { return Load(l) }, func(ctx context.Context) <-chan struct{} {
		return changes(ctx, l, slog.New(slog.DiscardHandler), clock)
	}, atOnce, nil)
	until(t, snapshots, func(s Snapshot) bool { return s.LaunchProblem() == nil })
	// Nobody watches a folder that far above.
	if err := os.Rename(filepath.Join(root, "a"), filepath.Join(root, "z")); err != nil {
		t.Fatal(err)
	}
	polls <- time.Time{}
	until(t, snapshots, func(s Snapshot) bool { return s.LaunchProblem() != nil })
}

func TestOnlyWhatConcernsAFileIsHeard(t *testing.T) {
	files := []string{"/etc/encounter-launcher/policy.json"}
	for name, want := range map[string]bool{
		"/etc/encounter-launcher/policy.json": true, "/etc/encounter-launcher": true, "/etc": true, "/": true, "": true,
		"/etc/encounter-launcher/policy.json.new": false, "/etc/passwd": false, "/etc/encounter": false, "/etc/encounter-launcher/x": false,
	} {
		if concerns(name, files) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

func TestAWatchThatEndsClosesItsChannel(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	snapshots := Watch(ctx, paths.Under(t.TempDir(), ""), slog.New(slog.DiscardHandler), nil)
	if _, ok := <-snapshots; !ok {
		t.Fatal("no first snapshot")
	}
	stop()
	if s, ok := <-snapshots; ok {
		t.Errorf("a snapshot without a change: %+v", s.Findings)
	}
}
