package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"encounterlauncher/internal/problem"
)

// crashing is a keyring whose process dies: `left` more operations are carried
// out, and nothing after them.
type crashing struct {
	*memory
	left int
}

var errCrashed = errors.New("the process is gone")

func (c *crashing) spend() error {
	if c.left == 0 {
		return errCrashed
	}
	c.left--
	return nil
}

func (c *crashing) Get(service, user string) (string, error) {
	if err := c.spend(); err != nil {
		return "", err
	}
	return c.memory.Get(service, user)
}

func (c *crashing) Set(service, user, value string) error {
	if err := c.spend(); err != nil {
		return err
	}
	return c.memory.Set(service, user, value)
}

func (c *crashing) Delete(service, user string) error {
	if err := c.spend(); err != nil {
		return err
	}
	return c.memory.Delete(service, user)
}

func copyOf(m *memory) *memory { return &memory{items: maps.Clone(m.items)} }

// newTornStore has a standing clock: a write after a crash may come in the same
// millisecond.
func newTornStore(k Keyring) *Store {
	s := New(k, testService, "", time.Minute)
	s.now = func() time.Time { return time.UnixMilli(1_800_000_000_000) }
	return s
}

// mustHold fails unless the keyring holds exactly the items of one value.
func mustHold(t *testing.T, m *memory, e Entry) {
	t.Helper()
	payload, err := encodeEntry(e)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{headItem}
	_, parts, err := compose(e.Generation, 0, payload)
	if err != nil {
		t.Fatal(err)
	}
	for i := range parts {
		want = append(want, partItem(e.Generation, i))
	}
	var got []string
	for key := range m.items {
		got = append(got, key[1])
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("the keyring holds %v, want %v", got, want)
	}
}

func TestAWriteTornAtAnyOperationLeavesTheValueBeforeReadable(t *testing.T) {
	ctx := context.Background()
	sizes := []int{-1, 20, 2500, 6000} // characters of the token; -1: no value
	crashes := 0
	for _, before := range sizes {
		for _, torn := range sizes[1:] {
			for n := 0; ; n++ {
				m := &memory{items: map[[2]string]string{}}
				var old Entry
				if before >= 0 {
					old = save(t, newTornStore(m), entryOf(before, "old"))
				}
				tornEntry := entryOf(torn, "torn")
				_, err := newTornStore(&crashing{m, n}).Save(ctx, tornEntry)
				completed := err == nil
				got, found, loadErr := newTornStore(m).Load(ctx)
				if loadErr != nil {
					t.Fatalf("%d→%d, crash after %d: %v", before, torn, n, loadErr)
				}
				switch {
				case found && sameEntry(got, tornEntry):
				case completed:
					t.Fatalf("%d→%d, crash after %d: a write that succeeded is lost", before, torn, n)
				case before < 0 && !found:
				case before >= 0 && found && sameEntry(got, old) && got.Generation == old.Generation:
				default:
					t.Fatalf("%d→%d, crash after %d: found %v, neither value", before, torn, n, found)
				}
				// A second crash, in the next write, and then one that ends well.
				for _, next := range sizes[1:] {
					for second := 0; second < 12; second += 3 {
						again := copyOf(m)
						_, _ = newTornStore(&crashing{again, second}).Save(ctx, entryOf(next, "second"))
						if _, _, err := newTornStore(again).Load(ctx); err != nil {
							t.Fatalf("%d→%d→%d, crash after %d and %d: %v", before, torn, next, n, second, err)
						}
						last := save(t, newTornStore(again), entryOf(20, "last"))
						if last.Generation <= got.Generation {
							t.Fatalf("generation %d after %d", last.Generation, got.Generation)
						}
						mustHoldAfterOneMore(t, again)
						crashes++
					}
				}
				if err := newTornStore(m).Delete(ctx); err != nil {
					t.Fatal(err)
				}
				if len(m.items) != 0 {
					t.Fatalf("%d→%d, crash after %d: Delete leaves %v", before, torn, n, slices.Collect(maps.Keys(m.items)))
				}
				if completed && n > 40 {
					t.Fatal("no operation was refused")
				}
				if completed {
					break
				}
			}
		}
	}
	if crashes < 100 {
		t.Errorf("only %d crashes were tried", crashes)
	}
}

// mustHoldAfterOneMore checks that the write which just ended well left nothing
// of torn ones behind.
func mustHoldAfterOneMore(t *testing.T, m *memory) {
	t.Helper()
	got, found, err := newTornStore(m).Load(context.Background())
	if err != nil || !found {
		t.Fatalf("found %v, %v", found, err)
	}
	mustHold(t, m, got)
}

