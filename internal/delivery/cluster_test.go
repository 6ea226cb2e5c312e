//go:build cluster

package delivery

import (
	"errors"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgstore"
	"encounterlauncher/internal/orgstore/natstest"
)

func TestMain(m *testing.M) { natstest.Main(m) }

// Three NATS servers and three backends; a backend dies, and then every server in
// turn, while callbacks come.
func TestInAClusterEveryCallbackThatWasTakenIsDeliveredWhoeverDies(t *testing.T) {
	cluster := natstest.Start(t, 3)
	w := newWorldOf(t)
	w.cfg.NATS = cluster.Config
	w.cfg.Deliver.Folder = ""
	w.options.AckWait = 3 * time.Second
	w.options.Now = nil
	var queues [3]*Queue
	var conns [3]*orgstore.Conn
	var starting sync.WaitGroup
	for i := range queues {
		starting.Go(func() { queues[i], conns[i] = backend(t, w, w.cfg) })
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() {
		for i, q := range queues {
			if q != nil {
				q.Close()
				_ = conns[i].Close()
			}
		}
	})

	var mu sync.Mutex
	taken := map[string][]byte{}
	refused := 0
	var dead sync.WaitGroup
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for n := range 2 {
		callers.Go(func() {
			for i := n; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id, raw := note("E-1")
				err := queues[1+i%2].Accept(t.Context(), id, nabla.NoteExport, raw)
				mu.Lock()
				switch {
				case err == nil:
					taken[id] = raw
				case errors.Is(err, ErrSeen):
					t.Error("a first call was taken for a repetition")
				default:
					refused++
				}
				mu.Unlock()
			}
		})
	}
	some := func(more int) {
		mu.Lock()
		from := len(taken)
		mu.Unlock()
		cluster.Until(t, "callbacks are taken", func() bool { mu.Lock(); defer mu.Unlock(); return len(taken) >= from+more })
	}
	some(25)
	// The first backend dies with whatever it is at.
	dead.Go(func() { _ = conns[0].Close(); queues[0].halt(); queues[0].abort(); queues[0].running.Wait() })
	some(25)
	js := cluster.Client(t)
	for server := range 3 {
		cluster.Healed(t, js)
		cluster.Kill(server)
		some(25)
		cluster.Restart(t, server)
	}
	some(25)
	close(stop)
	callers.Wait()
	dead.Wait()
	queues[0] = nil
	t.Logf("%d taken, %d answered with 503", len(taken), refused)
	cluster.Healed(t, js)
	for id, raw := range taken {
		cluster.Until(t, "a callback is delivered", func() bool { return w.ehr.times(id) > 0 })
		if err := queues[1].Accept(t.Context(), id, nabla.NoteExport, raw); !errors.Is(err, ErrSeen) {
			t.Fatalf("a repetition: %v", err)
		}
	}
	cluster.Until(t, "nothing waits", func() bool {
		l, err := queues[2].List(t.Context(), false)
		return err == nil && l.Counts[Queued] == 0 && l.Counts[Aside] == 0 && l.Counts[Delivered] >= len(taken)
	})
}

func backend(t *testing.T, w *world, cfg orgconfig.Config) (*Queue, *orgstore.Conn) {
	conn, err := orgstore.Connect(cfg.NATS)
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	places, err := Places(cfg, nil, time.Now)
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	q, err := Open(t.Context(), conn, places, w.options)
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	return q, conn
}
