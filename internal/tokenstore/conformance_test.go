package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

const testService = "encounter-launcher-test"

func newStore(t *testing.T, k Keyring) *Store {
	t.Helper()
	return New(k, testService, filepath.Join(t.TempDir(), "state", "user.lock"), 30*time.Second)
}

// entryOf makes a sign-in whose token has n characters, not all of them ASCII.
func entryOf(n int, mark string) Entry {
	return Entry{
		Issuer: "https://issuer.example", ClientID: "launcher", Binding: "binding-" + mark, Subject: "subject-" + mark,
		Email: "dr." + mark + "@clinic.example", Refresh: secret.New(mark + strings.Repeat("tö€n", n/4+1)),
		AuthTime: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC),
	}
}

func sameEntry(a, b Entry) bool {
	return a.Issuer == b.Issuer && a.ClientID == b.ClientID && a.Binding == b.Binding && a.Subject == b.Subject && a.Email == b.Email &&
		a.Refresh.Equal(b.Refresh) && a.AuthTime.Equal(b.AuthTime)
}

// conformance is what every keyring has to do for the store. It starts from, and
// leaves, a keyring without items of testService.
func conformance(t *testing.T, k Keyring) {
	ctx := context.Background()

	t.Run("an empty keyring is not found and no error", func(t *testing.T) {
		if _, found, err := newStore(t, k).Load(ctx); found || err != nil {
			t.Fatalf("found %v, %v", found, err)
		}
		if err := newStore(t, k).Delete(ctx); err != nil {
			t.Fatalf("deleting nothing: %v", err)
		}
		if _, err := k.Get(testService, "refresh"); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get of a missing item: %v", err)
		}
		if err := k.Delete(testService, "refresh"); !errors.Is(err, ErrNotFound) {
			t.Errorf("Delete of a missing item: %v", err)
		}
	})

	for _, size := range []int{20, 1200, 3000, 9000, 30000} {
		t.Run(fmt.Sprintf("a token of %d characters comes back as it was", size), func(t *testing.T) {
			want, err := newStore(t, k).Save(ctx, entryOf(size, "a"))
			if err != nil {
				t.Fatal(err)
			}
			got, found, err := newStore(t, k).Load(ctx)
			if err != nil || !found || !sameEntry(got, want) || got.Generation != want.Generation {
				t.Fatalf("found %v, %v, same %v, generation %d of %d", found, err, sameEntry(got, want), got.Generation, want.Generation)
			}
			if err := newStore(t, k).Delete(ctx); err != nil {
				t.Fatal(err)
			}
			if _, found, err := newStore(t, k).Load(ctx); found || err != nil {
				t.Fatalf("after Delete: found %v, %v", found, err)
			}
		})
	}

	t.Run("the generation grows with every write, through a sign-out too", func(t *testing.T) {
		s := newStore(t, k)
		// The clock stands: a sign-out and a sign-in may share a millisecond, so it
		// is moved on by one second there.
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		s.now = func() time.Time { return at }
		var last uint64
		for i, size := range []int{10, 5000, 10, 5000, 5000} {
			if i == 3 {
				if err := s.Delete(ctx); err != nil {
					t.Fatal(err)
				}
				at = at.Add(time.Second)
			}
			e, err := s.Save(ctx, entryOf(size, "g"))
			if err != nil {
				t.Fatal(err)
			}
			if e.Generation <= last {
				t.Errorf("generation %d after %d", e.Generation, last)
			}
			last = e.Generation
		}
		if err := s.Delete(ctx); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("a secret is made once and stays", func(t *testing.T) {
		made := 0
		create := func() (secret.Text, error) { made++; return secret.New("AGE-SECRET-KEY-1"), nil }
		for range 3 {
			got, err := newStore(t, k).Secret(ctx, "recents", create)
			if err != nil || got.Reveal() != "AGE-SECRET-KEY-1" {
				t.Fatalf("%v, right %v", err, got.Reveal() == "AGE-SECRET-KEY-1")
			}
		}
		if made != 1 {
			t.Errorf("made %d times", made)
		}
		if err := newStore(t, k).Delete(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := newStore(t, k).Secret(ctx, "recents", create); err != nil || made != 1 {
			t.Errorf("a sign-out took the secret: %v, made %d times", err, made)
		}
		if err := newStore(t, k).DeleteSecret(ctx, "recents"); err != nil {
			t.Fatal(err)
		}
		if _, err := newStore(t, k).Secret(ctx, "recents", create); err != nil || made != 2 {
			t.Errorf("after DeleteSecret: %v, made %d times", err, made)
		}
		if err := newStore(t, k).DeleteSecret(ctx, "recents"); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("what cannot be read is corrupt and stays until it is deleted", func(t *testing.T) {
		s := newStore(t, k)
		corruptions := map[string]func(t *testing.T){
			"the head is no JSON":        func(t *testing.T) { set(t, k, "refresh", "{") },
			"the head is of version two": func(t *testing.T) { set(t, k, "refresh", `{"v":2,"gen":4}`) },
			"the head has wild numbers":  func(t *testing.T) { set(t, k, "refresh", `{"v":1,"gen":4,"parts":1000000000}`) },
			"a part is missing": func(t *testing.T) {
				e := save(t, s, entryOf(9000, "a"))
				if err := k.Delete(testService, partItem(e.Generation, 1)); err != nil {
					t.Fatal(err)
				}
			},
			"a part is another": func(t *testing.T) {
				e := save(t, s, entryOf(9000, "a"))
				set(t, k, partItem(e.Generation, 1), "x")
			},
			"the value in the head was changed": func(t *testing.T) {
				save(t, s, entryOf(20, "a"))
				item, err := k.Get(testService, "refresh")
				if err != nil {
					t.Fatal(err)
				}
				set(t, k, "refresh", strings.Replace(item, "dr.a@", "dr.b@", 1))
			},
		}
		for name, corrupt := range corruptions {
			t.Run(name, func(t *testing.T) {
				corrupt(t)
				for range 2 {
					if _, found, err := s.Load(ctx); found || problem.CodeOf(err) != problem.KeyringCorrupt {
						t.Fatalf("found %v, %v", found, err)
					}
				}
				want := save(t, s, entryOf(20, "n"))
				if got, found, err := s.Load(ctx); err != nil || !found || !sameEntry(got, want) {
					t.Errorf("a new sign-in over it: found %v, %v", found, err)
				}
				if err := s.Delete(ctx); err != nil {
					t.Fatal(err)
				}
				corrupt(t)
				if err := s.Delete(ctx); err != nil {
					t.Fatal(err)
				}
				if _, found, err := s.Load(ctx); found || err != nil {
					t.Errorf("after Delete: found %v, %v", found, err)
				}
			})
		}
		t.Run("a secret", func(t *testing.T) {
			set(t, k, "secret.idempotency", "nonsense")
			create := func() (secret.Text, error) {
				t.Error("a corrupt secret was replaced")
				return secret.New("x"), nil
			}
			if _, err := s.Secret(ctx, "idempotency", create); problem.CodeOf(err) != problem.KeyringCorrupt {
				t.Errorf("got %v", err)
			}
			if err := s.DeleteSecret(ctx, "idempotency"); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func set(t *testing.T, k Keyring, item, value string) {
	t.Helper()
	if err := k.Set(testService, item, value); err != nil {
		t.Fatal(err)
	}
}

func save(t *testing.T, s *Store, e Entry) Entry {
	t.Helper()
	e, err := s.Save(context.Background(), e)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestTheMemoryKeyringConforms(t *testing.T) {
	k := Memory()
	conformance(t, k)
	if left := k.(*memory).items; len(left) != 0 {
		t.Errorf("%d items are left", len(left))
	}
}
