// Package natstest is a NATS cluster on loopback for tests: real servers with
// JetStream, TLS with client certificates, an operator with accounts, and folders of
// their own. Each server can be killed and started again.
//
// It is never part of a program, and it simulates nothing.
package natstest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"encounterlauncher/internal/orgconfig"
)

// patience bounds every wait. A cluster elects within ten seconds; a slow machine
// may need several rounds.
const patience = 60 * time.Second

// Cluster is servers that know each other. It is not safe for concurrent use.
type Cluster struct {
	// Config connects to it: TLS, a client certificate, credentials, a seal key.
	Config orgconfig.NATS

	folder  string
	options []*server.Options
	running []*server.Server
}

// Start starts n servers, and waits until they have elected a leader. They end with
// the test.
func Start(t testing.TB, n int) *Cluster {
	t.Helper()
	c := &Cluster{folder: t.TempDir(), running: make([]*server.Server, n)}
	serverTLS := c.certificates(t)
	operator, resolver, system := c.accounts(t)
	ports := freePorts(t, 2*n)
	var routes []*url.URL
	for i := range n {
		routes = append(routes, &url.URL{Scheme: "nats", Host: address(ports[n+i])})
		c.Config.Servers = append(c.Config.Servers, "tls://"+address(ports[i]))
	}
	for i := range n {
		o := &server.Options{
			ServerName: "n" + strconv.Itoa(i+1), Host: "127.0.0.1", Port: ports[i],
			JetStream: true, JetStreamMaxMemory: 2 << 30, JetStreamMaxStore: 4 << 30, StoreDir: filepath.Join(c.folder, strconv.Itoa(i)), SyncAlways: true,
			TLSConfig: serverTLS, TLSTimeout: 10, AuthTimeout: 20, NoLog: true, NoSigs: true,
			TrustedOperators: []*jwt.OperatorClaims{operator}, AccountResolver: resolver, SystemAccount: system,
		}
		if n > 1 {
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[n+i]}
			o.Routes = routes
		}
		c.options = append(c.options, o)
	}
	t.Cleanup(func() {
		for i := range c.running {
			c.Kill(i)
		}
	})
	for i := range n {
		c.start(t, i)
	}
	c.Until(t, "a leader is elected", func() bool {
		for _, s := range c.running {
			if s.JetStreamIsLeader() && (n == 1 || len(s.JetStreamClusterPeers()) == n) {
				return true
			}
		}
		return n == 1
	})
	return c
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func freePorts(t testing.TB, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		// All are held until the last one is found, so that no two are the same.
		defer func() { _ = l.Close() }()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

func (c *Cluster) start(t testing.TB, i int) {
	t.Helper()
	s, err := server.NewServer(c.options[i].Clone())
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	c.running[i] = s
	if !s.ReadyForConnections(patience) {
		t.Fatal("a NATS server does not start")
	}
}

// Kill ends one server at once: nothing is drained. It is no fault to kill it again.
func (c *Cluster) Kill(i int) {
	if c.running[i] == nil {
		return
	}
	c.running[i].Shutdown()
	c.running[i].WaitForShutdown()
	c.running[i] = nil
}

// Restart starts a killed server again, with its folder.
func (c *Cluster) Restart(t testing.TB, i int) {
	t.Helper()
	c.start(t, i)
}

// Named returns the place of a server by its name, or -1.
func (c *Cluster) Named(name string) int {
	for i, o := range c.options {
		if o.ServerName == name {
			return i
		}
	}
	return -1
}

// Until polls, which a cluster that elects leaves no other way for. It fails the
// test after a minute.
func (c *Cluster) Until(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !done(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it does not come about that %s", what)
		}
	}
}

// Healed waits until all servers run up to date, every stream has a leader and every
// copy of it is complete: only then may the next server be killed.
func (c *Cluster) Healed(t testing.TB, js jetstream.JetStream) {
	t.Helper()
	c.Until(t, "all servers are up to date", func() bool {
		for _, s := range c.running {
			if s == nil || !s.JetStreamIsCurrent() {
				return false
			}
		}
		return true
	})
	c.Until(t, "every stream is complete everywhere", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		list := js.StreamNames(ctx)
		for name := range list.Name() {
			if !complete(streamInfo(ctx, js, name)) {
				return false
			}
		}
		return list.Err() == nil
	})
}

func complete(info *jetstream.StreamInfo) bool {
	if info == nil || info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != info.Config.Replicas-1 {
		return false
	}
	for _, r := range info.Cluster.Replicas {
		if !r.Current || r.Offline || r.Lag != 0 {
			return false
		}
	}
	return true
}

