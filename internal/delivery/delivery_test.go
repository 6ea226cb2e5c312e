package delivery

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/problem"
)

func TestANoteReachesEveryPlaceAsItCameAndThenItsContentIsGone(t *testing.T) {
	w := newWorld(t)
	id, raw := w.accept("E-1")
	i := w.becomes(id, Delivered)
	w.ehr.mu.Lock()
	head, body := w.ehr.heads[0], w.ehr.bodies[id]
	w.ehr.mu.Unlock()
	if !bytes.Equal(body, raw) || !signedBy(head, raw) || !strings.HasPrefix(head.Get(HeaderTimestamp), "2026-11-03T09:00:") || head.Get("Content-Type") != "application/json" {
		t.Errorf("the webhook got %v", head)
	}
	text, err := os.ReadFile(w.file(id))
	if err != nil || !bytes.Equal(text, raw) {
		t.Errorf("the folder has %q, %v", text, err)
	}
	if info, err := os.Stat(w.file(id)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}
	if info, err := os.Stat(w.cfg.Deliver.Folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder is %v, %v", info, err)
	}
	if n := w.tellings("E-1"); n != 1 {
		t.Errorf("told %d times", n)
	}
	if i.Places["webhook"].State != taken || i.Places["folder"].State != taken || i.Tries != 1 || i.Code != "" || i.Ended == nil || i.Type != nabla.NoteExport {
		t.Errorf("the look at it is %+v", i)
	}
	e, err := w.queue.get(t.Context(), keyOf(id))
	if err != nil || e.raw != nil {
		t.Errorf("of a delivered note %d bytes are kept, %v", len(e.raw), err)
	}
	if _, encounter, err := w.queue.Show(t.Context(), string(keyOf(id))); err != nil || encounter != nil {
		t.Errorf("a delivered note names its encounter, %v", err)
	}
	w.close()
	w.keepsQuiet()
}

func TestARepetitionIsRefusedInEveryState(t *testing.T) {
	w := newWorld(t)
	again := func(state, id string) {
		t.Helper()
		if err := w.queue.Accept(t.Context(), id, nabla.NoteExport, []byte("{}")); !errors.Is(err, ErrSeen) {
			t.Errorf("%s: %v", state, err)
		}
	}
	id, _ := w.accept("E-1")
	w.becomes(id, Delivered)
	again("delivered", id)
	w.ehr.answer(http.StatusInternalServerError)
	id, _ = w.accept("E-2")
	again("queued", id)
	w.ehr.answer(http.StatusUnprocessableEntity)
	w.clock.advance(time.Second)
	w.becomes(id, Aside)
	again("aside", id)
	if _, err := w.queue.Discard(t.Context(), string(keyOf(id))); err != nil {
		t.Fatal(err)
	}
	w.becomes(id, Discarded)
	again("discarded", id)
	w.close()
	w.open()
	again("discarded, after a restart", id)
	if w.tellings("E-2") != 0 {
		t.Error("a discarded note was told as exported")
	}
}

func TestOfManyCallsAtOnceWithOneRequestUUIDOneIsTaken(t *testing.T) {
	w := newWorld(t)
	id, raw := note("E-1")
	var all sync.WaitGroup
	results := make(chan error, 32)
	for range cap(results) {
		all.Go(func() { results <- w.queue.Accept(t.Context(), id, nabla.NoteExport, raw) })
	}
	all.Wait()
	close(results)
	won := 0
	for err := range results {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, ErrSeen):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d were taken", won)
	}
	w.becomes(id, Delivered)
	if n := w.ehr.times(id); n != 1 {
		t.Errorf("it was delivered %d times", n)
	}
}

func TestAPlaceThatHasANoteIsNotToldAgainWhenAnotherFails(t *testing.T) {
	w := newWorld(t)
	w.ehr.answer(http.StatusBadGateway)
	id, _ := w.accept("E-1")
	w.until("the folder has it", func() bool { return w.item(id).Places["folder"].State == taken })
	if i := w.item(id); i.State != Queued || i.Code != "status_502" || i.Advice == "" || i.Places["webhook"].State != again {
		t.Errorf("the look at it is %+v", i)
	}
	if w.tellings("E-1") != 0 {
		t.Error("it was told as exported before the EHR had it")
	}
	// The folder's file is taken away by its reader, and must not come again.
	if err := os.Remove(w.file(id)); err != nil {
		t.Fatal(err)
	}
	w.ehr.answer(http.StatusOK)
	w.clock.advance(time.Second)
	w.becomes(id, Delivered)
	if _, err := os.Stat(w.file(id)); !os.IsNotExist(err) {
		t.Error("the folder was told again")
	}
	if w.ehr.times(id) != 1 || w.tellings("E-1") != 1 {
		t.Errorf("the webhook has it %d times, the workstations %d times", w.ehr.times(id), w.tellings("E-1"))
	}
}

