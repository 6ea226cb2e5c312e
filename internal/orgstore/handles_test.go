package orgstore

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgstore/natstest"
	"encounterlauncher/internal/problem"
)

const (
	life   = 10 * time.Minute
	canary = "Kanarienvogel"
)

type clock struct{ passed atomic.Int64 }

func (c *clock) now() time.Time {
	return time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC).Add(time.Duration(c.passed.Load()))
}
func (c *clock) advance(d time.Duration) { c.passed.Add(int64(d)) }

func connect(t *testing.T, cfg orgconfig.NATS) *Conn {
	t.Helper()
	c, err := Connect(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// shared is connect for a backend that does not have its store for itself, as it is in
// a cluster.
func shared(t *testing.T, cfg orgconfig.NATS) *Conn {
	t.Helper()
	c := connect(t, cfg)
	c.alone = false
	return c
}

// onEachShelf runs a test alone and where several backends share.
func onEachShelf(t *testing.T, test func(*testing.T, *Conn)) {
	t.Run("alone", func(t *testing.T) { test(t, connect(t, orgconfig.NATS{})) })
	t.Run("shared", func(t *testing.T) { test(t, shared(t, orgconfig.NATS{})) })
}

// streamOf is the shelf of backends that share.
func streamOf(t *testing.T, h *Handles) *stream {
	t.Helper()
	s, ok := h.shelf.(*stream)
	if !ok {
		t.Fatalf("its shelf is %T", h.shelf)
	}
	return s
}

func opened(t *testing.T, c *Conn) (*Handles, *clock) {
	t.Helper()
	k := &clock{}
	h, err := OpenHandles(t.Context(), c, life, k.now)
	if err != nil {
		t.Fatal(err)
	}
	return h, k
}

func launch(encounter string) Launch {
	note := "Seen last week. " + canary
	return Launch{EHR: "ehr-1", Tenant: "north", Request: orgapi.LaunchRequest{
		ProviderEmail: "ada@hospital.example", ExternalProviderID: "D-17", ExternalPatientID: "P-1", ExternalEncounterID: encounter,
		StructuredContext:   orgapi.StructuredContext{PatientDemographics: orgapi.Demographics{Name: canary, BirthDate: "1980-01-31", Gender: "female"}},
		UnstructuredContext: &note,
	}}
}

func mint(t *testing.T, h *Handles, handle string) {
	t.Helper()
	if err := h.Mint(t.Context(), handle, launch("E-1")); err != nil {
		t.Fatal(err)
	}
}

func look(t *testing.T, h *Handles, handle string) Ticket {
	t.Helper()
	ticket, err := h.Look(t.Context(), handle)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func wants(t *testing.T, what string, err error, code problem.Code) {
	t.Helper()
	if code == "" {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	var p *problem.Problem
	if !errors.As(err, &p) || p.Code != code {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

func TestAHandleGivesBackTheLaunchAsItWasRegistered(t *testing.T) {
	onEachShelf(t, func(t *testing.T, c *Conn) {
		h, _ := opened(t, c)
		mint(t, h, "handle-1")
		other, _ := opened(t, c)
		for _, h := range []*Handles{h, other} {
			if got := look(t, h, "handle-1").Launch; !reflect.DeepEqual(got, launch("E-1")) {
				t.Errorf("%+v", got)
			}
		}
		_, err := h.Look(t.Context(), "handle-2")
		wants(t, "a handle that was never made", err, problem.HandleExpired)
	})
}

func TestAHandleIsRedeemedAgainOnlyBySameSubjectAndKeyUntilItExpires(t *testing.T) {
	onEachShelf(t, func(t *testing.T, c *Conn) {
		h, clock := opened(t, c)
		mint(t, h, "handle-1")
		early := look(t, h, "handle-1")
		redeem := func(by Spender) error { return h.Redeem(t.Context(), look(t, h, "handle-1"), by) }
		wants(t, "the first", redeem(Spender{"s-1", "k-1"}), "")
		wants(t, "again", redeem(Spender{"s-1", "k-1"}), "")
		wants(t, "another key", redeem(Spender{"s-1", "k-2"}), problem.HandleSpent)
		wants(t, "another subject", redeem(Spender{"s-2", "k-1"}), problem.HandleSpent)
		// What was looked at before somebody else redeemed it.
		wants(t, "another key that looked early", h.Redeem(t.Context(), early, Spender{"s-1", "k-2"}), problem.HandleSpent)
		wants(t, "the same key that looked early", h.Redeem(t.Context(), early, Spender{"s-1", "k-1"}), "")
		if got := look(t, h, "handle-1").Launch; !reflect.DeepEqual(got, launch("E-1")) {
			t.Errorf("spending changed the launch: %+v", got)
		}
		clock.advance(life)
		_, err := h.Look(t.Context(), "handle-1")
		wants(t, "after expiry", err, problem.HandleExpired)
		wants(t, "looked at before, redeemed after expiry", h.Redeem(t.Context(), early, Spender{"s-1", "k-3"}), problem.HandleExpired)
	})
}

// ways are everything that an idempotency key can be used for. Each is another
// request.
func ways(t *testing.T, h *Handles, n int) map[string]func(Spender) error {
	t.Helper()
	until := h.now().Add(life)
	handle, other := fmt.Sprint("handle-", n), fmt.Sprint("other-", n)
	mint(t, h, handle)
	mint(t, h, other)
	return map[string]func(Spender) error{
		"a handle":                      func(by Spender) error { return h.Redeem(t.Context(), look(t, h, handle), by) },
		"another handle":                func(by Spender) error { return h.Redeem(t.Context(), look(t, h, other), by) },
		"a signed request":              func(by Spender) error { return h.RedeemJTI(t.Context(), "ehr", handle, until, "a.b.c", by) },
		"another one of the same id":    func(by Spender) error { return h.RedeemJTI(t.Context(), "ehr", handle, until, "a.b.d", by) },
		"a signed request of other id":  func(by Spender) error { return h.RedeemJTI(t.Context(), "ehr", other, until, "a.b.c", by) },
		"a signed request of other iss": func(by Spender) error { return h.RedeemJTI(t.Context(), "ehr-2", handle, until, "a.b.c", by) },
		"identifiers":                   func(by Spender) error { return h.Once(t.Context(), by, "create", "E-1", "P-1") },
		"other identifiers":             func(by Spender) error { return h.Once(t.Context(), by, "create", "E-1P", "-1") },
		"a fresh page":                  func(by Spender) error { return h.Once(t.Context(), by, "reopen", "E-1") },
	}
}

func TestAnIdempotencyKeyIsForOneRequestInEveryFormAndSpendsNoOther(t *testing.T) {
	onEachShelf(t, func(t *testing.T, c *Conn) {
		h, _ := opened(t, c)
		var names []string
		for name := range ways(t, h, 0) {
			names = append(names, name)
		}
		n := 0
		for _, first := range names {
			for _, second := range names {
				n++
				of := ways(t, h, n)
				by := Spender{"s-1", fmt.Sprint("key-", n)}
				wants(t, first, of[first](by), "")
				if first == second {
					wants(t, first+" again", of[second](by), "")
					continue
				}
				what := second + " by the key of " + first
				wants(t, what, of[second](by), problem.RequestInvalid)
				if strings.Contains(first+second, "same id") && strings.Contains(first+second, "signed request") {
					continue // one id: the first has spent it
				}
				// It has spent nothing: another key can still redeem it.
				wants(t, what+", then by a key of its own", of[second](Spender{"s-1", fmt.Sprint("fresh-", n)}), "")
				// Another person's key of the same text is another key.
				wants(t, "another person's "+what, of["identifiers"](Spender{"s-2", by.Key}), "")
			}
		}
	})
}

func TestOfManyAtOnceOneSpendsAHandleAndAKeyIsUsedOnce(t *testing.T) {
	onEachShelf(t, func(t *testing.T, c *Conn) {
		h, _ := opened(t, c)
		together := func(n int, do func(i int) error) map[problem.Code]int {
			codes := make(chan problem.Code, n)
			start := make(chan struct{})
			var group sync.WaitGroup
			for i := range n {
				group.Go(func() {
					<-start
					var p *problem.Problem
					if err := do(i); errors.As(err, &p) {
						codes <- p.Code
					} else {
						codes <- ""
					}
				})
			}
			close(start)
			group.Wait()
			close(codes)
			count := map[problem.Code]int{}
			for c := range codes {
				count[c]++
			}
			return count
		}
		const n = 64
		mint(t, h, "handle")
		got := together(n, func(i int) error {
			ticket, err := h.Look(t.Context(), "handle")
			if err != nil {
				return err
			}
			return h.Redeem(t.Context(), ticket, Spender{"s-1", fmt.Sprint(i)})
		})
		if want := (map[problem.Code]int{"": 1, problem.HandleSpent: n - 1}); !reflect.DeepEqual(got, want) {
			t.Errorf("many keys, one handle: %v", got)
		}
		got = together(n, func(i int) error {
			return h.RedeemJTI(t.Context(), "ehr", "jti", h.now().Add(life), "a.b.c", Spender{"s-1", fmt.Sprint("jti-", i/2)})
		})
		if want := (map[problem.Code]int{"": 2, problem.HandleSpent: n - 2}); !reflect.DeepEqual(got, want) {
			t.Errorf("two of each key, one signed request: %v", got)
		}
		for i := range n {
			mint(t, h, fmt.Sprint("handle-", i))
		}
		got = together(n, func(i int) error {
			if i == 0 {
				return h.Once(t.Context(), Spender{"s-1", "the-key"}, "reopen")
			}
			ticket, err := h.Look(t.Context(), fmt.Sprint("handle-", i))
			if err != nil {
				return err
			}
			return h.Redeem(t.Context(), ticket, Spender{"s-1", "the-key"})
		})
		if want := (map[problem.Code]int{"": 1, problem.RequestInvalid: n - 1}); !reflect.DeepEqual(got, want) {
			t.Errorf("one key, many requests: %v", got)
		}
	})
}

func TestRedeemingAHandleIsOneWriteAndOneReadWhereAnotherBackendMintedIt(t *testing.T) {
	c := shared(t, orgconfig.NATS{})
	h, _ := opened(t, c)
	other, _ := opened(t, c)
	for name, of := range map[string]struct {
		redeems *Handles
		want    uint64
	}{"our own": {h, 1}, "another's": {other, 2}} {
		mint(t, h, name)
		before := c.NATS().Stats().OutMsgs
		if err := of.redeems.Redeem(t.Context(), look(t, of.redeems, name), Spender{"s-1", name}); err != nil {
			t.Fatal(err)
		}
		if sent := c.NATS().Stats().OutMsgs - before; sent != of.want {
			t.Errorf("%s: %d messages", name, sent)
		}
	}
}

// lose takes everything from a shelf.
func lose(t *testing.T, h *Handles) {
	t.Helper()
	if s, ok := h.shelf.(*stream); ok {
		if err := s.stream.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		return
	}
	h.shelf.(*memory).close()
	h.shelf.(*memory).closed = false
}

func TestWhatABackendRemembersOfItsHandlesIsNeverBelievedOverTheStore(t *testing.T) {
	onEachShelf(t, func(t *testing.T, c *Conn) {
		h, _ := opened(t, c)
		other, _ := opened(t, c)
		mint(t, h, "handle")
		wants(t, "at another backend", other.Redeem(t.Context(), look(t, other, "handle"), Spender{"s-1", "k-1"}), "")
		wants(t, "another key where it was minted", h.Redeem(t.Context(), look(t, h, "handle"), Spender{"s-1", "k-2"}), problem.HandleSpent)
		wants(t, "the same key where it was minted", h.Redeem(t.Context(), look(t, h, "handle"), Spender{"s-1", "k-1"}), "")
		mint(t, h, "lost")
		lose(t, h)
		wants(t, "what the store has lost", h.Redeem(t.Context(), look(t, h, "lost"), Spender{"s-1", "k-3"}), problem.HandleExpired)
	})
}

// onAShelfOf is OpenHandles with a shelf of so many bytes.
func onAShelfOf(t *testing.T, c *Conn, kept time.Duration, bytes int64) *Handles {
	t.Helper()
	s, err := c.shelf(t.Context(), kept, bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &Handles{shelf: s, life: life, now: time.Now, minted: &minted{half: life / 2}}
}

func TestAFullStoreRefusesNewHandlesAndKeepsTheOld(t *testing.T) {
	onEachShelf(t, func(t *testing.T, c *Conn) {
		const bytes = 256 << 10
		h := onAShelfOf(t, c, time.Hour, bytes)
		var err error
		n := 0
		for ; err == nil && n < 1000; n++ {
			err = h.Mint(t.Context(), fmt.Sprint("handle-", n), launch("E-1"))
		}
		wants(t, "a handle too many", err, problem.OrgBusy)
		if n < 100 || n > 600 {
			t.Errorf("%d handles fill %d bytes", n, bytes)
		}
		for i := range n - 1 {
			name := fmt.Sprint("handle-", i)
			wants(t, name+" of before", h.Redeem(t.Context(), look(t, h, name), Spender{"s-1", name}), "")
		}
		wants(t, "a signed request", h.RedeemJTI(t.Context(), "ehr", "jti", time.Now().Add(life), "a.b.c", Spender{"s-1", "k-2"}), "")
		for n, err = 0, nil; err == nil && n < 5000; n++ {
			err = h.Once(t.Context(), Spender{"s-1", fmt.Sprint("once-", n)}, "reopen")
		}
		wants(t, "a key too many", err, problem.OrgBusy)
	})
}

func TestTheStreamTakesNewHandlesOnceTheOldExpire(t *testing.T) {
	c := shared(t, orgconfig.NATS{})
	h := onAShelfOf(t, c, time.Hour, 64<<10)
	var err error
	for n := 0; err == nil && n < 1000; n++ {
		err = h.Mint(t.Context(), fmt.Sprint("handle-", n), launch("E-1"))
	}
	wants(t, "a handle too many", err, problem.OrgBusy)
	// The same stream with a shorter life: what is in it is older than that.
	h = onAShelfOf(t, c, 100*time.Millisecond, 64<<10)
	until(t, "there is room again", func() bool { return h.Mint(t.Context(), "fresh", launch("E-1")) == nil })
	until(t, "the memory is free", func() bool {
		info, err := streamOf(t, h).stream.Info(t.Context())
		return err == nil && info.State.Msgs == 0 && info.State.Bytes == 0
	})
}

func TestWhereThereIsLessRoomLessIsTaken(t *testing.T) {
	const most = 64 << 30
	h := onAShelfOf(t, shared(t, orgconfig.NATS{}), time.Hour, most)
	if s := streamOf(t, h); s.limit >= most || s.limit < memoryBytes/4 || s.stream.CachedInfo().Config.MaxBytes != s.limit {
		t.Errorf("it takes %d bytes", s.limit)
	}
	mint(t, h, "handle")
	look(t, h, "handle")
}

// until polls for what only JetStream's own clock brings about.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !done(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it does not come about that %s", what)
		}
	}
}

func TestNeitherANameNorAValueReachesJetStreamInClear(t *testing.T) {
	c := shared(t, orgconfig.NATS{})
	h, _ := opened(t, c)
	mint(t, h, "handle-in-clear")
	wants(t, "redeem", h.Redeem(t.Context(), look(t, h, "handle-in-clear"), Spender{"subject-in-clear", "key-in-clear"}), "")
	wants(t, "signed", h.RedeemJTI(t.Context(), "issuer-in-clear", "jti-in-clear", h.now().Add(life), "request-in-clear", Spender{"subject-in-clear", "key-in-clear-2"}), "")
	wants(t, "once", h.Once(t.Context(), Spender{"subject-in-clear", "key-in-clear-3"}, "reopen-in-clear"), "")
	for seq := uint64(1); seq < 5; seq++ {
		m, err := streamOf(t, h).stream.GetMsg(t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // the handle before it was spent
		}
		if err != nil {
			t.Fatal(err)
		}
		all := m.Subject + fmt.Sprint(m.Header) + string(m.Data)
		for _, clear := range []string{"in-clear", canary, "P-1", "E-1", "D-17", "until", "spent", "ehr-1", "north"} {
			if strings.Contains(all, clear) {
				t.Errorf("message %d holds %q", seq, clear)
			}
		}
	}
}

func TestWhatWasMovedChangedOrSealedByAnotherKeyIsNotOpened(t *testing.T) {
	c, other := connect(t, orgconfig.NATS{}), connect(t, orgconfig.NATS{})
	sealed := c.Seal("place", []byte("value"))
	if text, err := c.Open("place", sealed); err != nil || string(text) != "value" {
		t.Fatalf("%q, %v", text, err)
	}
	if again := c.Seal("place", []byte("value")); string(again) == string(sealed) {
		t.Error("the same value looks the same twice")
	}
	if _, err := c.Open("another place", sealed); err == nil {
		t.Error("it was moved")
	}
	if _, err := other.Open("place", sealed); err == nil {
		t.Error("another key opens it")
	}
	for i := range sealed {
		changed := append([]byte(nil), sealed...)
		changed[i] ^= 1
		if _, err := c.Open("place", changed); err == nil {
			t.Errorf("byte %d was changed", i)
		}
		if _, err := c.Open("place", sealed[:i]); err == nil {
			t.Errorf("it was cut at %d", i)
		}
	}
}

func TestAKeyIsExchangedWithoutLosingAHandle(t *testing.T) {
	folder := t.TempDir()
	a, b := natstest.SealKey(t, folder, "a"), natstest.SealKey(t, folder, "b")
	c := shared(t, orgconfig.NATS{SealKeyFiles: []string{a}})
	h, _ := opened(t, c)
	mint(t, h, "handle")
	with := func(files ...string) *Handles {
		keys, err := readSealKeys(files)
		if err != nil {
			t.Fatal(err)
		}
		// Another backend at the same server.
		other := &Conn{nc: c.nc, js: c.js, keys: keys, replicas: c.replicas}
		h, _ := opened(t, other)
		return h
	}
	if got := look(t, with(b, a), "handle").Launch; !reflect.DeepEqual(got, launch("E-1")) {
		t.Errorf("%+v", got)
	}
	_, err := with(b).Look(t.Context(), "handle")
	wants(t, "without the key that sealed it", err, problem.Internal)
	wants(t, "spent by the new key", with(b, a).Redeem(t.Context(), look(t, with(b, a), "handle"), Spender{"s-1", "k-1"}), "")
	if _, err := with(b).Look(t.Context(), "handle"); err != nil {
		t.Errorf("it was written by the new key: %v", err)
	}
}

// filed is what a delivery queue does: a stream on file with a consumer.
func filed(t *testing.T, c *Conn, texts ...string) jetstream.Stream {
	t.Helper()
	s, err := c.Stream(t.Context(), jetstream.StreamConfig{Name: "queue", Subjects: []string{"queue.*"}, Storage: jetstream.FileStorage, Retention: jetstream.WorkQueuePolicy})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateOrUpdateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		if _, err := c.JetStream().Publish(t.Context(), "queue.x", c.Seal("queue.x", []byte(text))); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func holds(t *testing.T, c *Conn, texts ...string) {
	t.Helper()
	s := filed(t, c)
	for i, text := range texts {
		m, err := s.GetMsg(t.Context(), uint64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Open("queue.x", m.Data); err != nil || string(got) != text {
			t.Errorf("message %d is %q, %v", i+1, got, err)
		}
	}
	if s.CachedInfo().State.Msgs != uint64(len(texts)) || s.CachedInfo().State.Consumers != 1 {
		t.Errorf("%+v", s.CachedInfo().State)
	}
}

func TestTheFolderIsReadAfterEachStepOfAnExchangeOfKeys(t *testing.T) {
	dir := t.TempDir()
	a, b, d := natstest.SealKey(t, dir, "a"), natstest.SealKey(t, dir, "b"), natstest.SealKey(t, dir, "d")
	cfg := orgconfig.NATS{Folder: filepath.Join(dir, "store")}
	run := func(use func(*Conn), keys ...string) {
		t.Helper()
		cfg.SealKeyFiles = keys
		c, err := Connect(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if !c.Durable() {
			t.Error("a folder does not make it durable")
		}
		use(c)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(want string, keys ...string) {
		t.Helper()
		cfg.SealKeyFiles = keys
		if c, err := Connect(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
			if err == nil {
				_ = c.Close()
			}
		}
	}
	long := strings.Repeat(canary, 100)
	run(func(c *Conn) { filed(t, c, "one", long) }, a)
	refused("seal_key_files", b)
	if err := Check(cfg); err == nil || !strings.Contains(err.Error(), "seal_key_files: none") {
		t.Errorf("the check of the configuration does not see it: %v", err)
	}
	run(func(c *Conn) { holds(t, c, "one", long) }, a)
	if err := Check(cfg); err != nil {
		t.Error(err)
	}
	run(func(c *Conn) { holds(t, c, "one", long); filed(t, c, "three") }, b, a)
	// The old key is still needed for what it sealed, not for the files.
	run(func(c *Conn) {
		s := filed(t, c)
		if s.CachedInfo().State.Msgs != 3 {
			t.Errorf("%+v", s.CachedInfo().State)
		}
		m, err := s.GetMsg(t.Context(), 3)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := c.Open("queue.x", m.Data); err != nil || string(text) != "three" {
			t.Errorf("%q, %v", text, err)
		}
	}, b)
	refused("seal_key_files", a)
	// Two exchanges at once.
	run(func(c *Conn) { holds(t, c, "one", long, "three") }, d, a, b)
	run(func(c *Conn) { holds(t, c, "one", long, "three") }, d, a, b)
	refused("seal_key_files", a, b)

	secrets := []string{canary, "three"}
	for _, file := range []string{a, b, d} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, strings.TrimSpace(string(text)))
		secret, err := base64.StdEncoding.DecodeString(secrets[len(secrets)-1])
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, string(secret), hex.EncodeToString(secret))
	}
	sealed, err := os.ReadFile(filepath.Join(cfg.Folder, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := readSealKeys([]string{d})
	if err != nil {
		t.Fatal(err)
	}
	key, err := (&Conn{keys: keys}).Open(keyPlace, sealed)
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, string(key), hex.EncodeToString(key))
	files := 0
	err = filepath.WalkDir(cfg.Folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		for _, secret := range secrets {
			if strings.Contains(string(text), secret) {
				t.Errorf("%s holds a secret", path)
			}
		}
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("%d files, %v", files, err)
	}
	if err := os.Remove(filepath.Join(cfg.Folder, keyFile)); err != nil {
		t.Fatal(err)
	}
	refused("nats.folder: its file key is missing", d)
}

func TestAFolderIsForOneProcess(t *testing.T) {
	dir := t.TempDir()
	cfg := orgconfig.NATS{Folder: filepath.Join(dir, "store"), SealKeyFiles: []string{natstest.SealKey(t, dir, "a")}}
	connect(t, cfg)
	if c, err := Connect(cfg); err == nil || !strings.Contains(err.Error(), "nats.folder: another org-backend") {
		t.Errorf("%v", err)
		if err == nil {
			_ = c.Close()
		}
	}
}

func TestAStreamThatCannotBeOpenedStopsTheStartAndStaysAsItIs(t *testing.T) {
	dir := t.TempDir()
	cfg := orgconfig.NATS{Folder: filepath.Join(dir, "store"), SealKeyFiles: []string{natstest.SealKey(t, dir, "a")}}
	c, err := Connect(cfg)
	if err != nil {
		t.Fatal(err)
	}
	filed(t, c, "one")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(cfg.Folder, "jetstream", "*", "streams", "queue", "meta.inf"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	good, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(found[0], append([]byte("torn"), good[4:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Connect(cfg); err == nil || !strings.Contains(err.Error(), "nats.folder: JetStream cannot open the stream queue") {
		t.Errorf("%v", err)
		if err == nil {
			_ = c.Close()
		}
	}
	if err := os.WriteFile(found[0], good, 0o600); err != nil {
		t.Fatal(err)
	}
	holds(t, connect(t, cfg), "one")
}

func TestAClosedStoreIsBusyAtOnceAndNotReady(t *testing.T) {
	onEachShelf(t, func(t *testing.T, c *Conn) {
		h, _ := opened(t, c)
		mint(t, h, "handle")
		if err := c.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.end()
		ctx, cancel := context.WithTimeout(t.Context(), StoreTime)
		defer cancel()
		wants(t, "mint", h.Mint(ctx, "handle-2", launch("E-1")), problem.OrgBusy)
		_, err := h.Look(ctx, "another")
		wants(t, "look", err, problem.OrgBusy)
		wants(t, "once", h.Once(ctx, Spender{"s-1", "k-1"}, "reopen"), problem.OrgBusy)
		if c.Check(ctx) == nil {
			t.Error("it says that it is ready")
		}
		if ctx.Err() != nil {
			t.Error("it waits for what cannot come back")
		}
	})
}

func TestAQueueThatWasPromisedMoreThanTheDiskHasLeftIsOpenedAllTheSame(t *testing.T) {
	dir := t.TempDir()
	cfg := orgconfig.NATS{Folder: filepath.Join(dir, "store"), SealKeyFiles: []string{natstest.SealKey(t, dir, "a")}}
	stream := func(name string) jetstream.StreamConfig {
		return jetstream.StreamConfig{Name: name, Subjects: []string{name + ".*"}, Storage: jetstream.FileStorage, MaxBytes: 1 << 30}
	}
	c, err := connectTo(cfg, 4<<30)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"first", "second"} {
		if _, err := c.Stream(t.Context(), stream(name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.JetStream().Publish(t.Context(), "first.x", c.Seal("first.x", []byte("a note"))); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	// Somebody else has filled the disk meanwhile.
	if c, err = connectTo(cfg, 1<<20); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"first", "second"} {
		s, err := c.Stream(t.Context(), stream(name))
		if err != nil {
			t.Fatal(err)
		}
		if info, err := s.Info(t.Context()); err != nil || info.Config.MaxBytes != 1<<30 {
			t.Errorf("%+v %v", info, err)
		}
	}
	m, err := c.JetStream().Stream(t.Context(), "first")
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.GetLastMsgForSubject(t.Context(), "first.x")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := c.Open("first.x", got.Data); err != nil || string(text) != "a note" {
		t.Errorf("%q %v", text, err)
	}
	if _, err := c.Stream(t.Context(), stream("third")); err == nil {
		t.Error("a new one is promised what the disk does not have")
	}
}
