package notify

import (
	"errors"
	"testing"

	"golang.org/x/sys/windows/registry"
)

func TestWhatWindowsKnowsOfTheNoticesIsRemovedAndNothingElse(t *testing.T) {
	const mine, other = "encounter-launcher-of-the-test", "somebody-else-of-the-test"
	for _, id := range []string{mine, other} {
		k, _, err := registry.CreateKey(registry.CURRENT_USER, knownPrograms+id, registry.SET_VALUE)
		if err != nil {
			t.Fatal(err)
		}
		if err := k.SetStringValue("DisplayName", "x"); err != nil {
			t.Fatal(err)
		}
		_ = k.Close()
	}
	t.Cleanup(func() { _ = registry.DeleteKey(registry.CURRENT_USER, knownPrograms+other) })
	there := func(id string) bool {
		k, err := registry.OpenKey(registry.CURRENT_USER, knownPrograms+id, registry.QUERY_VALUE)
		if err != nil {
			if !errors.Is(err, registry.ErrNotExist) {
				t.Fatal(err)
			}
			return false
		}
		_ = k.Close()
		return true
	}
	// The second time there is nothing; without an id it would be everybody's.
	for _, id := range []string{mine, mine, ""} {
		if err := Remove(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	if there(mine) || !there(other) {
		t.Errorf("ours is there: %v; somebody else's is there: %v", there(mine), there(other))
	}
}
