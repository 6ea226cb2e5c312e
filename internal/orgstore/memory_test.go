package orgstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

// inMemory are handles on a shelf of their own.
func inMemory(kept time.Duration, limit int64) (*Handles, *memory, *clock) {
	m, k := newMemory(kept, limit), &clock{}
	return &Handles{shelf: m, life: life, now: k.now, minted: &minted{half: life / 2}}, m, k
}

func TestWhatLiesInMemoryIsKeptForItsTimeAndThenGoesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const kept = 20 * time.Minute
		h, m, k := inMemory(kept, HandleBytes)
		defer m.close()
		const n = 300
		begun := time.Now()
		for i := range n {
			name := fmt.Sprint("handle-", i)
			mint(t, h, name)
			if i%2 == 0 {
				wants(t, name, h.Redeem(t.Context(), look(t, h, name), Spender{"s-1", name}), "")
			}
			time.Sleep(kept / n)
			k.advance(kept / n)
		}
		held := func(i int) bool {
			ticket, err := m.read(t.Context(), handleName(fmt.Sprint("handle-", i)))
			if err != nil {
				t.Fatal(err)
			}
			return ticket.revision > 0
		}
		for i := range n {
			if age := time.Since(begun) - time.Duration(i)*(kept/n); age <= kept && !held(i) {
				t.Fatalf("after %v handle %d is gone", age, i)
			}
		}
		// Nobody asks for anything: what is due goes all the same.
		time.Sleep(kept/2 + kept/drawers)
		if held(0) || !held(n-1) {
			t.Error("half of the time later the oldest should be gone, and the newest there")
		}
		time.Sleep(kept/2 + time.Second)
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.drawers) > 0 || m.used != 0 {
			t.Errorf("after all its time %d bytes in %d drawers are left", m.used, len(m.drawers))
		}
	})
}

func TestAClockThatIsSetForgetsNothing(t *testing.T) {
	h, m, k := inMemory(20*time.Minute, HandleBytes)
	defer m.close()
	by := Spender{"s-1", "k-1"}
	wants(t, "a signed request", h.RedeemJTI(t.Context(), "ehr", "jti", h.now().Add(5*time.Minute), "a.b.c", by), "")
	k.advance(48 * time.Hour)
	mint(t, h, "later")
	k.advance(-48 * time.Hour)
	wants(t, "the same by another key", h.RedeemJTI(t.Context(), "ehr", "jti", h.now().Add(5*time.Minute), "a.b.c", Spender{"s-1", "k-2"}), problem.HandleSpent)
}

func TestALaunchOfAnySizeComesBackAsItWas(t *testing.T) {
	h, m, _ := inMemory(20*time.Minute, HandleBytes)
	defer m.close()
	want := map[string]Launch{}
	for i, size := range []int{0, 1, 700, leastChunk - 1, leastChunk, leastChunk + 1, mostChunk, mostChunk + 1, 3, 2 * mostChunk, 5} {
		note := strings.Repeat(fmt.Sprint(i%10), size)
		l := launch("E-1")
		l.Request.UnstructuredContext = &note
		name := fmt.Sprint("handle-", i)
		if err := h.Mint(t.Context(), name, l); err != nil {
			t.Fatal(err)
		}
		want[name] = l
	}
	for name, l := range want {
		got, err := m.read(t.Context(), handleName(name))
		if err != nil || !reflect.DeepEqual(got.Launch, l) {
			t.Errorf("%s: %v, %d bytes", name, err, len(got.launch))
		}
	}
	var all int64
	for _, d := range m.drawers {
		all += d.used
	}
	if all != m.used || m.used < 4*mostChunk {
		t.Errorf("%d bytes are counted, the drawers have %d", m.used, all)
	}
}

// What is decided must not depend on where it lies: the same steps, drawn by lot, come
// out alike on either shelf.
func TestBothShelvesDecideAlike(t *testing.T) {
	for seed := range uint64(8) {
		alone, clockAlone := opened(t, connect(t, orgconfig.NATS{}))
		sharing, clockShared := opened(t, shared(t, orgconfig.NATS{}))
		lots := rand.New(rand.NewPCG(seed, 0))
		tickets := map[string][2]Ticket{}
		for step := range 400 {
			handle, key := fmt.Sprint("handle-", lots.IntN(12)), Spender{fmt.Sprint("s-", lots.IntN(2)), fmt.Sprint("k-", lots.IntN(12))}
			kind, text := lots.IntN(6), fmt.Sprint("text-", lots.IntN(3))
			d := time.Duration(lots.IntN(60)) * time.Second
			var kept [2]Ticket
			do := func(h *Handles, k *clock, i int) error {
				switch kind {
				case 0:
					return h.Mint(t.Context(), fmt.Sprint(handle, "-", step), launch(text))
				case 1, 2:
					var err error
					kept[i], err = h.Look(t.Context(), fmt.Sprint(handle, "-", lots1(seed, step)))
					return err
				case 3:
					if old, ok := tickets[handle]; ok {
						return h.Redeem(t.Context(), old[i], key)
					}
					return nil
				case 4:
					return h.RedeemJTI(t.Context(), "ehr", handle, h.now().Add(5*time.Minute), text, key)
				default:
					k.advance(d / 10)
					return h.Once(t.Context(), key, text)
				}
			}
			a, b := do(alone, clockAlone, 0), do(sharing, clockShared, 1)
			if code(a) != code(b) {
				t.Fatalf("seed %d, step %d, kind %d: alone %v, shared %v", seed, step, kind, a, b)
			}
			if kind == 1 || kind == 2 {
				if a == nil && !reflect.DeepEqual(kept[0].Launch, kept[1].Launch) {
					t.Fatalf("seed %d, step %d: %+v and %+v", seed, step, kept[0].Launch, kept[1].Launch)
				}
				if a == nil {
					tickets[handle] = kept
				}
			}
		}
		if len(tickets) == 0 {
			t.Errorf("seed %d: no handle was ever found", seed)
		}
	}
}

// lots1 draws an earlier step, the same for both.
func lots1(seed uint64, step int) int {
	return rand.New(rand.NewPCG(seed, uint64(step))).IntN(step + 1)
}

func code(err error) problem.Code {
	var p *problem.Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return ""
}
