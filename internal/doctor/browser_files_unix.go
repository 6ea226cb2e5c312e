//go:build unix

package doctor

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// browserRoot is before every folder of the browsers' policies; tests set it.
var browserRoot = ""

// browserFolders are where the browsers read what the machine's administrator set.
var browserFolders = [...]struct{ browser, pattern string }{
	{"Chrome", "/etc/opt/chrome/policies/managed/*.json"},
	{"Edge", "/etc/opt/edge/policies/managed/*.json"},
	{"Chromium", "/etc/chromium/policies/managed/*.json"},
	{"Chromium", "/etc/chromium-browser/policies/managed/*.json"},
	{"Firefox", "/etc/firefox/policies/policies.json"},
	{"Firefox", "/usr/lib/firefox/distribution/policies.json"},
	{"Firefox", "/usr/lib/firefox-esr/distribution/policies.json"},
}

// mostBrowserFile bounds one file of a browser's policy.
const mostBrowserFile = 1 << 20

func browserPolicies(string) []browserPolicy {
	var all []browserPolicy
	for _, place := range browserFolders {
		files, _ := filepath.Glob(browserRoot + place.pattern)
		slices.Sort(files)
		for _, file := range files {
			i := slices.IndexFunc(all, func(p browserPolicy) bool { return p.browser == place.browser })
			if i < 0 {
				all = append(all, browserPolicy{browser: place.browser})
				i = len(all) - 1
			}
			all[i].take(file)
		}
	}
	return all
}

// take adds what one file says.
func (p *browserPolicy) take(file string) {
	text, err := readBounded(file)
	var said struct {
		browserKeys
		Policies *browserKeys `json:"policies"`
	}
	if err == nil {
		err = json.Unmarshal(text, &said)
	}
	if err != nil {
		p.unreadable = true
		return
	}
	keys := said.browserKeys
	if said.Policies != nil { // Firefox's form
		keys = *said.Policies
	}
	if keys.AutoLaunch != nil {
		p.autoLaunch = keys.AutoLaunch
	}
	if keys.Handlers != nil {
		p.handlers = keys.Handlers
	}
	p.blocked, p.allowed = append(p.blocked, keys.Blocked...), append(p.allowed, keys.Allowed...)
}

type browserKeys struct {
	AutoLaunch json.RawMessage `json:"AutoLaunchProtocolsFromOrigins"`
	Handlers   json.RawMessage `json:"Handlers"`
	Blocked    []string        `json:"URLBlocklist"`
	Allowed    []string        `json:"URLAllowlist"`
}

func readBounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, mostBrowserFile))
}
