package orgstore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgstore/natstest"
	"encounterlauncher/internal/problem"
)

func TestAServerIsReachedOnlyByTLSWithItsAuthorityACertificateAndCredentials(t *testing.T) {
	cluster := natstest.Start(t, 1)
	stranger := natstest.Start(t, 1)
	cluster.Config.Replicas = 1
	c := connect(t, cluster.Config)
	if !c.Durable() || c.Replicas() != 1 {
		t.Errorf("durable %v, %d replicas", c.Durable(), c.Replicas())
	}
	opened(t, c)
	for name, change := range map[string]func(*orgconfig.NATS){
		"another authority":     func(n *orgconfig.NATS) { n.CAFile = stranger.Config.CAFile },
		"the system's":          func(n *orgconfig.NATS) { n.CAFile = "" },
		"no certificate":        func(n *orgconfig.NATS) { n.CertFile, n.KeyFile = "", "" },
		"another's certificate": func(n *orgconfig.NATS) { n.CertFile, n.KeyFile = stranger.Config.CertFile, stranger.Config.KeyFile },
		"no credentials":        func(n *orgconfig.NATS) { n.CredentialsFile = "" },
		"another's credentials": func(n *orgconfig.NATS) { n.CredentialsFile = stranger.Config.CredentialsFile },
		"no TLS": func(n *orgconfig.NATS) {
			n.Servers = []string{strings.Replace(n.Servers[0], "tls://", "nats://", 1)}
			n.CAFile, n.CertFile, n.KeyFile = "", "", ""
		},
		"nobody there": func(n *orgconfig.NATS) { n.Servers = []string{"tls://127.0.0.1:1"} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := cluster.Config
			change(&cfg)
			got, err := Connect(cfg)
			if err == nil {
				_ = got.Close()
			}
			if err == nil || !strings.HasPrefix(err.Error(), "nats.servers: ") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAFileThatIsNotWhatItShouldBeIsNamedByItsKey(t *testing.T) {
	good := natstest.Start(t, 1).Config
	folder := t.TempDir()
	other := filepath.Join(folder, "other")
	if err := os.WriteFile(other, []byte("something else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	twice := filepath.Join(folder, "twice")
	text, err := os.ReadFile(good.SealKeyFiles[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(twice, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{other, filepath.Join(folder, "missing")} {
		for key, change := range map[string]func(*orgconfig.NATS){
			"nats.credentials_file": func(n *orgconfig.NATS) { n.CredentialsFile = file },
			"nats.ca_file":          func(n *orgconfig.NATS) { n.CAFile = file },
			"nats.cert_file":        func(n *orgconfig.NATS) { n.CertFile = file },
			"nats.key_file":         func(n *orgconfig.NATS) { n.KeyFile = filepath.Join(folder, "missing") },
			"nats.seal_key_files":   func(n *orgconfig.NATS) { n.SealKeyFiles = []string{n.SealKeyFiles[0], file} },
		} {
			cfg := good
			change(&cfg)
			if err := Check(cfg); err == nil || !strings.HasPrefix(err.Error(), key+": ") || strings.Contains(err.Error(), "something else") {
				t.Errorf("%s: %v", key, err)
			}
			if c, err := Connect(cfg); err == nil {
				_ = c.Close()
				t.Errorf("%s: Connect takes what Check refuses", key)
			}
		}
	}
	cfg := good
	cfg.SealKeyFiles = []string{good.SealKeyFiles[0], twice}
	if err := Check(cfg); err == nil || !strings.Contains(err.Error(), "two files hold the same key") {
		t.Errorf("%v", err)
	}
}

func TestALostServerIsBusyAndNotReadyUntilItComesBack(t *testing.T) {
	cluster := natstest.Start(t, 1)
	cluster.Config.Replicas = 1
	c := connect(t, cluster.Config)
	h, _ := opened(t, c)
	mint(t, h, "handle")
	if err := c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	cluster.Kill(0)
	begun := time.Now()
	wants(t, "mint", h.Mint(t.Context(), "handle-2", launch("E-1")), problem.OrgBusy)
	if took := time.Since(begun); took > 3*StoreTime {
		t.Errorf("it was refused after %v", took)
	}
	if c.Check(t.Context()) == nil {
		t.Error("it says that it is ready")
	}
	cluster.Restart(t, 0)
	cluster.Until(t, "the store is ready", func() bool { return c.Check(t.Context()) == nil })
	cluster.Until(t, "a handle is taken", func() bool { return h.Mint(t.Context(), "handle-3", launch("E-1")) == nil })
	wants(t, "redeem", h.Redeem(t.Context(), look(t, h, "handle-3"), Spender{"s-1", "k-1"}), "")
}

func TestBackendsThatStartAtOnceShareOneStreamAndEachOthersHandles(t *testing.T) {
	cluster := natstest.Start(t, 3)
	const n = 6
	handles := make([]*Handles, n)
	start := make(chan struct{})
	var group sync.WaitGroup
	for i := range n {
		c := connect(t, cluster.Config)
		group.Go(func() {
			<-start
			var err error
			if handles[i], err = OpenHandles(t.Context(), c, life, (&clock{}).now); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i, h := range handles {
		if info := streamOf(t, h).stream.CachedInfo(); info.Config.Replicas != 3 || info.Created != streamOf(t, handles[0]).stream.CachedInfo().Created {
			t.Errorf("backend %d: %d replicas, made %v", i, info.Config.Replicas, info.Created)
		}
		// What one has just made every other one finds at once.
		name := fmt.Sprint("handle-", i)
		mint(t, h, name)
		for _, other := range handles {
			look(t, other, name)
		}
	}
	js := streamOf(t, handles[0]).conn.JetStream()
	cluster.Healed(t, js)
	leader := cluster.Leader(t, js, handleStream)
	cluster.Kill(leader)
	late := connect(t, cluster.Config)
	h, _ := opened(t, late)
	for i := range n {
		name := fmt.Sprint("handle-", i)
		wants(t, name+" by a backend that started with a server missing", h.Redeem(t.Context(), look(t, h, name), Spender{"s-1", name}), "")
		wants(t, name+" by another key", handles[i].Redeem(t.Context(), look(t, handles[i], name), Spender{"s-2", name}), problem.HandleSpent)
	}
}
