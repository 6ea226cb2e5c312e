package policy

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxText  = 2048
	maxItems = 64
)

// parse turns a JSON value into a value of the key. why is the end of a sentence
// ("must be …") when that cannot be done, and never quotes the value.
func (k *Key) parse(raw json.RawMessage, r rules) (v value, why string) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return value{}, k.mustBe()
	}
	switch k.Type {
	case Text, Choice:
		if raw[0] != '"' || json.Unmarshal(raw, &v.text) != nil {
			return value{}, k.mustBe()
		}
		if why := checkText(v.text); why != "" {
			return value{}, why
		}
		if k.Type == Choice && !slices.Contains(k.Allowed, v.text) {
			return value{}, k.mustBe()
		}
	case List:
		var items []json.RawMessage
		if raw[0] != '[' || json.Unmarshal(raw, &items) != nil {
			return value{}, k.mustBe()
		}
		v.list = make([]string, 0, len(items))
		if len(items) > maxItems {
			return value{}, "must not have more than " + strconv.Itoa(maxItems) + " items"
		}
		for _, item := range items {
			var text string
			if item[0] != '"' || json.Unmarshal(item, &text) != nil {
				return value{}, k.mustBe()
			}
			if why := checkText(text); why != "" {
				return value{}, "has an item that " + why
			}
			if k.Allowed != nil && !slices.Contains(k.Allowed, text) {
				return value{}, k.mustBe()
			}
			if slices.Contains(v.list, text) {
				return value{}, "must not name an item twice"
			}
			v.list = append(v.list, text)
		}
	case Number:
		n, ok := wholeNumber(string(raw))
		if !ok || n < k.Min || n > k.Max {
			return value{}, k.mustBe()
		}
		v.number = n
	case YesNo:
		switch string(raw) {
		case "true":
			v.yes = true
		case "false":
		default:
			return value{}, k.mustBe()
		}
	case Object:
		if raw[0] != '{' {
			return value{}, k.mustBe()
		}
		var compact bytes.Buffer
		if json.Compact(&compact, raw) != nil {
			return value{}, k.mustBe()
		}
		v.object = compact.Bytes()
	}
	if k.check != nil {
		if why := k.check(v, r); why != "" {
			return value{}, why
		}
	}
	return v, ""
}

// mustBe says what a value of the key looks like.
func (k *Key) mustBe() string {
	switch k.Type {
	case Choice:
		return "must be one of " + strings.Join(k.Allowed, ", ")
	case List:
		if k.Allowed != nil {
			return "must be a list of texts out of " + strings.Join(k.Allowed, ", ")
		}
		return "must be a list of texts, in JSON such as [\"one\", \"two\"]"
	case Number:
		return "must be a whole number from " + strconv.Itoa(k.Min) + " to " + strconv.Itoa(k.Max)
	case YesNo:
		return "must be true or false, without quotes"
	case Object:
		return "must be a JSON object"
	}
	return "must be a text"
}

// json returns the value as JSON text in one canonical form.
func (k *Key) json(v value) string {
	switch k.Type {
	case List:
		items := make([]string, len(v.list))
		for i, item := range v.list {
			items[i] = quote(item)
		}
		return "[" + strings.Join(items, ",") + "]"
	case Number:
		return strconv.Itoa(v.number)
	case YesNo:
		return strconv.FormatBool(v.yes)
	case Object:
		return string(v.object)
	}
	return quote(v.text)
}

func quote(s string) string {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes, and a Buffer never fails
	return strings.TrimSuffix(out.String(), "\n")
}