func TestARefusedNoteIsPutAsideAndDeliveredWhenReplayed(t *testing.T) {
	w := newWorld(t)
	w.ehr.answer(http.StatusUnprocessableEntity)
	id, raw := w.accept("E-1")
	other, _ := w.accept("E-2")
	i := w.becomes(id, Aside)
	w.becomes(other, Aside)
	if i.Code != "status_422" || i.Ended == nil || !strings.Contains(i.Advice, "replay") {
		t.Errorf("the look at it is %+v", i)
	}
	_, encounter, err := w.queue.Show(t.Context(), i.ID[:8])
	if err != nil || encounter == nil || *encounter != (Encounter{"E-1", "D-17"}) {
		t.Errorf("shows %+v, %v", encounter, err)
	}
	w.ehr.answer(http.StatusOK)
	if got, err := w.queue.Replay(t.Context(), i.ID); err != nil || got.State != Queued || got.Tries != 0 || got.Places["folder"].State != taken {
		t.Fatalf("%+v, %v", got, err)
	}
	w.becomes(id, Delivered)
	w.ehr.mu.Lock()
	body := w.ehr.bodies[id]
	w.ehr.mu.Unlock()
	if !bytes.Equal(body, raw) {
		t.Error("the webhook got something else")
	}
	if n, err := w.queue.ReplayAside(t.Context()); err != nil || n != 1 {
		t.Fatalf("replayed %d, %v", n, err)
	}
	w.becomes(other, Delivered)
	if _, err := w.queue.Replay(t.Context(), i.ID); !errors.Is(err, ErrGone) {
		t.Errorf("replayed what is gone: %v", err)
	}
	if _, err := w.queue.Discard(t.Context(), i.ID); !errors.Is(err, ErrGone) {
		t.Errorf("discarded what is gone: %v", err)
	}
}

func TestANoteIsTriedUntilThePatienceEndsAndThenPutAsideWithItsContent(t *testing.T) {
	w := newWorld(t)
	w.ehr.answer(http.StatusUnauthorized)
	id, raw := w.accept("E-1")
	w.until("it was tried", func() bool { return w.item(id).Code == "status_401" })
	w.clock.advance(defaultGiveUpAfter)
	i := w.becomes(id, Aside)
	if i.Code != "status_401" || i.Places["folder"].State != taken {
		t.Errorf("the look at it is %+v", i)
	}
	w.close()
	w.keepsQuiet()
	w.open()
	if e, err := w.queue.get(t.Context(), keyOf(id)); err != nil || !bytes.Equal(e.raw, raw) {
		t.Errorf("the content is gone: %v", err)
	}
}

// Each stage at which a process may die, and come back to the same folder.
func TestNothingIsLostWhereverTheProcessDies(t *testing.T) {
	for stage, run := range map[string]func(w *world) (string, []byte){
		"taken, not yet told to anybody": func(w *world) (string, []byte) {
			w.queue.halt() // no worker looks at it
			id, raw := w.accept("E-1")
			return id, raw
		},
		"while a place is being told": func(w *world) (string, []byte) {
			hold := make(chan struct{})
			w.ehr.mu.Lock()
			w.ehr.hold = hold
			w.ehr.mu.Unlock()
			id, raw := w.accept("E-1")
			<-w.ehr.came
			w.queue.halt()
			w.queue.abort()
			w.ehr.mu.Lock()
			w.ehr.hold = nil
			w.ehr.mu.Unlock()
			w.t.Cleanup(func() { close(hold) })
			return id, raw
		},
		"between two tries": func(w *world) (string, []byte) {
			w.ehr.answer(http.StatusBadGateway)
			id, raw := w.accept("E-1")
			w.until("one place has it", func() bool { return w.item(id).Places["folder"].State == taken })
			return id, raw
		},
		"told everywhere, before the workstations know": func(w *world) (string, []byte) {
			w.mu.Lock()
			w.eventErr = problem.New(problem.OrgBusy, nil)
			w.mu.Unlock()
			id, raw := w.accept("E-1")
			w.until("the webhook has it", func() bool { return w.ehr.times(id) == 1 })
			return id, raw
		},
		"put aside": func(w *world) (string, []byte) {
			w.ehr.answer(http.StatusBadRequest)
			id, raw := w.accept("E-1")
			w.becomes(id, Aside)
			return id, raw
		},
	} {
		t.Run(stage, func(t *testing.T) {
			w := newWorld(t)
			w.options.AckWait = 200 * time.Millisecond
			id, raw := run(w)
			// The connection goes first: nothing that was under way can be kept.
			if err := w.conn.Close(); err != nil {
				t.Fatal(err)
			}
			w.conn = nil
			w.queue.halt()
			w.queue.abort()
			w.close()
			w.ehr.answer(http.StatusOK)
			w.mu.Lock()
			w.eventErr = nil
			w.mu.Unlock()
			w.clock.advance(time.Hour)
			w.open()
			if w.item(id).State == Aside {
				if _, err := w.queue.Replay(t.Context(), string(keyOf(id))); err != nil {
					t.Fatal(err)
				}
			}
			w.becomes(id, Delivered)
			if w.ehr.times(id) < 1 || w.tellings("E-1") < 1 {
				t.Errorf("the webhook has it %d times, the workstations %d times", w.ehr.times(id), w.tellings("E-1"))
			}
			w.ehr.mu.Lock()
			body := w.ehr.bodies[id]
			w.ehr.mu.Unlock()
			if !bytes.Equal(body, raw) {
				t.Error("the webhook got something else")
			}
			if err := w.queue.Accept(t.Context(), id, nabla.NoteExport, raw); !errors.Is(err, ErrSeen) {
				t.Errorf("a repetition: %v", err)
			}
			w.close()
			w.keepsQuiet()
		})
	}
}