func TestASignOutTornAtAnyOperationIsEndedByTheNext(t *testing.T) {
	ctx := context.Background()
	for _, size := range []int{20, 6000} {
		for n := 0; n < 20; n++ {
			m := &memory{items: map[[2]string]string{}}
			old := save(t, newTornStore(m), entryOf(size, "old"))
			// Leftovers of a torn write lie beside it.
			_, _ = newTornStore(&crashing{m, 4}).Save(ctx, entryOf(9000, "torn"))
			_ = newTornStore(&crashing{m, n}).Delete(ctx)
			got, found, err := newTornStore(m).Load(ctx)
			if err != nil || found && !sameEntry(got, old) {
				t.Fatalf("size %d, crash after %d: found %v, %v", size, n, found, err)
			}
			if err := newTornStore(m).Delete(ctx); err != nil || len(m.items) != 0 {
				t.Fatalf("size %d, crash after %d: %v, left %v", size, n, err, slices.Collect(maps.Keys(m.items)))
			}
		}
	}
}

func TestALoadDuringAWriteAnswersTheValueBeforeOrAfter(t *testing.T) {
	ctx := context.Background()
	m := Memory()
	s := newTornStore(m)
	save(t, s, entryOf(6000, "0"))
	done := make(chan error, 1)
	go func() {
		for i := range 200 {
			if _, err := s.Save(ctx, entryOf([]int{6000, 20, 9000}[i%3], fmt.Sprint(i))); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	reader := newTornStore(m)
	var last uint64
	for {
		e, found, err := reader.Load(ctx)
		if err != nil || !found || e.Generation < last {
			t.Fatalf("found %v, %v, generation %d after %d", found, err, e.Generation, last)
		}
		last = e.Generation
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
	}
}

func TestNoItemIsLongerThanAPlatformStores(t *testing.T) {
	ctx := context.Background()
	for size := 0; size < 12000; size += 37 {
		m := &memory{items: map[[2]string]string{}}
		if _, err := newTornStore(m).Save(ctx, entryOf(size, "a")); err != nil {
			t.Fatal(err)
		}
		for key, value := range m.items {
			if len(value) > 2000 || !utf8.ValidString(value) {
				t.Fatalf("size %d: item %s has %d bytes, UTF-8 %v", size, key[1], len(value), utf8.ValidString(value))
			}
		}
	}
}

func TestASignInThatCannotBeStoredAsItIsIsRefused(t *testing.T) {
	ctx := context.Background()
	k := Memory()
	s := newStore(t, k)
	for name, e := range map[string]Entry{
		"no token":     {Issuer: "i"},
		"no UTF-8":     entryOf(20, "\xff"),
		"far too long": entryOf(200_000, "a"),
	} {
		if _, err := s.Save(ctx, e); problem.CodeOf(err) != problem.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(k.(*memory).items); n != 0 {
		t.Errorf("a refused sign-in left %d items", n)
	}
}

func FuzzWhatAKeyringAnswersIsASignInOrCorrupt(f *testing.F) {
	whole, _, _ := compose(7, 0, `{"refresh":"r"}`)
	for _, seed := range []string{"", "{", whole, `{"v":1,"gen":7,"parts":3,"sum":""}`, `{"v":1,"gen":7,"empty":true}`, strings.Replace(whole, "7", "8", 1)} {
		f.Add(seed, "part")
	}
	f.Fuzz(func(t *testing.T, headText, part string) {
		m := &memory{items: map[[2]string]string{{testService, headItem}: headText, {testService, partItem(7, 0)}: part}}
		before := maps.Clone(m.items)
		s := newTornStore(m)
		e, found, err := s.Load(context.Background())
		if err != nil && problem.CodeOf(err) != problem.KeyringCorrupt {
			t.Fatalf("outcome %v", err)
		}
		if found && (e.Refresh.Empty() || e.Generation == 0) {
			t.Fatal("a sign-in without token or generation")
		}
		if !maps.Equal(before, m.items) {
			t.Fatal("reading changed the keyring")
		}
		want := save(t, s, entryOf(2500, "new"))
		if got, found, err := s.Load(context.Background()); err != nil || !found || !sameEntry(got, want) {
			t.Fatalf("a new sign-in over it: found %v, %v", found, err)
		}
	})
}
