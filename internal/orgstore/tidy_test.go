package orgstore

import (
	"fmt"
	"testing"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

func TestTidyingLosesNothingAndHandlesGoOn(t *testing.T) {
	c := shared(t, orgconfig.NATS{})
	h, _ := opened(t, c)
	other, _ := opened(t, c) // it remembers nothing, and reads
	s := streamOf(t, h)
	mint(t, h, "first")
	s.tidy()
	look(t, other, "first")
	if !s.tidying.Load() {
		t.Error("with a handle left it will not look again")
	}
	if err := s.stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	info, err := s.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A handle that comes between looking and letting go stays.
	mint(t, h, "between")
	if err := s.drop(t.Context(), info.State.LastSeq); err != nil {
		t.Fatal(err)
	}
	wants(t, "one that came between", other.Redeem(t.Context(), look(t, other, "between"), Spender{"s-1", "k-1"}), "")
	if err := s.stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.tidy()
	if s.tidying.Load() {
		t.Error("without a handle it looks again")
	}
	mint(t, h, "after")
	wants(t, "one that came after", other.Redeem(t.Context(), look(t, other, "after"), Spender{"s-1", "k-2"}), "")
	wants(t, "again by another", other.Redeem(t.Context(), look(t, other, "after"), Spender{"s-2", "k-2"}), problem.HandleSpent)
}

func TestWhatIsRememberedOfMintedHandlesStaysWithinItsBounds(t *testing.T) {
	name := func(n int) string { return fmt.Sprint("name-", n) }
	for size, most := range map[int]int{1: 2 * mintedCount, 1 << 10: 2 * mintedBytes >> 10} {
		m := minted{half: life}
		for n := range 5 * mintedCount {
			m.keep(Ticket{name: name(n)}, size)
			if got := len(m.young) + len(m.older); got > most {
				t.Fatalf("%d of %d bytes are remembered", got, size)
			}
		}
		if _, ok := m.find(name(5*mintedCount - 1)); !ok {
			t.Error("the newest is forgotten")
		}
		m.tick()
		m.tick()
		if _, ok := m.find(name(5*mintedCount - 1)); ok || m.ticking {
			t.Error("a handle is remembered for longer than it lives")
		}
	}
}
