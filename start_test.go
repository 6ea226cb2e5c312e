package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestTheAgentWorksInNoFolderOfWhoStartedIt(t *testing.T) {
	caller := t.TempDir()
	t.Chdir(caller)
	dir := agentProcess("launcher").Dir
	if !filepath.IsAbs(dir) || dir == caller || strings.HasPrefix(dir, caller+string(filepath.Separator)) {
		t.Errorf("%q", dir)
	}
}