// Leader returns the place of the server that leads a stream.
func (c *Cluster) Leader(t testing.TB, js jetstream.JetStream, stream string) int {
	t.Helper()
	leader := -1
	c.Until(t, "the stream "+stream+" has a leader", func() bool {
		if info := streamInfo(t.Context(), js, stream); info != nil && info.Cluster != nil {
			leader = c.Named(info.Cluster.Leader)
		}
		return leader >= 0
	})
	return leader
}

func streamInfo(ctx context.Context, js jetstream.JetStream, name string) *jetstream.StreamInfo {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, name)
	if err != nil {
		return nil
	}
	return s.CachedInfo()
}

// Client connects as an administrator's tool would, with the rights of Config.
func (c *Cluster) Client(t testing.TB) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect("", nats.UserCredentials(c.Config.CredentialsFile), nats.RootCAs(c.Config.CAFile),
		nats.ClientCert(c.Config.CertFile, c.Config.KeyFile), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		func(o *nats.Options) error { o.Servers = c.Config.Servers; return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// SealKey writes a file with a fresh key for seal_key_files.
func SealKey(t testing.TB, folder, name string) string {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // crypto/rand.Read never fails since Go 1.24
	return write(t, folder, name, []byte(base64.StdEncoding.EncodeToString(key)+"\n"))
}

func write(t testing.TB, folder, name string, text []byte) string {
	t.Helper()
	file := filepath.Join(folder, name)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// certificates makes an authority, the servers' certificate and a client's.
func (c *Cluster) certificates(t testing.TB) *tls.Config {
	t.Helper()
	authority, authorityKey := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, newKey(t)
	issue := func(serial int64, template, parent *x509.Certificate, key *ecdsa.PrivateKey) []byte {
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(serial), parent.NotBefore, parent.NotAfter
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, authorityKey)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	authorityDER := issue(1, authority, authority, authorityKey)
	serverKey, clientKey := newKey(t), newKey(t)
	serverDER := issue(2, &x509.Certificate{
		Subject: pkix.Name{CommonName: "nats"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, authority, serverKey)
	clientDER := issue(3, &x509.Certificate{
		Subject: pkix.Name{CommonName: "org-backend"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, authority, clientKey)
	pool := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(authorityDER)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(parsed)
	keyDER, err := x509.MarshalPKCS8PrivateKey(clientKey)
	if err != nil {
		t.Fatal(err)
	}
	c.Config.CAFile = write(t, c.folder, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authorityDER}))
	c.Config.CertFile = write(t, c.folder, "client.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: clientDER}))
	c.Config.KeyFile = write(t, c.folder, "client.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{serverDER}, PrivateKey: serverKey}},
		ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Subjects are what the user of Config may publish to and subscribe to: what
// docs/org-backend.md asks an administrator for.
var (
	MayPublish   = []string{"handles.*", "exports.of.*", "exports.new.*", "deliveries.>", "$JS.API.>", "$JS.ACK.>", "$KV.>"}
	MaySubscribe = []string{"_INBOX.>", "exports.new.*"}
)

// accounts makes an operator, its system account, an account with JetStream and a
// user in it, as an organisation's administrator does with nsc.
func (c *Cluster) accounts(t testing.TB) (operator *jwt.OperatorClaims, resolver *server.MemAccResolver, system string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(fmt.Errorf("making credentials: %w", err))
		}
	}
	public := func(k nkeys.KeyPair) string {
		text, err := k.PublicKey()
		must(err)
		return text
	}
	operatorKey, err := nkeys.CreateOperator()
	must(err)
	systemKey, err := nkeys.CreateAccount()
	must(err)
	accountKey, err := nkeys.CreateAccount()
	must(err)
	userKey, err := nkeys.CreateUser()
	must(err)
	system = public(systemKey)
	operator = jwt.NewOperatorClaims(public(operatorKey))
	operator.SystemAccount = system
	_, err = operator.Encode(operatorKey)
	must(err)
	account := jwt.NewAccountClaims(public(accountKey))
	account.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
	accountText, err := account.Encode(operatorKey)
	must(err)
	systemText, err := jwt.NewAccountClaims(system).Encode(operatorKey)
	must(err)
	resolver = &server.MemAccResolver{}
	must(resolver.Store(system, systemText))
	must(resolver.Store(public(accountKey), accountText))
	user := jwt.NewUserClaims(public(userKey))
	user.Pub.Allow.Add(MayPublish...)
	user.Sub.Allow.Add(MaySubscribe...)
	userText, err := user.Encode(accountKey)
	must(err)
	seed, err := userKey.Seed()
	must(err)
	credentials, err := jwt.FormatUserConfig(userText, seed)
	must(err)
	c.Config.CredentialsFile = write(t, c.folder, "user.creds", credentials)
	c.Config.SealKeyFiles = []string{SealKey(t, c.folder, "seal.key")}
	return operator, resolver, system
}
