package control

import (
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

func TestTwoUsersOrTwoSessionsNeverShareAPipe(t *testing.T) {
	one := identity{sid: "S-1-5-21-1-2-3-1001", session: 1}
	names := map[string]bool{}
	for _, name := range []string{
		pipeName("encounter-launcher", one),
		pipeName("encounter-launcher", identity{sid: one.sid, session: 2}),
		pipeName("encounter-launcher", identity{sid: "S-1-5-21-1-2-3-1002", session: 1}),
		pipeName("encounter-launcher-demo", one),
	} {
		if names[name] || !strings.HasPrefix(name, `\\.\pipe\encounter-launcher`) {
			t.Errorf("%s", name)
		}
		names[name] = true
	}
}

func TestAClientAsksForNoMoreThanTheSystemsAccountIsGiven(t *testing.T) {
	const makeInstances = 0x4 // FILE_CREATE_PIPE_INSTANCE, which is part of GENERIC_WRITE
	if pipeAccess&makeInstances != 0 || pipeAccess&(windows.FILE_READ_DATA|windows.FILE_WRITE_DATA) != windows.FILE_READ_DATA|windows.FILE_WRITE_DATA {
		t.Errorf("%#x", pipeAccess)
	}
}

func TestTheAccessListsOfTwoUsersHaveNothingInCommonButTheSystem(t *testing.T) {
	one, two := pipeSDDL("S-1-5-21-1-2-3-1001"), pipeSDDL("S-1-5-21-1-2-3-1002")
	if strings.Contains(one, "1002") || strings.Contains(two, "1001") || strings.ReplaceAll(one, "1001", "1002") != two {
		t.Errorf("%s\n%s", one, two)
	}
}

func TestTheAccessListOfThePipeNamesTheUserAndTheSystemAndNobodyElse(t *testing.T) {
	const sid = "S-1-5-21-1-2-3-1001"
	want := "D:P(D;;GA;;;NU)(A;;GA;;;" + sid + ")(A;;0x12019b;;;SY)"
	if got := pipeSDDL(sid); got != want {
		t.Errorf("got %s", got)
	}
	if _, err := windows.SecurityDescriptorFromString(want); err != nil {
		t.Error(err)
	}
}
