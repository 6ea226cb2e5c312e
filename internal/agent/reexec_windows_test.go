package agent

import (
	"strings"
	"testing"
)

func TestTheUpgradedAgentWorksInTheSystemsFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	if dir := again("launcher").Dir; !strings.HasSuffix(strings.ToLower(dir), `\system32`) {
		t.Errorf("%q", dir)
	}
}
