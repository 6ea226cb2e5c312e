package transport

import (
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

var (
	separators = regexp.MustCompile(`[; \t]+`)
	withPort   = regexp.MustCompile(`(?s)^(?:\[([^\[\]]*)\]|([^:\[\]]*)):([^:\[\]]*)$`)
	direct     = regexp.MustCompile(`(?i)(^|[; \t=])DIRECT($|[; \t])`)
)

// serverForm is a name or an address, with a port or without.
var serverForm = regexp.MustCompile(`^(?:[\pL\p{Nd}._-]+|\[[0-9a-fA-F:.]+(?:%.+)?\])(?::0*[1-9][0-9]*)?$`)

// globbed compares a name with a pattern by a regular expression.
func globbed(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`(?s)^` + strings.Join(parts, `.*`) + `$`).MatchString(name)
}

// FuzzProxyList reads lists of proxies and exceptions as Windows, a script or a person
// may have written them: what is read are addresses of http or https with a host and
// nothing secret, each one that stands in the list; and an exception is one exactly
// when a regular expression of the same meaning says so.
func FuzzProxyList(f *testing.F) {
	for _, list := range []string{
		"proxy.example:3128", "http=a:1;https=b:2", "socks=x", "DIRECT", "https=https://p.example:8443/ DIRECT", "http://u:p@p.example:1", "a:1 b:2\tc", "https=", "=", "https==x", "[::1]:3128", "http=a;socks=b", "SOCKS5://x", "p.example:0", "p.example/path", "http://", "a b", ";;;",
	} {
		f.Add(list, "*.example;<local>;10.*;https://a.example:443;[::1]", "https://b.example:8443/x")
		f.Add(list, "*", "http://host/")
		f.Add(list, "b.example:443;https://c.example:8443", "https://b.example:8443/x")
	}
	f.Fuzz(func(t *testing.T, list, exceptions, target string) {
		for _, scheme := range []string{"http", "https"} {
			got, err := parseProxies(list, scheme)
			if err != nil && (got != nil || err.Error() != "a proxy is not named as a host and a port" && err.Error() != "only a SOCKS proxy is named") {
				t.Fatalf("%q: %v, %v", list, got, err)
			}
			fields := separators.Split(list, -1)
			for _, u := range got {
				if u == nil {
					if !direct.MatchString(list) {
						t.Fatalf("%q goes without a proxy", list)
					}
					continue
				}
				if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || !serverForm.MatchString(u.Host) || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
					t.Fatalf("%q names %v", list, u)
				}
				found := false
				for _, field := range fields {
					protocol, server, named := strings.Cut(field, "=")
					if !named {
						server = field
					}
					if again, err := parseProxy(server); err == nil && again != nil && *again == *u && (!named || strings.EqualFold(protocol, scheme)) {
						found = true
					}
				}
				if !found {
					t.Fatalf("%q for %s names %v, which stands nowhere", list, scheme, u)
				}
				if again, err := parseProxies(u.String(), scheme); err != nil || len(again) != 1 || *again[0] != *u {
					t.Fatalf("%v is read as %v, %v", u, again, err)
				}
			}
		}
		u, err := url.Parse(target)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
			return
		}
		host, port := strings.ToLower(u.Hostname()), u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		_, noAddress := netip.ParseAddr(host)
		want := false
		for _, entry := range separators.Split(strings.ToLower(exceptions), -1) {
			if entry == "" {
				continue
			}
			if entry == "<local>" {
				want = want || !strings.Contains(host, ".") && noAddress != nil
				continue
			}
			if scheme, rest, found := strings.Cut(entry, "://"); found {
				if scheme != u.Scheme {
					continue
				}
				entry = rest
			}
			// host:port, with an address of IPv6 in brackets.
			if m := withPort.FindStringSubmatch(entry); m != nil {
				if m[3] != port {
					continue
				}
				entry = m[1] + m[2]
			}
			want = want || globbed(strings.Trim(entry, "[]"), host)
		}
		if got := bypassed(exceptions, u); got != want {
			t.Fatalf("%q for %q: %v", exceptions, target, got)
		}
	})
}
