package orgaudit

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

var header = regexp.MustCompile(`^<(\d+)>1 2026-11-03T09:00:00\.000Z \S+ org-backend \d+ audit - (\{.*\})$`)

// octets reads one message with its count (RFC 6587 §3.4.1).
func octets(t *testing.T, from *bufio.Reader) string {
	t.Helper()
	count, err := from.ReadString(' ')
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(count))
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(from, text); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func checkMessage(t *testing.T, text, priority string, r Record) {
	t.Helper()
	m := header.FindStringSubmatch(text)
	if m == nil || m[1] != priority {
		t.Fatalf("message %q", text)
	}
	r.Time = start
	if got, err := parse([]byte(m[2])); err != nil || got != r {
		t.Errorf("%+v, %v", got, err)
	}
}

func listening(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func accepted(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestASyslogServerGetsRFC5424WithOctetCountsAndIsFoundAgainAfterItWasGone(t *testing.T) {
	server := listening(t, "tcp", "127.0.0.1:0")
	l := opened(t, orgconfig.Audit{Syslog: "tcp://" + server.Addr().String()}, &clock{t: start})
	refused := someone(2)
	refused.Outcome, refused.Code = Refused, problem.ProviderMismatch
	record(t, l, someone(1))
	record(t, l, refused)
	conn := accepted(t, server)
	reader := bufio.NewReader(conn)
	checkMessage(t, octets(t, reader), "110", someone(1))
	checkMessage(t, octets(t, reader), "109", refused)
	s := l.sinks["syslog"].(*syslog)
	gone := s.gone
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	for !gone.Load() { // until the kernel has told
		runtime.Gosched()
	}
	record(t, l, someone(3))
	checkMessage(t, octets(t, bufio.NewReader(accepted(t, server))), "110", someone(3))
}

func TestASyslogServerIsReachedByTLSOnlyWithATrustedCertificate(t *testing.T) {
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	server := tls.NewListener(listening(t, "tcp", "127.0.0.1:0"), &tls.Config{Certificates: certified.TLS.Certificates, MinVersion: tls.VersionTLS12})
	got := make(chan string, 1)
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			if err := conn.(*tls.Conn).HandshakeContext(t.Context()); err != nil {
				_ = conn.Close()
				continue
			}
			got <- octets(t, bufio.NewReader(conn))
			_ = conn.Close()
		}
	}()
	l, err := Open(orgconfig.Audit{Syslog: "tls://" + server.Addr().String()}, (&clock{t: start}).now, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := l.Record(someone(1)); problem.CodeOf(err) != problem.OrgBusy {
		t.Errorf("an untrusted server: %v", err)
	}
	s := l.sinks["syslog"].(*syslog)
	s.reason = nil
	s.tls.RootCAs = x509.NewCertPool()
	s.tls.RootCAs.AddCert(certified.Certificate())
	if err := l.Record(someone(2)); err != nil {
		t.Fatal(err)
	}
	checkMessage(t, <-got, "110", someone(2))
}

func TestUDPAndTheLogOfTheMachineGetOneDatagramEach(t *testing.T) {
	udp, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	l := opened(t, orgconfig.Audit{Syslog: "udp://" + udp.LocalAddr().String()}, &clock{t: start})
	record(t, l, someone(1))
	text := make([]byte, 8192)
	n, _, err := udp.ReadFrom(text)
	if err != nil {
		t.Fatal(err)
	}
	checkMessage(t, string(text[:n]), "110", someone(1))

	local, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "unixgram", filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = local.Close() }()
	l = opened(t, orgconfig.Audit{Syslog: "local"}, &clock{t: start})
	l.sinks["syslog"].(*syslog).address = local.LocalAddr().String()
	record(t, l, someone(1))
	if n, _, err = local.ReadFrom(text); err != nil {
		t.Fatal(err)
	}
	_, body, found := strings.Cut(string(text[:n]), "]: ")
	if !found || !strings.HasPrefix(string(text[:n]), "<86>Nov ") || !json.Valid([]byte(body)) {
		t.Errorf("%q", text[:n])
	}
}

func TestAServerThatDoesNotAnswerIsNotAskedForEveryLine(t *testing.T) {
	l, err := Open(orgconfig.Audit{Syslog: "tcp://127.0.0.1:9"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	dials := 0
	l.sinks["syslog"].(*syslog).dial = func(string, string, *tls.Config) (net.Conn, error) {
		dials++
		return nil, errors.New("nobody there")
	}
	for range 100 {
		if err := l.Record(someone(1)); problem.CodeOf(err) != problem.OrgBusy {
			t.Fatal(err)
		}
	}
	if dials > 50 {
		t.Errorf("%d attempts for 100 lines", dials)
	}
}

func TestOnlyAddressesOfSyslogServersAreAccepted(t *testing.T) {
	for _, good := range []string{"local", "tcp://log.hospital.example:601", "tls://[::1]:6514", "udp://10.0.0.1:514"} {
		if err := CheckSyslog(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "tcp://log", "http://log:514", "tcp://a@log:514", "tcp://log:514/x", "log:514", "/dev/log"} {
		if CheckSyslog(bad) == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}
