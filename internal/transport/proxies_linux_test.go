package transport

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

// backendName is a name that only a proxy of these tests can resolve.
const backendName = "backend.hospital.test"

// needed is a program of Debian's; build/setup.sh test installs it.
func needed(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + program); err != nil {
			t.Fatalf("%s is missing: run build/setup.sh test", program)
		}
	}
	return path
}

// freePort is one on 127.0.0.1 that nobody listens on now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// started runs a proxy until the test ends, and returns when it has said ready and
// lets somebody in.
func started(t *testing.T, port, ready, program string, args ...string) {
	t.Helper()
	command := exec.Command(program, args...)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stdout, command.Stderr = in, in
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	drained := make(chan struct{})
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		<-drained
		_ = out.Close()
	})
	lines := bufio.NewScanner(out)
	var said strings.Builder
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), ready) {
			go func() { defer close(drained); _, _ = io.Copy(io.Discard, out) }()
			admitted(t, port)
			return
		}
	}
	close(drained)
	t.Fatalf("%s ended:\n%s", program, said.String())
}

// admitted dials until somebody listens: squid says that it accepts connections just
// before it does.
func admitted(t *testing.T, port string) {
	t.Helper()
	for range 200_000 {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = conn.Close()
			return
		}
	}
	t.Fatal("the proxy lets nobody in")
}

// tinyproxy sends every tunnel on through another proxy, since it knows no name of
// these tests.
func tinyproxy(t *testing.T, upstream, settings string) string {
	t.Helper()
	port := freePort(t)
	file := filepath.Join(t.TempDir(), "tinyproxy.conf")
	text := fmt.Sprintf("Port %s\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nLogLevel Info\nUpstream http %s\n%s\n", port, strings.TrimPrefix(upstream, "http://"), settings)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	started(t, port, "Accepting connections", needed(t, "tinyproxy"), "-d", "-c", file)
	return "http://127.0.0.1:" + port
}

// squidDir is a folder that squid can use, which does not run as root.
func squidDir(t *testing.T) (dir, identity string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "squid")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if os.Getuid() == 0 {
		identity = "cache_effective_user proxy\ncache_effective_group proxy\n"
	}
	return dir, identity
}

// owned gives what lies in a folder to squid's user.
func owned(t *testing.T, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	proxy, err := user.Lookup("proxy")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(proxy.Uid)
	gid, _ := strconv.Atoi(proxy.Gid)
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	}); err != nil {
		t.Fatal(err)
	}
}

// squid runs with a folder's settings, and resolves backendName.
func squid(t *testing.T, dir, identity, listen, settings string) string {
	t.Helper()
	port := freePort(t)
	text := identity + fmt.Sprintf(`http_port 127.0.0.1:%s %s
hosts_file %s/hosts
visible_hostname proxy.hospital.test
pid_filename none
access_log none
cache_log /dev/null
coredump_dir %s
netdb_filename none
cache deny all
pinger_enable off
shutdown_lifetime 0 seconds
%s
http_access allow all
`, port, listen, dir, dir, settings)
	for file, content := range map[string]string{"hosts": "127.0.0.1 " + backendName + "\n", "squid.conf": text} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	owned(t, dir)
	started(t, port, "Accepting", needed(t, "squid"), "-N", "-d", "1", "-f", filepath.Join(dir, "squid.conf"))
	return "http://127.0.0.1:" + port
}

// backend is a server under backendName, of an authority of its own.
func backend(t *testing.T) (ca authority, address, caFile string) {
	t.Helper()
	ca = newAuthority(t, "Hospital Root")
	certificate, key := ca.issue(t, "backend", backendName)
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(greeting))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.StartTLS()
	t.Cleanup(s.Close)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return ca, "https://" + backendName + ":" + port, writeFile(t, pemOf(ca.certificate))
}