func TestAnExportThatTheContractCannotSayIsDeliveredAllTheSame(t *testing.T) {
	w := newWorldOf(t)
	w.eventErr = problem.With(problem.RequestInvalid, "Too long.", nil)
	w.open()
	id, _ := w.accept("E-1")
	w.becomes(id, Delivered)
	w.keepsQuiet()
}

func TestAFullQueueRefusesWhatIsNewAndDropsNothing(t *testing.T) {
	w := newWorldOf(t)
	w.options.shardBytes = 16 << 10
	w.ehr.answer(http.StatusBadGateway)
	w.open()
	var taken []string
	id, raw := note("E-1")
	for full := false; !full; {
		switch err := w.queue.Accept(t.Context(), id, nabla.NoteExport, raw); {
		case err == nil:
			taken = append(taken, id)
			id, raw = note("E-1")
		case errors.Is(err, ErrFull):
			full = true
		default:
			t.Fatal(err)
		}
	}
	if len(taken) < 8 || len(taken) > 200 {
		t.Errorf("took %d", len(taken))
	}
	w.ehr.answer(http.StatusOK)
	w.clock.advance(time.Second)
	for _, id := range taken {
		w.becomes(id, Delivered)
	}
	// A refusal has not marked it as seen, and there is room again.
	w.until("there is room", func() bool {
		err := w.queue.Accept(t.Context(), id, nabla.NoteExport, raw)
		if err != nil && !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		return err == nil
	})
	w.becomes(id, Delivered)
}

func TestAQueueThatIsNearlyFullRefusesBeforeJetStreamDoes(t *testing.T) {
	w := newWorldOf(t)
	w.options.shardBytes = 64 << 10
	w.ehr.answer(http.StatusBadRequest)
	w.open()
	id, _ := note("E-1")
	s := w.queue.shards[keyOf(id).shard()]
	fill := entry{state: Aside, raw: incompressible(61 << 10)}
	for fill.key = keyOf("a"); w.queue.shards[fill.key.shard()] != s; {
		other, _ := note("E-2")
		fill.key = keyOf(other)
	}
	if err := w.queue.put(t.Context(), fill, 0); err != nil {
		t.Fatal(err)
	}
	w.queue.watch(t.Context())
	if err := w.queue.Accept(t.Context(), id, nabla.NoteExport, []byte("{}")); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(w.log.String(), "queue of deliveries is full") {
		t.Error("nobody is told")
	}
}

