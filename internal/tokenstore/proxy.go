package tokenstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// ProxyCredential is the name and the password that a person has stored for a proxy.
type ProxyCredential struct {
	User, Password secret.Text
	// Set is when it was stored; it tells two settings of the same one apart.
	Set time.Time
}

// proxyFieldLimit bounds user name and password, each in bytes. Both together fit
// into one item of every system, so they need not be split: as bytes they are
// written in base64, 4/3 of their length.
const proxyFieldLimit = 512

// storedProxy is the item "proxy.<host>". The fields are bytes so that no text makes
// the item longer than another of its length.
type storedProxy struct {
	Layout   int       `json:"v"`
	Sum      string    `json:"sum"`
	User     []byte    `json:"user"`
	Password []byte    `json:"password"`
	Set      time.Time `json:"set"`
}

func (s storedProxy) sum() string {
	return sumOf(head{}, string(s.User)+"\x00"+string(s.Password)+"\x00"+s.Set.Format(time.RFC3339Nano))
}

// ProxyCredential reads what is stored for a proxy's host, named without a port.
// found is false, without an error, only when the keyring is open and holds none.
// Errors are as for Load, and those of ProxyHost.
func (s *Store) ProxyCredential(ctx context.Context, host string) (c ProxyCredential, found bool, err error) {
	item, err := proxyItem(host)
	if err != nil {
		return ProxyCredential{}, false, err
	}
	work, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	text, err := s.calls.get(work, item)
	if errors.Is(err, ErrNotFound) {
		return ProxyCredential{}, false, nil
	}
	var stored storedProxy
	if err == nil && (len(text) > itemLimit || json.Unmarshal([]byte(text), &stored) != nil || stored.Layout != layout ||
		len(stored.User) == 0 || stored.Sum != stored.sum()) {
		err = fmt.Errorf("%w: it does not hold a proxy's credential", errCorrupt)
	}
	if err != nil {
		return ProxyCredential{}, false, outcome(ctx, fmt.Errorf("reading a proxy's credential: %w", err))
	}
	return ProxyCredential{User: secret.New(string(stored.User)), Password: secret.New(string(stored.Password)), Set: stored.Set}, true, nil
}

// SetProxyCredential stores a credential for a proxy's host in place of the one
// before; Set is now. A user name has 1 to 512 bytes of UTF-8 without control
// characters and without a colon, which would end it (RFC 7617 section 2); a
// password 1 to 512 bytes without control characters. Others are request_invalid
// with a fact; further errors are as for Load, and those of ProxyHost.
func (s *Store) SetProxyCredential(ctx context.Context, host string, user, password secret.Text) error {
	item, err := proxyItem(host)
	if err != nil {
		return err
	}
	if badProxyField(user.Reveal()) || badProxyField(password.Reveal()) || strings.Contains(user.Reveal(), ":") {
		return problem.With(problem.RequestInvalid, "The user name and the password must be texts of 1 to 512 bytes, the user name without a colon.",
			errors.New("storing a proxy's credential: it cannot be one"))
	}
	stored := storedProxy{Layout: layout, User: []byte(user.Reveal()), Password: []byte(password.Reveal()), Set: s.now().Round(0).UTC()}
	stored.Sum = stored.sum()
	text, err := json.Marshal(stored)
	if err != nil || len(text) > itemLimit {
		return problem.New(problem.Internal, errors.New("storing a proxy's credential: it cannot be encoded"))
	}
	work, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	if err := s.calls.set(work, item, string(text)); err != nil {
		return outcome(ctx, fmt.Errorf("storing a proxy's credential: %w", err))
	}
	return nil
}

// ForgetProxyCredential removes what is stored for a proxy's host. Removing what is
// not there is no error. Errors are as for Load, and those of ProxyHost.
func (s *Store) ForgetProxyCredential(ctx context.Context, host string) error {
	item, err := proxyItem(host)
	if err != nil {
		return err
	}
	work, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	if err := s.calls.remove(work, item); err != nil {
		return outcome(ctx, fmt.Errorf("forgetting a proxy's credential: %w", err))
	}
	return nil
}

// ProxyHost is the name of a proxy's host as credentials are kept for it: an address,
// or a name of labels of 1 to 63 letters, digits, underscores, and hyphens within (RFC
// 1123 section 2.1, and what Windows names computers), in ASCII and at most 253 bytes,
// in whatever case, with or without the root's dot. Everything else, for example a name
// with a port or a URL, is request_invalid with a fact: nobody would ever ask for it.
func ProxyHost(name string) (string, error) {
	host := strings.TrimSuffix(strings.ToLower(name), ".")
	if address, err := netip.ParseAddr(host); err == nil && address.Zone() == "" {
		return address.String(), nil
	}
	good := len(host) <= 253
	for label := range strings.SplitSeq(host, ".") {
		good = good && label != "" && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-' &&
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
	}
	if !good {
		return "", problem.With(problem.RequestInvalid, "This is not the name of a proxy's host, which is given without a port.", errors.New("a proxy's credential: the host cannot be one"))
	}
	return host, nil
}

// proxyItem is the name of the item for a host.
func proxyItem(host string) (string, error) {
	host, err := ProxyHost(host)
	if err != nil {
		return "", err
	}
	return "proxy." + host, nil
}

func badProxyField(text string) bool {
	return text == "" || len(text) > proxyFieldLimit || !utf8.ValidString(text) ||
		strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}
