//go:build !linux

package doctor

import "context"

// missingLibraries: what the window needs beside its own program is part of the system.
func missingLibraries(context.Context, string) ([]string, error) { return nil, nil }
