package orgaudit

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// logAudit is the facility 13 of RFC 5424 §6.2.1, authPriv the 10 that a system's
	// own log knows.
	logAudit = 13
	authPriv = 10
	notice   = 5
	info     = 6
	// syslogTime bounds one connection or one line: nobody waits longer for a page.
	syslogTime = 2 * time.Second
	// redialPause is how often a server that did not answer is tried again; between,
	// lines fail at once.
	redialPause = time.Second
	appName     = "org-backend"
)

// syslog sends lines to a syslog server, or to that of this machine.
type syslog struct {
	network, address string
	tls              *tls.Config // nil without TLS
	host             string
	dial             func(network, address string, t *tls.Config) (net.Conn, error)

	conn   net.Conn
	gone   *atomic.Bool // the peer has closed conn
	tried  time.Time
	reason error
}

// destination reads audit.syslog: "local", or tcp://, tls:// or udp:// and host:port.
// It returns network and address as net.Dial takes them.
func destination(text string) (network, address string, secure bool, err error) {
	if text == "local" {
		return "unixgram", "/dev/log", false, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Port() == "" || text != u.Scheme+"://"+u.Host {
		return "", "", false, errors.New("it is neither local nor tcp://, tls:// or udp:// with host:port")
	}
	switch u.Scheme {
	case "tcp", "udp":
		return u.Scheme, u.Host, false, nil
	case "tls":
		return "tcp", u.Host, true, nil
	}
	return "", "", false, errors.New("it is neither local nor tcp://, tls:// or udp:// with host:port")
}

// CheckSyslog says what is wrong with a value of audit.syslog.
func CheckSyslog(text string) error {
	_, _, _, err := destination(text)
	return err
}

func newSyslog(text string) (*syslog, error) {
	network, address, secure, err := destination(text)
	if err != nil {
		return nil, err
	}
	s := &syslog{network: network, address: address, dial: dial}
	if secure {
		host, _, _ := net.SplitHostPort(address)
		s.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	}
	// The name of this machine; "-" is RFC 5424's word for none.
	if s.host, err = os.Hostname(); err != nil || strings.ContainsFunc(s.host, func(r rune) bool { return r <= ' ' || r > '~' }) || s.host == "" {
		s.host = "-"
	}
	return s, nil
}

func dial(network, address string, t *tls.Config) (net.Conn, error) {
	d := &net.Dialer{Timeout: syslogTime}
	if t != nil {
		return tls.DialWithDialer(d, network, address, t)
	}
	return d.Dial(network, address)
}

// frame is what goes over the wire: RFC 5424 to a server, with the octet count of
// RFC 6587 §3.4.1 over a stream; for the machine's own log the older form that
// syslog(3) writes, which is the one that journald and rsyslog read there.
func (s *syslog) frame(r Record, text []byte) []byte {
	severity := info
	if r.Outcome != Done {
		severity = notice
	}
	text = text[:len(text)-1] // the line feed
	if s.network == "unixgram" {
		return fmt.Appendf(nil, "<%d>%s %s[%d]: %s", authPriv*8+severity, r.Time.Local().Format(time.Stamp), appName, os.Getpid(), text)
	}
	message := fmt.Appendf(nil, "<%d>1 %s %s %s %d audit - %s", logAudit*8+severity, r.Time.UTC().Format(timeForm), s.host, appName, os.Getpid(), text)
	if s.network == "tcp" {
		message = append(strconv.AppendInt(nil, int64(len(message)), 10), append([]byte{' '}, message...)...)
	}
	return message
}

func (s *syslog) write(r Record, text []byte) error {
	message := s.frame(r, text)
	// A connection that was lost since the last line is not the line's fault: once
	// more over a fresh one. A line of which a part was sent may arrive twice, never
	// not at all.
	for attempt := 0; ; attempt++ {
		err := s.connect()
		if err != nil {
			return err
		}
		if err = s.send(message); err == nil {
			return nil
		}
		_ = s.conn.Close()
		s.conn = nil
		if attempt > 0 {
			return fmt.Errorf("sending: %w", plainCause(err))
		}
	}
}

func (s *syslog) send(message []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(syslogTime)); err != nil {
		return err
	}
	_, err := s.conn.Write(message)
	return err
}

func (s *syslog) connect() error {
	if s.conn != nil && s.gone.Load() {
		_ = s.conn.Close()
		s.conn = nil
	}
	if s.conn != nil {
		return nil
	}
	if s.reason != nil && time.Since(s.tried) < redialPause {
		return s.reason
	}
	s.tried = time.Now()
	conn, err := s.dial(s.network, s.address, s.tls)
	if err != nil {
		s.reason = fmt.Errorf("connecting: %w", plainCause(err))
		return s.reason
	}
	s.reason, s.conn, s.gone = nil, conn, &atomic.Bool{}
	if s.network == "tcp" {
		// A server never speaks; that it has closed shows only to whoever reads, and a
		// first write after that would seem to succeed.
		gone := s.gone
		go func() {
			_, _ = io.Copy(io.Discard, conn)
			gone.Store(true)
		}()
	}
	return nil
}

func (s *syslog) close() error {
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}

// plainCause is a fault of the network without the address.
func plainCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}
