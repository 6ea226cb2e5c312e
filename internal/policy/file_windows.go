package policy

import "os"

func openPlain(path string) (*os.File, error) { return os.Open(path) }

// openWithoutLinks is openPlain: on Windows only the demo reads policy from a
// file, out of its own folder.
func openWithoutLinks(path string) (*os.File, error) { return os.Open(path) }

func isLink(error) bool { return false }
