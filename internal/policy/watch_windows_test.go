package policy

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/windows/registry"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

// noFolders are folders that do not exist: the person has chosen nothing.
func noFolders() paths.Layout {
	return paths.Under(filepath.Join(os.TempDir(), "encounter-launcher-has-no-such-folder"), "")
}

func TestTheRegistryTellsOfAChangeHoweverAKeyComesAndGoes(t *testing.T) {
	ownHives(t)
	// The poll never comes on this clock: only what the registry tells is heard.
	snapshots := listen(t, noFolders())
	code := func(want problem.Code) func(Snapshot) bool {
		return func(s Snapshot) bool { return codeOf(s) == want }
	}
	limit := func(want int, source string) func(Snapshot) bool {
		return func(s Snapshot) bool {
			return s.RecentsLimit == want && valueOf(t, s, "RecentsLimit").Source == source
		}
	}
	until(t, snapshots, code(problem.PolicyMissing))

	t.Log("a key that comes later, with those above it")
	set(t, registry.LOCAL_MACHINE, PoliciesKey, inRegistry)
	until(t, snapshots, code(""))
	t.Log("a value that is added, changed, of a wrong type, and taken out")
	set(t, registry.LOCAL_MACHINE, PoliciesKey, map[string]any{"RecentsLimit": 3})
	until(t, snapshots, limit(3, SourceMachine))
	set(t, registry.LOCAL_MACHINE, PoliciesKey, map[string]any{"RecentsLimit": 4})
	until(t, snapshots, limit(4, SourceMachine))
	set(t, registry.LOCAL_MACHINE, PoliciesKey, map[string]any{"BackendURL": 1})
	until(t, snapshots, code(problem.PolicyInvalid))
	set(t, registry.LOCAL_MACHINE, PoliciesKey, inRegistry)
	until(t, snapshots, code(""))
	set(t, registry.LOCAL_MACHINE, PoliciesKey, map[string]any{"RecentsLimit": nil})
	until(t, snapshots, limit(10, SourceBuiltIn))
	t.Log("a key that goes, and comes again")
	removeTree(t, registry.LOCAL_MACHINE, PoliciesKey)
	until(t, snapshots, code(problem.PolicyMissing))
	set(t, registry.LOCAL_MACHINE, PoliciesKey, inRegistry)
	until(t, snapshots, code(""))
	set(t, registry.LOCAL_MACHINE, PoliciesKey, map[string]any{"RecentsLimit": 5})
	until(t, snapshots, limit(5, SourceMachine))
	t.Log("the key above it goes, and comes again")
	removeTree(t, registry.LOCAL_MACHINE, `Software\Policies`)
	until(t, snapshots, code(problem.PolicyMissing))
	set(t, registry.LOCAL_MACHINE, PoliciesKey, inRegistry)
	until(t, snapshots, code(""))
	t.Log("the user's policy, and the installer's defaults")
	set(t, registry.CURRENT_USER, PoliciesKey, map[string]any{"RecentsLimit": 6})
	until(t, snapshots, limit(6, SourceUser))
	set(t, registry.LOCAL_MACHINE, DefaultsKey, map[string]any{"LogLevel": "debug"})
	until(t, snapshots, func(s Snapshot) bool { return s.LogLevel == "debug" })
	removeTree(t, registry.CURRENT_USER, PoliciesKey)
	until(t, snapshots, limit(10, SourceBuiltIn))
}

func TestAWatchOfTheRegistryEndsWithItsContext(t *testing.T) {
	ownHives(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	armed := make(chan error, 1)
	go func() { ended <- listenToRegistry(ctx, func() {}, armed) }()
	if err := <-armed; err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
