package launch

import (
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strconv"
	"strings"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// MaxAddressBytes is the length of the longest address that is looked at. It
// leaves room for an authorisation request with its parameters; browsers and
// the Windows shell take far less kindly to longer ones.
const MaxAddressBytes = 8192

// Addresses says which addresses from outside may be opened. The zero value
// allows none.
type Addresses struct {
	// Hosts are the permitted hosts in lower case: exact ("connect.nabla.com"),
	// or a suffix with a leading dot (".nabla.com": any host with a label before
	// it, not the bare domain). An entry in another spelling matches nothing.
	Hosts []string
	// AnyPort permits any port; else only an absent port or 443. It is for the
	// endpoints of an OIDC issuer.
	AnyPort bool
	// LoopbackHTTP permits, beside the hosts, exactly http://127.0.0.1:<port>/…
	// with any port. Only the demo flavour sets it.
	LoopbackHTTP bool
}

// Target is an address that may be opened. Only Addresses.Check makes one; the
// zero value has no address and must not be opened. Every way of printing it
// gives "[redacted]".
type Target struct {
	address secret.Text
	host    string
}

// Address returns the address, byte for byte as it was checked. It is a one-time
// URL as a rule: it goes to the opener and nowhere else.
func (t Target) Address() secret.Text { return t.address }

// Host returns the host without port, which is safe to log; empty for the zero
// value.
func (t Target) Host() string { return t.host }

// String returns "[redacted]".
func (t Target) String() string { return secret.Redacted }

// Format prints "[redacted]" for every verb.
func (t Target) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secret.Redacted) }

// LogValue logs "[redacted]".
func (t Target) LogValue() slog.Value { return slog.StringValue(secret.Redacted) }

// MarshalText writes "[redacted]" into every encoding that asks for text.
func (t Target) MarshalText() ([]byte, error) { return []byte(secret.Redacted), nil }

// Check reports whether an address may be opened: https, a permitted host in
// lower-case ASCII, a permitted port, no userinfo, only the characters of
// RFC 3986 without quotes, every percent sign followed by two hexadecimal
// digits, and at most MaxAddressBytes. It is re-serialised from what was
// understood and compared byte for byte: an address that two readers could
// understand differently is refused.
//
// Every error is an address_not_allowed problem that does not hold the address.
func (a Addresses) Check(raw secret.Text) (Target, error) {
	address := raw.Reveal()
	if err := checkCharacters(address); err != nil {
		return Target{}, err
	}
	parsed, err := url.Parse(address)
	if err != nil {
		// The library's error quotes the address.
		return Target{}, notAllowed("reading an address: it is not a URL")
	}
	switch {
	case parsed.Opaque != "" || parsed.Host == "":
		return Target{}, notAllowed("checking an address: it has no host")
	case parsed.User != nil:
		return Target{}, notAllowed("checking an address: it has userinfo")
	case parsed.String() != address:
		return Target{}, notAllowed("checking an address: it is not in its one spelling")
	}
	host, port, hasPort := strings.Cut(parsed.Host, ":")
	switch {
	case parsed.Scheme == "http" && a.LoopbackHTTP:
		if host != "127.0.0.1" || !isPort(port) || !strings.HasPrefix(parsed.Path, "/") {
			return Target{}, notAllowed("checking an address: http is only for 127.0.0.1 with a port and a path")
		}
	case parsed.Scheme != "https":
		return Target{}, notAllowed("checking an address: it is not https")
	case !isHostName(host) || !a.permits(host):
		return Target{}, notAllowed("checking an address: its host is not on the list")
	case hasPort && port != "443" && (!a.AnyPort || !isPort(port)):
		return Target{}, notAllowed("checking an address: its port is not permitted")
	}
	return Target{address: raw, host: host}, nil
}

// notAllowed takes a cause that is a constant of the program.
func notAllowed(cause string) error {
	return problem.New(problem.AddressNotAllowed, constantError(cause))
}

type constantError string

func (e constantError) Error() string { return string(e) }

// checkCharacters admits the unreserved and reserved characters of RFC 3986 §2
// and whole percent-escapes, but for the single quote, which is reserved and
// yet a quote.
func checkCharacters(address string) error {
	if address == "" || len(address) > MaxAddressBytes {
		return notAllowed("checking an address: it is empty or too long")
	}
	for i := 0; i < len(address); i++ {
		switch c := address[i]; {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9':
		case strings.IndexByte("-._~:/?#[]@!$&()*+,;=", c) >= 0:
		case c == '%' && i+2 < len(address) && isHex(address[i+1]) && isHex(address[i+2]):
		default:
			return notAllowed("checking an address: it holds a character that must not stand in one")
		}
	}
	return nil
}

func (a Addresses) permits(host string) bool {
	for _, entry := range a.Hosts {
		if entry == host || len(entry) > 1 && entry[0] == '.' && strings.HasSuffix(host, entry) {
			return true
		}
	}
	return false
}

// isHostName admits lower-case letters, digits, hyphens and dots in labels of 1
// to 63 (RFC 1123 §2.1, RFC 1035 §2.3.4), 253 in all and no dot at the end.
func isHostName(host string) bool {
	if len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}

// isPort admits 1..65535 in its plain spelling.
func isPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == port
}