func wholeNumber(s string) (int, bool) {
	if len(s) > 9 || s == "" || (len(s) > 1 && s[0] == '0') {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// checkText holds for every text of every key.
func checkText(s string) string {
	if s == "" {
		return "must not be empty: remove the key or give it a value"
	}
	if len(s) > maxText {
		return "must not be longer than " + strconv.Itoa(maxText) + " bytes"
	}
	if strings.TrimSpace(s) != s {
		return "must not begin or end with a space"
	}
	for _, r := range s {
		// U+FFFD is what a lone surrogate in an escape becomes.
		if r == utf8.RuneError || unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs) {
			return "must not hold an invisible or broken character"
		}
	}
	return ""
}

func checkName(v value, _ rules) string {
	if utf8.RuneCountInString(v.text) > 100 {
		return "must not be longer than 100 characters"
	}
	return ""
}

func checkNotEmpty(v value, _ rules) string {
	if len(v.list) == 0 {
		return "must have at least one item"
	}
	return ""
}

// checkIdentifier: VSCHAR of RFC 6749 appendix A.1, without the space.
func checkIdentifier(v value, _ rules) string {
	if len(v.text) > 512 || !visibleASCII(v.text) {
		return "must be at most 512 visible ASCII characters without spaces"
	}
	return ""
}

func visibleASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// checkScopes: scope-token of RFC 6749 section 3.3; openid makes it a sign-in
// (OpenID Connect Core section 3.1.2.1).
func checkScopes(v value, _ rules) string {
	for _, scope := range v.list {
		if !visibleASCII(scope) || strings.ContainsAny(scope, `"\`) {
			return "has an item that is not a scope"
		}
	}
	if !slices.Contains(v.list, "openid") {
		return "must name openid"
	}
	return ""
}

func checkPorts(v value, _ rules) string {
	for _, item := range v.list {
		if port, ok := wholeNumber(item); !ok || port < 1024 || port > 65535 {
			return "must be a list of ports from 1024 to 65535, in JSON such as [\"8400\", \"8401\"]"
		}
	}
	return ""
}

func checkService(v value, r rules) string {
	if !address(v.text, r.demo, false) {
		return "must be an https address such as https://encounters.hospital.example/api, with the host in lower case, without user name, query and fragment"
	}
	return ""
}

func checkPage(v value, _ rules) string {
	if !address(v.text, false, true) {
		return "must be an https address such as https://help.hospital.example/, with the host in lower case, without user name and fragment"
	}
	return ""
}

func checkScript(v value, _ rules) string {
	plain, found := strings.CutPrefix(v.text, "http:")
	if found && address("https:"+plain, false, true) || address(v.text, false, true) {
		return ""
	}
	return "must be an http or https address such as http://wpad.hospital.example/proxy.pac, without user name"
}

func checkProxy(v value, _ rules) string {
	text := v.text
	if plain, found := strings.CutPrefix(text, "http:"); found {
		text = "https:" + plain
	}
	if !address(text, false, false) || strings.Count(strings.TrimSuffix(text, "/"), "/") != 2 {
		return "must be an address such as http://proxy.hospital.example:3128, without user name, password and path"
	}
	return ""
}

func checkProxyMode(v value, r rules) string {
	if v.text == "pac" && !r.pac {
		return "must not be pac on this system, because it has nothing that evaluates a proxy script: use system, manual or direct"
	}
	return ""
}

func checkFile(v value, _ rules) string {
	if !filepath.IsAbs(v.text) || filepath.Clean(v.text) != v.text {
		return "must be an absolute path without . and .."
	}
	return ""
}

func checkThumbprint(v value, _ rules) string {
	if len(v.text) != 40 || strings.Trim(v.text, "0123456789abcdefABCDEF") != "" {
		return "must be the 40 hexadecimal digits of a SHA-1 thumbprint, without spaces"
	}
	return ""
}

// address reports whether text is an https address in the one form that it
// prints back to: nothing in it can be read in two ways. demo also allows
// http://127.0.0.1:<port>.
func address(text string, demo, query bool) bool {
	if !visibleASCII(text) || strings.ContainsAny(text, "\"'`<>\\^{}|$#") || (!query && strings.Contains(text, "?")) {
		return false
	}
	u, err := url.Parse(text)
	if err != nil || u.User != nil || u.Opaque != "" || u.String() != text {
		return false
	}
	host, port, ok := hostPort(u)
	if !ok {
		return false
	}
	switch u.Scheme {
	case "https":
	case "http":
		if !demo || host != "127.0.0.1" || port == "" {
			return false
		}
	default:
		return false
	}
	for i, segment := range strings.Split(u.Path, "/") {
		if segment == "." || segment == ".." || strings.ContainsAny(segment, "\\\x00") || hidden(segment) {
			return false
		}
		if segment == "" && i > 0 && i < strings.Count(u.Path, "/") {
			return false
		}
	}
	return true
}

// hidden reports whether a decoded segment holds what cannot be seen.
func hidden(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Cf, r)
	})
}

func hostPort(u *url.URL) (host, port string, ok bool) {
	host, port = u.Hostname(), u.Port()
	if strings.HasSuffix(u.Host, ":") || strings.Contains(u.Host, "%") {
		return "", "", false
	}
	if port != "" {
		if n, ok := wholeNumber(port); !ok || n < 1 || n > 65535 {
			return "", "", false
		}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return host, port, ip.Zone() == "" && ip.String() == host
	}
	return host, port, dnsName(host)
}

// dnsName reports whether s is a host name in ASCII lower case (RFC 1123
// section 2.1) that no resolver can take for an IP address.
func dnsName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	// 127.1 and 0x7f.1 are addresses to some resolvers: a last label that begins
	// with a digit is one of a name only when it has a letter that hex lacks.
	last := labels[len(labels)-1]
	return last[0] < '0' || last[0] > '9' || strings.ContainsFunc(strings.TrimPrefix(last, "0x"), func(r rune) bool { return r > 'f' })
}

func checkHosts(v value, r rules) string {
	if why := checkNotEmpty(v, r); why != "" {
		return why
	}
	for _, item := range v.list {
		if r.demo && item == "127.0.0.1" {
			continue
		}
		if name := strings.TrimPrefix(item, "."); !dnsName(name) || !strings.Contains(name, ".") {
			return "must be a list of hosts in lower-case ASCII, such as [\"encounters.vendor.example\"], or of their endings, such as [\".vendor.example\"], each of two labels or more; no *, port, path or IP address"
		}
	}
	return ""
}
