package cli

import "github.com/spf13/cobra"

// letExplorerIn turns off cobra's refusal of a program that Explorer started:
// the Start menu is how people open the window.
func letExplorerIn() { cobra.MousetrapHelpText = "" }
