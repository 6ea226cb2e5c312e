// Package browserpolicy makes the managed policy by which browsers hand over the
// EHR's links without a question and let the encounter pages use the microphone:
// for Chrome, Chromium and Edge, and for Firefox, as JSON files for Linux and as
// a registry file for Windows.
//
// It never repairs an origin or a host, never allows a wildcard of everything,
// and never writes a file or reads a policy: it turns what it is given into texts.
package browserpolicy

import (
	"encoding/json"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"encounterlauncher/internal/problem"
)

// Browser is a browser that can be managed.
type Browser string

// The browsers.
const (
	Chrome   Browser = "chrome"
	Edge     Browser = "edge"
	Chromium Browser = "chromium"
	Firefox  Browser = "firefox"
)

// Browsers is every browser, in the order in which their policies are printed.
func Browsers() []Browser { return []Browser{Chrome, Edge, Chromium, Firefox} }

// Format is how a policy is written.
type Format string

// The formats.
const (
	// JSON is for Linux: one file for each browser.
	JSON Format = "json"
	// Reg is a file that regedit imports: one for all browsers.
	Reg Format = "reg"
)

// What is what the policies allow.
type What struct {
	// Scheme is the scheme of the links, in lower case and without a colon.
	Scheme string
	// Origins are the origins of the EHR's pages, as CheckOrigin accepts them.
	Origins []string
	// Hosts are the hosts of the encounter pages, as policy's EncounterURLHosts
	// holds them: exact names, or endings with a leading dot. Empty allows no
	// microphone.
	Hosts []string
	// Demo says that a host of 127.0.0.1 is served by http, as the sandbox does.
	Demo bool
}

// File is one policy and where it belongs.
type File struct {
	// Browser is empty for a registry file, which is for all of them.
	Browser Browser
	// Name is a name for the file among the others.
	Name string
	// Place is where the browser looks for it on Linux; for a registry file empty.
	Place string
	Text  []byte
	// Notes say what the browser cannot be told and what the file replaces.
	Notes []string
}

// CheckOrigin returns nil for an origin in its one form: https, a host in
// lower-case ASCII, a port only where it is not 443, nothing else; demo also
// allows http://127.0.0.1:<port>. The error is request_invalid with a fact that
// does not repeat the origin.
func CheckOrigin(origin string, demo bool) error {
	const form = "An origin is written https://ehr.hospital.example or https://ehr.hospital.example:8443: https, the host in lower case, and nothing after it."
	refuse := func(fact string) error {
		return problem.With(problem.RequestInvalid, fact, errors.New("an origin that is not taken"))
	}
	if strings.Contains(origin, "*") {
		return refuse("An origin has no *: name each origin of the EHR. " + form)
	}
	u, err := url.Parse(origin)
	if err != nil || len(origin) > 300 || u.User != nil || u.Opaque != "" || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Scheme+"://"+u.Host != origin {
		return refuse(form)
	}
	host, port := u.Hostname(), u.Port()
	if n, err := strconv.Atoi(port); port != "" && (err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port) || strings.HasSuffix(u.Host, ":") {
		return refuse(form)
	}
	switch {
	case u.Scheme == "http" && demo && host == "127.0.0.1" && port != "":
		return nil
	case u.Scheme == "http":
		return refuse("An origin is https, because anybody on the way can speak for another. " + form)
	case u.Scheme != "https":
		return refuse(form)
	case port == "443":
		return refuse("An origin has no port 443, because browsers leave it out. " + form)
	case !hostName(host):
		return refuse(form)
	}
	return nil
}

// CheckHost returns nil for a host as policy's EncounterURLHosts holds it; see
// CheckOrigin.
func CheckHost(host string, demo bool) error {
	name := strings.TrimPrefix(host, ".")
	_, notIP := netip.ParseAddr(name)
	if demo && host == "127.0.0.1" || hostName(name) && strings.Contains(name, ".") && notIP != nil {
		return nil
	}
	return problem.With(problem.RequestInvalid, "A host is written as in EncounterURLHosts: encounters.vendor.example, or .vendor.example for every host below it.", errors.New("a host that is not taken"))
}

