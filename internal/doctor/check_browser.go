package doctor

import (
	"context"
	"encoding/json"
	"strings"
)

// browserPolicy is what IT has set for one browser, from all its places.
type browserPolicy struct {
	browser string
	// unreadable says that a place of it is there and cannot be read, or is not of its
	// form: the browser then passes it over.
	unreadable bool
	// autoLaunch is AutoLaunchProtocolsFromOrigins, and handlers Firefox's Handlers, as
	// JSON; nil when unset.
	autoLaunch, handlers json.RawMessage
	// blocked and allowed are URLBlocklist and URLAllowlist.
	blocked, allowed []string
}

// checkBrowser says whether the browsers' policies let the links start this program.
func checkBrowser(_ context.Context, w *world, c check) []Finding {
	var found []Finding
	name := w.Layout.Scheme()
	for _, p := range w.BrowserPolicies() {
		say := func(code string) { found = append(found, w.say(c, code, "browser", p.browser)) }
		if p.unreadable {
			say("unreadable")
		}
		allowed, wellFormed := p.launches(name)
		switch {
		case p.blocks(name):
			say("blocked")
		case !wellFormed:
			say("malformed")
		case allowed:
			say("allowed")
		case !p.unreadable:
			say("asks")
		}
	}
	if len(found) == 0 {
		return []Finding{w.say(c, "none")}
	}
	return found
}

// blocks reports whether URLBlocklist hits the scheme and URLAllowlist does not (Chrome
// Enterprise, "URL blocklist filter format": scheme, "*" for everything).
func (p browserPolicy) blocks(scheme string) bool {
	hit := func(list []string) (all, named bool) {
		for _, entry := range list {
			entry = strings.ToLower(strings.TrimSpace(entry))
			all = all || entry == "*"
			named = named || strings.HasPrefix(entry, scheme+":")
		}
		return all, named
	}
	blockedAll, blocked := hit(p.blocked)
	_, allowed := hit(p.allowed)
	return (blocked || blockedAll) && !allowed
}

// launches reports whether the policy lets pages of some origin start the program
// without a question, and whether what it says of the scheme is of its form: the scheme
// in lower case, origins without a path. A browser passes over what is not, silently.
func (p browserPolicy) launches(scheme string) (allowed, wellFormed bool) {
	wellFormed = true
	if p.autoLaunch != nil {
		var entries []struct {
			Protocol string   `json:"protocol"`
			Origins  []string `json:"allowed_origins"`
		}
		if json.Unmarshal(p.autoLaunch, &entries) != nil {
			return false, false
		}
		for _, e := range entries {
			if !strings.EqualFold(strings.TrimSuffix(e.Protocol, ":"), scheme) {
				continue
			}
			good := e.Protocol == scheme && len(e.Origins) > 0
			for _, origin := range e.Origins {
				_, rest, ok := strings.Cut(origin, "://")
				if !ok {
					rest = origin
				}
				good = good && !strings.ContainsAny(strings.TrimSuffix(rest, "/"), "/?#")
			}
			allowed, wellFormed = allowed || good, wellFormed && good
		}
	}
	if p.handlers != nil {
		var handlers struct {
			Schemes map[string]struct {
				Action string `json:"action"`
				Ask    *bool  `json:"ask"`
			} `json:"schemes"`
		}
		if json.Unmarshal(p.handlers, &handlers) != nil {
			return allowed, false
		}
		if h, ok := handlers.Schemes[scheme]; ok && h.Action == "useSystemDefault" && h.Ask != nil && !*h.Ask {
			allowed = true
		}
	}
	return allowed, wellFormed
}
