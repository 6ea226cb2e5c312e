package transport

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// parseProxies reads a list of proxies as Windows writes it (WINHTTP_PROXY_INFO,
// lpszProxy): "[scheme=][scheme://]server[:port]" with semicolons or spaces between.
// What names another scheme than the target's is passed over, and so is SOCKS. An
// entry for the scheme goes before one for every scheme. DIRECT is nil.
func parseProxies(text, scheme string) ([]*url.URL, error) {
	var own, all []*url.URL
	fields := strings.FieldsFunc(text, func(r rune) bool { return r == ';' || r == ' ' || r == '\t' })
	for _, field := range fields {
		protocol, server, named := strings.Cut(field, "=")
		if !named {
			server = field
		} else if !strings.EqualFold(protocol, scheme) {
			continue
		}
		u, err := parseProxy(server)
		if err != nil {
			return nil, err
		}
		if named {
			own = append(own, u)
		} else {
			all = append(all, u)
		}
	}
	if own != nil {
		return own, nil
	}
	if all == nil && len(fields) > 0 && strings.Contains(strings.ToLower(text), "socks") {
		return nil, errors.New("only a SOCKS proxy is named")
	}
	return all, nil
}

func parseProxy(server string) (*url.URL, error) {
	if strings.EqualFold(server, "DIRECT") {
		return nil, nil
	}
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !isHost(u.Hostname()) || !isPort(u) || u.User != nil || u.Path != "" && u.Path != "/" {
		return nil, errors.New("a proxy is not named as a host and a port")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// isHost reports whether a text may name a server: an IP address, or letters, digits,
// dots, hyphens and underscores. net/url takes far more, such as "=x".
func isHost(text string) bool {
	if net.ParseIP(text) != nil {
		return true
	}
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '.' && r != '-' && r != '_'
	})
}

// isPort reports whether an address has no port, or one that there is.
func isPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0
}

// bypassed reports whether Windows' list of exceptions names a target: names with *
// in them, "<local>" for names without a dot, each with or without scheme and port,
// with semicolons or spaces between.
func bypassed(list string, target *url.URL) bool {
	host, port := strings.ToLower(target.Hostname()), target.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[target.Scheme]
	}
	for _, entry := range strings.FieldsFunc(strings.ToLower(list), func(r rune) bool { return r == ';' || r == ' ' || r == '\t' }) {
		if entry == "<local>" {
			if !strings.Contains(host, ".") && net.ParseIP(host) == nil {
				return true
			}
			continue
		}
		if scheme, rest, found := strings.Cut(entry, "://"); found {
			if scheme != target.Scheme {
				continue
			}
			entry = rest
		}
		if h, p, err := net.SplitHostPort(entry); err == nil {
			if p != port {
				continue
			}
			entry = h
		}
		if matches(strings.Trim(entry, "[]"), host) {
			return true
		}
	}
	return false
}

// matches compares a name with a pattern in which * stands for any text.
func matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	rest, ok := strings.CutPrefix(name, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}