// hostName reports whether s is an IP address in its one form, or a name in ASCII
// lower case (RFC 1123 section 2.1).
func hostName(s string) bool {
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.Zone() == "" && ip.String() == s
	}
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
		}) {
			return false
		}
	}
	// What ends in a number is an address to some readers (WHATWG URL, host parsing).
	last := labels[len(labels)-1]
	return len(s) <= 253 && (last[0] < '0' || last[0] > '9' || strings.ContainsFunc(strings.TrimPrefix(last, "0x"), func(r rune) bool { return r > 'f' }))
}

// launch is an entry of AutoLaunchProtocolsFromOrigins.
type launch struct {
	Protocol string   `json:"protocol"`
	Origins  []string `json:"allowed_origins"`
}

func (w What) launches() []launch { return []launch{{w.Scheme, w.Origins}} }

// patterns are the hosts as Chromium's content settings write them: [*.] stands for
// every host below, and for the name itself, which cannot be left out.
func (w What) patterns() []string {
	var all []string
	for _, host := range w.Hosts {
		switch {
		case w.Demo && host == "127.0.0.1":
			all = append(all, "http://127.0.0.1:*")
		case strings.HasPrefix(host, "."):
			all = append(all, "https://[*.]"+host[1:])
		default:
			all = append(all, "https://"+host)
		}
	}
	return all
}

// exact are the hosts as origins, and the endings, which Firefox cannot be told.
func (w What) exact() (origins, endings []string) {
	for _, host := range w.Hosts {
		switch {
		case w.Demo && host == "127.0.0.1": // the port is another at each start
		case strings.HasPrefix(host, "."):
			endings = append(endings, host)
		default:
			origins = append(origins, "https://"+host)
		}
	}
	return origins, endings
}

// chromiumPolicy is what Chrome, Chromium and Edge understand alike.
type chromiumPolicy struct {
	Launch     []launch `json:"AutoLaunchProtocolsFromOrigins"`
	Microphone []string `json:"AudioCaptureAllowedUrls,omitempty"`
}

// firefoxPolicy is policies.json. AutoLaunchProtocolsFromOrigins needs Firefox 90
// (ESR 78.12); the handler without “ask” spares the choice among programs.
type firefoxPolicy struct {
	Policies struct {
		Launch      []launch            `json:"AutoLaunchProtocolsFromOrigins"`
		Handlers    firefoxHandlers     `json:"Handlers"`
		Permissions *firefoxPermissions `json:"Permissions,omitempty"`
	} `json:"policies"`
}

type firefoxHandlers struct {
	Schemes map[string]firefoxHandler `json:"schemes"`
}

type firefoxHandler struct {
	Action string `json:"action"`
	Ask    bool   `json:"ask"`
}

type firefoxPermissions struct {
	Microphone struct {
		Allow []string `json:"Allow"`
	} `json:"Microphone"`
}

func (w What) handlers() firefoxHandlers {
	return firefoxHandlers{map[string]firefoxHandler{w.Scheme: {Action: "useSystemDefault"}}}
}

// places are where each browser looks for managed policy on Linux.
var places = map[Browser]string{
	Chrome: "/etc/opt/chrome/policies/managed/", Edge: "/etc/opt/edge/policies/managed/",
	Chromium: "/etc/chromium/policies/managed/", Firefox: "/etc/firefox/policies/",
}

