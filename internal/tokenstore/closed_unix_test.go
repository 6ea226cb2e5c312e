//go:build unix

package tokenstore

import "io/fs"

func closedToOthers(folder fs.FileInfo) bool { return folder.Mode().Perm() == 0o700 }