func pemOf(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func TestTinyproxyLeadsToTheBackend(t *testing.T) {
	_, address, ca := backend(t)
	upstream, tunnels := connectProxy(t, strings.Replace(strings.TrimPrefix(address, "https://"), backendName, "127.0.0.1", 1), "")
	k := &keyring{}
	c := clientWithCredentials(t, policy.Snapshot{ProxyMode: "manual", ProxyURL: tinyproxy(t, upstream.URL, ""), ExtraCAFile: ca}, k)
	if got, err := get(t, c, address); err != nil || got != "hello" || tunnels.Load() != 1 {
		t.Errorf("got %q, %v, %d tunnels", got, err, tunnels.Load())
	}
	if k.asked.Load() != 0 {
		t.Error("the keyring was asked although no proxy asked")
	}
}

func TestTinyproxyThatWantsAPasswordGetsTheStoredOneAndIsNamedWhenThereIsNone(t *testing.T) {
	_, address, ca := backend(t)
	upstream, _ := connectProxy(t, strings.Replace(strings.TrimPrefix(address, "https://"), backendName, "127.0.0.1", 1), "")
	rules := policy.Snapshot{ProxyMode: "manual", ProxyURL: tinyproxy(t, upstream.URL, "BasicAuth ada right"), ExtraCAFile: ca}
	k := &keyring{stored: map[string]Credential{}}
	c := clientWithCredentials(t, rules, k)
	_, err := get(t, c, address)
	wantCode(t, err, problem.ProxyAuthNeeded)
	wantNoAddress(t, err)
	if next := problem.Of(err).Row().NextStep; !strings.Contains(next, "proxy-credential set") {
		t.Errorf("the next step is %q", next)
	}
	k.stored["127.0.0.1"] = credential("ada", "right", "1")
	if got, err := post(t, c, address); err != nil || got != "hello" {
		t.Fatalf("after it was stored: %q, %v", got, err)
	}
	before := k.asked.Load()
	c.CloseIdleConnections()
	if got, err := get(t, c, address); err != nil || got != "hello" || k.asked.Load() != before {
		t.Errorf("the second tunnel: %q, %v; the keyring was asked %d times more", got, err, k.asked.Load()-before)
	}
}

// post sends a body, which a second attempt has to send again.
func post(t *testing.T, c *http.Client, address string) (string, error) {
	t.Helper()
	answer, err := c.Post(address, "application/json", strings.NewReader("{}"))
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	return string(b), err
}

func TestSquidThatWantsAPasswordIsAnsweredInTunnelsAndWithoutThem(t *testing.T) {
	_, address, ca := backend(t)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(proxyAuthorization) != "" {
			t.Error("the server was shown the proxy's credential")
		}
		greeting(w, r)
	}))
	t.Cleanup(plain.Close)
	_, plainPort, _ := net.SplitHostPort(plain.Listener.Addr().String())
	dir, identity := squidDir(t)
	helper := "while read -r line; do if [ \"$line\" = 'ada r%20ght' ]; then echo OK; else echo ERR; fi; done\n"
	if err := os.WriteFile(filepath.Join(dir, "helper.sh"), []byte(helper), 0o600); err != nil {
		t.Fatal(err)
	}
	proxy := squid(t, dir, identity, "", "auth_param basic program /bin/sh "+dir+"/helper.sh\nauth_param basic children 1\nacl known proxy_auth REQUIRED\nhttp_access deny !known")
	rules := policy.Snapshot{ProxyMode: "manual", ProxyURL: proxy, ExtraCAFile: ca}
	k := &keyring{stored: map[string]Credential{"127.0.0.1": credential("ada", "r ght", "1")}}
	for _, target := range []string{address, "http://" + backendName + ":" + plainPort + "/"} {
		if got, err := post(t, clientWithCredentials(t, rules, k), target); err != nil || got != "hello" {
			t.Errorf("got %q, %v", got, problem.Of(err).LogValue())
		}
	}
	// A wrong one is sent once, and again only after it was set anew.
	k = &keyring{stored: map[string]Credential{"127.0.0.1": credential("ada", "canary", "1")}}
	c := clientWithCredentials(t, rules, k)
	for range 3 {
		_, err := get(t, c, address)
		wantCode(t, err, problem.ProxyAuthNeeded)
		wantNoAddress(t, err)
		if fact := problem.Of(err).Fact; fact != "The proxy has refused the stored name and password." {
			t.Errorf("fact %q", fact)
		}
	}
	k.stored["127.0.0.1"] = credential("ada", "r ght", "2")
	if got, err := get(t, c, address); err != nil || got != "hello" {
		t.Errorf("after it was set anew: %q, %v", got, err)
	}
	// What the keyring cannot say is told as it is.
	k = &keyring{err: problem.New(problem.KeyringLocked, nil)}
	_, err := get(t, clientWithCredentials(t, rules, k), address)
	wantCode(t, err, problem.KeyringLocked)
}

func TestSquidThatInterceptsTLSIsUntrustedByNameAndTrustedByPolicy(t *testing.T) {
	ca, address, caFile := backend(t)
	inspection := newAuthority(t, "Hospital Inspection")
	dir, identity := squidDir(t)
	private, err := x509.MarshalPKCS8PrivateKey(inspection.key)
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"inspection.pem": pemOf(inspection.certificate) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"hospital.pem":   pemOf(ca.certificate),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const certgen = "/usr/lib/squid/security_file_certgen"
	if out, err := exec.CommandContext(t.Context(), certgen, "-c", "-s", filepath.Join(dir, "certificates"), "-M", "4MB").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	proxy := squid(t, dir, identity, "ssl-bump tls-cert="+dir+"/inspection.pem generate-host-certificates=on dynamic_cert_mem_cache_size=4MB",
		"sslcrtd_program "+certgen+" -s "+dir+"/certificates -M 4MB\nsslcrtd_children 1 startup=1\nssl_bump bump all\ntls_outgoing_options cafile="+dir+"/hospital.pem")
	rules := policy.Snapshot{ProxyMode: "manual", ProxyURL: proxy, ExtraCAFile: caFile}
	_, err = get(t, client(t, rules), address)
	wantCode(t, err, problem.TLSUntrusted)
	wantNoAddress(t, err)
	if cause := problem.Of(err).LogValue().String(); !strings.Contains(cause, "Hospital Inspection") {
		t.Errorf("the log does not name who intercepts: %s", cause)
	}
	if chain := Presented(err); len(chain) == 0 || chain[0].Issuer.CommonName != "Hospital Inspection" {
		t.Errorf("presented %d certificates", len(chain))
	}
	if strings.Contains(err.Error(), "Inspection") {
		t.Errorf("text of a certificate in what people read: %v", err)
	}
	rules.ExtraCAFile = writeFile(t, pemOf(inspection.certificate))
	if got, err := get(t, client(t, rules), address); err != nil || got != "hello" {
		t.Errorf("with the inspection's authority: %q, %v", got, err)
	}
}