// Files returns the policies for the browsers in a format: one file for each with
// JSON, one for all with Reg. What must have passed CheckOrigin and CheckHost.
func Files(w What, browsers []Browser, format Format) []File {
	if format == Reg {
		return []File{w.registry(browsers)}
	}
	var files []File
	for _, b := range browsers {
		f := File{Browser: b, Name: w.Scheme + "-" + string(b) + ".json", Place: places[b] + w.Scheme + ".json"}
		if b == Firefox {
			var p firefoxPolicy
			p.Policies.Launch, p.Policies.Handlers = w.launches(), w.handlers()
			origins, _ := w.exact()
			if len(origins) > 0 {
				p.Policies.Permissions = &firefoxPermissions{}
				p.Policies.Permissions.Microphone.Allow = origins
			}
			f.Text, f.Place = encode(p, true), places[b]+"policies.json"
			f.Notes = append(f.Notes, "Firefox reads one policies.json: where there is one already, put the members into it.")
		} else {
			f.Text = encode(chromiumPolicy{w.launches(), w.patterns()}, true)
			f.Notes = append(f.Notes, "Of a setting that several files of the folder have, the browser takes one: where AutoLaunchProtocolsFromOrigins or AudioCaptureAllowedUrls is set already, put the items together.")
		}
		f.Notes = append(f.Notes, w.notesFor(b)...)
		files = append(files, f)
	}
	return files
}

// notesFor is what a browser cannot be told.
func (w What) notesFor(b Browser) (notes []string) {
	_, endings := w.exact()
	switch {
	case len(w.Hosts) == 0:
		notes = append(notes, "No microphone: no encounter hosts were given.")
	case b == Firefox && len(endings) > 0:
		notes = append(notes, "Firefox takes no endings of hosts: it asks for the microphone on hosts that EncounterURLHosts does not name exactly.")
	case len(endings) > 0:
		notes = append(notes, "[*.] also stands for the name after it, which EncounterURLHosts does not allow by an ending alone.")
	}
	return notes
}

func encode(v any, indent bool) []byte {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if indent {
		enc.SetIndent("", "  ")
	}
	_ = enc.Encode(v) // texts and lists of texts
	if !indent {
		return []byte(strings.TrimSuffix(b.String(), "\n"))
	}
	return []byte(b.String())
}

// firstItem is the number of our first item in a list that has one value for each
// item: high, so that what others have written stays.
const firstItem = 9001

// registry is the file that regedit imports (version 5): ASCII, lines of CRLF.
func (w What) registry(browsers []Browser) File {
	f := File{Name: w.Scheme + "-browsers.reg"}
	lines := []string{"Windows Registry Editor Version 5.00", "", "; Links of the scheme " + w.Scheme + " from the EHR open without a question, and encounter", "; pages may use the microphone. Import it as administrator, or take the values into Group Policy."}
	section := func(key string) { lines = append(lines, "", `[HKEY_LOCAL_MACHINE\Software\Policies\`+key+"]") }
	value := func(name, text string) { lines = append(lines, regQuote(name)+"="+regQuote(text)) }
	list := func(key string, items []string) {
		if len(items) == 0 {
			return
		}
		section(key)
		for i, item := range items {
			value(strconv.Itoa(firstItem+i), item)
		}
	}
	for _, b := range browsers {
		switch b {
		case Chrome, Edge, Chromium:
			key := map[Browser]string{Chrome: `Google\Chrome`, Edge: `Microsoft\Edge`, Chromium: `Chromium`}[b]
			section(key)
			value("AutoLaunchProtocolsFromOrigins", string(encode(w.launches(), false)))
			list(key+`\AudioCaptureAllowedUrls`, w.patterns())
		case Firefox:
			// As a string of one line, which Firefox takes for its REG_MULTI_SZ: whether the
			// bytes of the latter mean ASCII or UTF-16 depends on how the file is saved.
			section(`Mozilla\Firefox`)
			value("AutoLaunchProtocolsFromOrigins", string(encode(w.launches(), false)))
			value("Handlers", string(encode(w.handlers(), false)))
			origins, _ := w.exact()
			list(`Mozilla\Firefox\Permissions\Microphone\Allow`, origins)
		}
		for _, note := range w.notesFor(b) {
			if !slices.Contains(f.Notes, note) {
				f.Notes = append(f.Notes, note)
			}
		}
	}
	f.Notes = append([]string{"The file replaces AutoLaunchProtocolsFromOrigins, and Handlers of Firefox, where they are set already: then put the items together by hand."}, f.Notes...)
	f.Text = []byte(strings.Join(lines, "\r\n") + "\r\n")
	return f
}

func regQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