func TestALongTranscriptIsTakenAndOneTooLongIsNot(t *testing.T) {
	w := newWorld(t)
	id, _ := note("E-1")
	long := bytes.Replace(mustNote(id, "E-1"), []byte("Rest."), bytes.Repeat([]byte("Rest and drink. "), 120_000), 1)
	if len(long) < 1<<20 || len(long) > MaxCallbackBytes {
		t.Fatalf("%d bytes", len(long))
	}
	if err := w.queue.Accept(t.Context(), id, nabla.NoteExport, long); err != nil {
		t.Fatal(err)
	}
	w.becomes(id, Delivered)
	if text, err := os.ReadFile(w.file(id)); err != nil || !bytes.Equal(text, long) {
		t.Errorf("the folder has %d bytes, %v", len(text), err)
	}
	id, _ = note("E-2")
	if err := w.queue.Accept(t.Context(), id, nabla.NoteExport, make([]byte, MaxCallbackBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	// Even when it does not pack it fits our own server.
	if err := w.queue.put(t.Context(), entry{key: keyOf(id), state: Aside, raw: incompressible(MaxCallbackBytes)}, 0); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestWhatWasSealedByAKeyThatIsMissingWaitsForIt(t *testing.T) {
	w := newWorldOf(t)
	w.ehr.answer(http.StatusBadGateway)
	w.open()
	id, _ := w.accept("E-1")
	w.until("it was tried", func() bool { return w.item(id).Code == "status_502" })
	// The server's files can be read, what we sealed cannot.
	k := keyOf(id)
	e, err := w.queue.get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	foreign := e
	foreign.key = keyOf("another")
	if err := w.queue.put(t.Context(), foreign, 0); err != nil {
		t.Fatal(err)
	}
	m, err := w.queue.shards[foreign.key.shard()].stream.GetLastMsgForSubject(t.Context(), foreign.key.subject())
	if err != nil {
		t.Fatal(err)
	}
	// Sealed for another place is as good as sealed by another key.
	if _, err := w.queue.read(k, m.Header, m.Data); err == nil {
		t.Error("a value opened in another's place")
	}
}

func TestTheLookCountsAndListsTheOldestFirst(t *testing.T) {
	w := newWorld(t)
	done, _ := w.accept("E-1")
	w.becomes(done, Delivered)
	w.ehr.answer(http.StatusBadRequest)
	w.clock.advance(time.Second)
	first, _ := w.accept("E-2")
	w.clock.advance(time.Second)
	second, _ := w.accept("E-3")
	w.becomes(first, Aside)
	w.becomes(second, Aside)
	l, err := w.queue.List(t.Context(), false)
	if err != nil || len(l.Items) != 2 || l.Items[0].ID != string(keyOf(first)) || l.Items[1].ID != string(keyOf(second)) || l.Counts[Delivered] != 1 || l.Counts[Aside] != 2 {
		t.Errorf("%+v, %v", l, err)
	}
	if l, err = w.queue.List(t.Context(), true); err != nil || len(l.Items) != 3 || l.Items[0].State != Delivered {
		t.Errorf("%+v, %v", l, err)
	}
	for _, id := range []string{"", "zz", string(keyOf("never"))} {
		if _, _, err := w.queue.Show(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if c := w.queue.Counts(); c.Accepted != 3 || c.Delivered != 1 || c.PutAside != 2 {
		t.Errorf("%+v", c)
	}
}

func TestADeliveredNoteIsForgottenInTheEnd(t *testing.T) {
	w := newWorldOf(t)
	w.options.Remember = time.Second
	w.open()
	id, raw := w.accept("E-1")
	w.until("it was delivered and forgotten", func() bool {
		_, err := w.queue.get(t.Context(), keyOf(id))
		return errors.Is(err, ErrNotFound)
	})
	if err := w.queue.Accept(t.Context(), id, nabla.NoteExport, raw); err != nil {
		t.Error(err)
	}
}

func TestClosingWaitsForADeliveryUnderWay(t *testing.T) {
	w := newWorld(t)
	hold := make(chan struct{})
	w.ehr.mu.Lock()
	w.ehr.hold = hold
	w.ehr.mu.Unlock()
	id, _ := w.accept("E-1")
	<-w.ehr.came
	closed := make(chan struct{})
	go func() { w.queue.Close(); close(closed) }()
	<-w.queue.pulling.Done()
	close(hold)
	<-closed
	if i := w.item(id); i.State != Delivered {
		t.Errorf("it is %s", i.State)
	}
}

func TestAPanickingPlaceIsOneThatFailed(t *testing.T) {
	w := newWorldOf(t)
	w.open()
	if err := safely(context.Background(), panicking{}, Note{}); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("got %v", err)
	}
}

type panicking struct{}

func (panicking) Name() string                        { return "panicking" }
func (panicking) Deliver(context.Context, Note) error { panic(canary) }

func TestAFolderWithAHalfWrittenFileIsCleaned(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "notes")
	if _, err := newFolder(folder); err != nil {
		t.Fatal(err)
	}
	old, young := file(t, folder, partPrefix+"1", "x"), file(t, folder, partPrefix+"2", "x")
	at := time.Now().Add(-2 * partAge)
	if err := os.Chtimes(old, at, at); err != nil {
		t.Fatal(err)
	}
	if _, err := newFolder(folder); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Error("the old one is still there")
	}
	if _, err := os.Stat(young); err != nil {
		t.Error(err)
	}
}
