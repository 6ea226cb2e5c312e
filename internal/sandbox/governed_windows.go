package sandbox

import (
	"errors"

	"golang.org/x/sys/windows/registry"
)

// governedByRegistry reports whether the machine's policy key exists, or whether
// that cannot be told.
func governedByRegistry() bool {
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, `Software\Policies\EncounterLauncher`, registry.QUERY_VALUE)
	if err != nil {
		return !errors.Is(err, registry.ErrNotExist)
	}
	_ = key.Close()
	return true
}
