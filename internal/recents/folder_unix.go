//go:build unix

package recents

import (
	"fmt"
	"os"
)

// syncFolder makes a rename survive a power cut.
func syncFolder(dir string) error {
	opened, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening the folder: %w", err)
	}
	defer opened.Close()
	if err := opened.Sync(); err != nil {
		return fmt.Errorf("syncing the folder: %w", err)
	}
	return nil
}
