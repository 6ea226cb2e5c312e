package canary

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestAMarkIsFoundInAPropertyOfAWindowAndInWhatCanBePasted(t *testing.T) {
	server := exec.Command("Xvfb", "-displayfd", "1", "-screen", "0", "320x200x24", "-nolisten", "tcp", "-noreset")
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	number, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	command := func(ctx context.Context, name string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env = append(os.Environ(), "DISPLAY=:"+strings.TrimSpace(number))
		return cmd
	}
	before := newEvidence()
	before.display(t.Context(), command)
	if found := holds(before); len(found) > 0 || len(before.items) < 4 {
		t.Fatalf("nothing is planted, and found in %v; %d items were read", found, len(before.items))
	}
	if said, err := command(t.Context(), "xprop", "-root", "-f", "WM_NAME", "8s", "-set", "WM_NAME", "Encounter of "+testToken).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	for _, selection := range []string{"clipboard", "primary"} {
		// It goes on in the background and ends with the display.
		copied := command(t.Context(), "xclip", "-selection", selection, "-i")
		copied.Stdin = strings.NewReader("born " + testDay)
		if err := copied.Run(); err != nil {
			t.Fatal(err)
		}
	}
	after := newEvidence()
	after.display(t.Context(), command)
	if found := holds(after); !found[WindowTitles] || !found[Clipboard] {
		t.Errorf("found in %v only", found)
	}
}
