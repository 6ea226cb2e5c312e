package tokenstore

import "io/fs"

// closedToOthers has nothing to look at: what closes the folder to others is the
// access list that it inherits from %LOCALAPPDATA%, and no mode.
func closedToOthers(fs.FileInfo) bool { return true }
