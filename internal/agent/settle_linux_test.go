package agent

import (
	"os"
	"slices"
	"testing"
)

func TestOnlyMappingsThatAreWhatTheFileSaysAreLetGo(t *testing.T) {
	const smaps = `00400000-00800000 r-xp 00000000 fe:00 42 /usr/bin/encounter-launcher
Size:               4096 kB
Anonymous:             0 kB
00800000-00900000 r--p 00400000 fe:00 42 /usr/bin/encounter-launcher
Anonymous:            16 kB
00900000-00a00000 rw-p 00500000 fe:00 42 /usr/bin/encounter-launcher
Anonymous:             0 kB
00a00000-00b00000 r--p 00000000 fe:00 43 /usr/lib/other
Anonymous:             0 kB
00b00000-00c00000 r-xp 00000000 00:00 0
Anonymous:             0 kB
`
	got := cleanMappings(smaps, "/usr/bin/encounter-launcher")
	if !slices.Equal(got, []mapping{{0x400000, 0x800000}}) {
		t.Errorf("got %x", got)
	}
}

func TestTheProgramGoesOnAfterLettingGoOfItsOwnCode(t *testing.T) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	if len(cleanMappings(string(smaps), self)) == 0 {
		t.Fatal("nothing of this program would be let go of")
	}
	releaseProgram()
	if got := labelFor("initials", "Testa Example"); got != "T. E." {
		t.Errorf("got %q", got)
	}
}
