package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestACrashWritesNoMemoryToTheDisk runs itself in a process whose limit for cores is
// as high as this user may have it.
func TestACrashWritesNoMemoryToTheDisk(t *testing.T) {
	if os.Getenv("ORG_BACKEND_TEST_CORE") != "" {
		withoutCore()
		limits, err := os.ReadFile("/proc/self/limits")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(limits), "Max core file size")
		if fields := strings.Fields(rest); len(fields) < 2 || fields[0] != "0" {
			t.Errorf("a core may be written:\n%s", limits)
		}
		return
	}
	cmd := exec.Command("/bin/sh", "-c", `ulimit -S -c "$(ulimit -H -c)"; exec "$0" -test.run '^TestACrashWritesNoMemoryToTheDisk$'`, os.Args[0])
	cmd.Env = append(os.Environ(), "ORG_BACKEND_TEST_CORE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
