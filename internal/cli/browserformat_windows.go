package cli

import "encounterlauncher/internal/browserpolicy"

// browserFormat is how browsers are managed here.
const browserFormat = browserpolicy.Reg
