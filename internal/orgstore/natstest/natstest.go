// Package natstest is a NATS cluster on loopback for tests: real servers in processes
// of their own, with JetStream, TLS with client certificates, an operator with
// accounts, and folders. Each can be killed, as a machine dies, and started again.
//
// It is never part of a program, and it simulates nothing.
package natstest

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

const (
	// patience bounds every wait. A cluster elects within ten seconds; a slow machine
	// may need several rounds.
	patience = 90 * time.Second
	// asServer, when it is set, makes a test's program a server with these settings.
	asServer = "NATSTEST_SERVER"
	ready    = "ready"
)

// Cluster is servers that know each other. It is not safe for concurrent use.
type Cluster struct {
	// Config connects to it: TLS, a client certificate, credentials, a seal key.
	Config orgconfig.NATS

	folder   string
	settings []settings
	running  []*exec.Cmd
}

// settings are what a server's process is told.
type settings struct {
	Name, Folder, Operator, System           string
	Port, RoutePort, HealthPort              int
	Routes                                   []string
	Accounts                                 map[string]string
	CertificateFile, KeyFile, ClientsCAsFile string
}

// Main is what TestMain calls: it runs the tests, or the server that Start asked for.
func Main(m interface{ Run() int }) {
	text := os.Getenv(asServer)
	if text == "" {
		os.Exit(m.Run())
	}
	if err := serve(text); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(1)
}

// serve runs a server until this process is killed, or the test is no more.
func serve(text string) error {
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	operator, err := jwt.DecodeOperatorClaims(s.Operator)
	if err != nil {
		return err
	}
	resolver := &server.MemAccResolver{}
	for name, account := range s.Accounts {
		if err := resolver.Store(name, account); err != nil {
			return err
		}
	}
	certificate, err := tls.LoadX509KeyPair(s.CertificateFile, s.KeyFile)
	if err != nil {
		return err
	}
	clients, err := os.ReadFile(s.ClientsCAsFile)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(clients)
	o := &server.Options{
		ServerName: s.Name, Host: "127.0.0.1", Port: s.Port, HTTPHost: "127.0.0.1", HTTPPort: s.HealthPort,
		JetStream: true, JetStreamMaxMemory: 4 << 30, JetStreamMaxStore: 64 << 30, StoreDir: s.Folder, SyncAlways: true,
		TLSConfig:  &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert},
		TLSTimeout: 10, AuthTimeout: 20, NoLog: true, NoSigs: true,
		TrustedOperators: []*jwt.OperatorClaims{operator}, AccountResolver: resolver, SystemAccount: s.System,
	}
	if len(s.Routes) > 1 {
		o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: s.RoutePort}
		for _, route := range s.Routes {
			o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: route})
		}
	}
	ns, err := server.NewServer(o)
	if err != nil {
		return err
	}
	ns.Start()
	if !ns.ReadyForConnections(patience) {
		return errors.New("the server does not start")
	}
	fmt.Println(ready)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// Start starts n servers, and waits until they have elected a leader. They end with
// the test. The package's TestMain must call Main.
func Start(t testing.TB, n int) *Cluster {
	t.Helper()
	c := &Cluster{folder: t.TempDir(), running: make([]*exec.Cmd, n)}
	common := c.accounts(t)
	c.certificates(t, &common)
	ports := freePorts(t, 3*n)
	for i := range n {
		common.Routes = append(common.Routes, address(ports[n+i]))
		c.Config.Servers = append(c.Config.Servers, "tls://"+address(ports[i]))
	}
	for i := range n {
		s := common
		s.Name, s.Folder = "n"+strconv.Itoa(i+1), filepath.Join(c.folder, strconv.Itoa(i))
		s.Port, s.RoutePort, s.HealthPort = ports[i], ports[n+i], ports[2*n+i]
		c.settings = append(c.settings, s)
	}
	t.Cleanup(func() {
		for i := range c.running {
			c.Kill(i)
		}
	})
	for i := range n {
		c.Restart(t, i)
	}
	c.Until(t, "all servers are in one cluster", c.healthy)
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

// Kill ends a server as a machine dies: it says goodbye to nobody. It is no fault to
// kill it again.
func (c *Cluster) Kill(i int) {
	if c.running[i] == nil {
		return
	}
	_ = c.running[i].Process.Kill()
	_ = c.running[i].Wait()
	c.running[i] = nil
}

// Restart starts a killed server again, with its folder.
func (c *Cluster) Restart(t testing.TB, i int) {
	t.Helper()
	text, err := json.Marshal(c.settings[i])
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), asServer+"="+string(text))
	cmd.Stderr = os.Stderr
	// While the test holds this end, the server lives.
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.running[i] = cmd
	if line, err := bufio.NewReader(out).ReadString('\n'); line != ready+"\n" {
		t.Fatalf("a NATS server does not start: %q, %v; does TestMain call natstest.Main?", line, err)
	}
}

// healthy reports whether all servers run and say that they are up to date.
func (c *Cluster) healthy() bool {
	for i, s := range c.settings {
		if c.running[i] == nil {
			return false
		}
		answer, err := http.Get("http://" + address(s.HealthPort) + "/healthz")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return false
		}
	}
	return true
}

// Until polls, which a cluster that elects leaves no other way for. It fails the
// test after a minute and a half.
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
	c.Until(t, "all servers are up to date", c.healthy)
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
			leader = slices.IndexFunc(c.settings, func(s settings) bool { return s.Name == info.Cluster.Leader })
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
func (c *Cluster) certificates(t testing.TB, to *settings) {
	t.Helper()
	authorityKey := newKey(t)
	authority := &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	issue := func(name string, serial int64, template *x509.Certificate, key *ecdsa.PrivateKey) (certificate, private string) {
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(serial), authority.NotBefore, authority.NotAfter
		der, err := x509.CreateCertificate(rand.Reader, template, authority, &key.PublicKey, authorityKey)
		if err != nil {
			t.Fatal(err)
		}
		keyDER, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return write(t, c.folder, name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
			write(t, c.folder, name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	}
	c.Config.CAFile, _ = issue("authority", 1, authority, authorityKey)
	to.CertificateFile, to.KeyFile = issue("server", 2, &x509.Certificate{
		Subject: pkix.Name{CommonName: "nats"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, newKey(t))
	c.Config.CertFile, c.Config.KeyFile = issue("client", 3, &x509.Certificate{
		Subject: pkix.Name{CommonName: "org-backend"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, newKey(t))
	to.ClientsCAsFile = c.Config.CAFile
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
	MayPublish   = []string{"handles.*", "tenants.*", "exports.of.*", "deliveries.>", "$JS.API.>", "$JS.ACK.>"}
	MaySubscribe = []string{"_INBOX.>", "exports.new.*"}
)

// accounts makes an operator, its system account, an account with JetStream and a
// user in it, as an organisation's administrator does with nsc.
func (c *Cluster) accounts(t testing.TB) settings {
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
	system := public(systemKey)
	operator := jwt.NewOperatorClaims(public(operatorKey))
	operator.SystemAccount = system
	operatorText, err := operator.Encode(operatorKey)
	must(err)
	account := jwt.NewAccountClaims(public(accountKey))
	account.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
	accountText, err := account.Encode(operatorKey)
	must(err)
	systemText, err := jwt.NewAccountClaims(system).Encode(operatorKey)
	must(err)
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
	return settings{Operator: operatorText, System: system, Accounts: map[string]string{system: systemText, public(accountKey): accountText}}
}
