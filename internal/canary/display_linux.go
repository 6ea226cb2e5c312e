package canary

import (
	"context"
	"os/exec"
	"regexp"
	"time"
)

var windowID = regexp.MustCompile(`0x[0-9a-f]+`)

// display reads every property of every window, and what can be pasted. command
// prepares a program that sees the display.
func (e *evidence) display(ctx context.Context, command func(ctx context.Context, name string, args ...string) *exec.Cmd) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tree, err := command(ctx, "xwininfo", "-root", "-tree").Output()
	if err != nil {
		return
	}
	e.add(WindowTitles, "tree of windows", tree)
	for _, id := range windowID.FindAllString(string(tree), -1) {
		if properties, err := command(ctx, "xprop", "-id", id).Output(); err == nil {
			e.add(WindowTitles, "properties", properties)
		}
	}
	for _, selection := range []string{"clipboard", "primary", "secondary"} {
		out, err := command(ctx, "xclip", "-selection", selection, "-o").CombinedOutput()
		if err != nil {
			out = append(out, "nothing: "+selection...) // nobody has copied anything
		}
		e.add(Clipboard, selection, out)
	}
}
