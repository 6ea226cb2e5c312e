package doctor

import (
	"context"
	"slices"
)

// check is one check: its name, the codes of what it may find, and how it looks.
type check struct {
	name  string
	group string
	codes []Code
	look  func(ctx context.Context, w *world, c check) []Finding
}

// Code is one thing that a check may find.
type Code struct {
	Name  string
	State State
	// Facts are the names of its facts, of which its words use some or all.
	Facts []string
}

// The groups, in which people read the checks.
const (
	GroupComputer = "computer"
	GroupNetwork  = "network"
	GroupServices = "services"
)

// anyCheck are the codes that every check may find. Their words are those of the
// check "any".
var anyCheck = []Code{
	{"timeout", Warning, nil},
	{"failed", Warning, nil},
	{"no_policy", Skipped, nil},
}

// checks is the closed list, in the order in which people read it. The catalogue
// (internal/text) has a title for each, and a sentence for each code, with a next step
// unless all is well; a test holds the two together.
var checks = []check{
	{"policy", GroupComputer, []Code{
		{"fine", OK, nil},
		{"rejected", Warning, []string{"key"}},
		{"unread", Warning, []string{"source"}},
		{"refused", Broken, []string{"key"}},
		{"missing", Broken, []string{"key"}},
		{"unreadable", Broken, []string{"source"}},
	}, checkPolicy},
	{"files", GroupComputer, []Code{
		{"fine", OK, []string{"free"}},
		{"disk_low", Warning, []string{"free"}},
		{"disk_full", Broken, []string{"free"}},
		{"open_to_others", Broken, []string{"folder"}},
		{"not_writable", Broken, []string{"folder"}},
	}, checkFiles},
	{"copies", GroupComputer, []Code{
		{"fine", OK, nil},
		{"other_copy", Warning, []string{"program"}},
	}, checkCopies},
	{"agent", GroupComputer, []Code{
		{"fine", OK, []string{"version"}},
		{"not_running", OK, nil},
		{"other_version", Warning, []string{"running", "installed"}},
		{"no_answer", Broken, nil},
	}, checkAgent},
	{"scheme", GroupComputer, []Code{
		{"fine", OK, []string{"command"}},
		{"another_copy", Warning, []string{"program", "where"}},
		{"hidden", Warning, []string{"where"}},
		{"unreadable", Warning, []string{"where"}},
		{"tool_disagrees", Warning, []string{"tool"}},
		{"none", Broken, nil},
		{"other_program", Broken, []string{"program", "where"}},
		{"wrong_command", Broken, []string{"where", "command"}},
	}, checkScheme},
	{"keyring", GroupComputer, []Code{
		{"fine", OK, nil},
		{"not_needed", OK, nil},
		{"locked", Warning, nil},
		{"no_answer", Warning, nil},
		{"unavailable", Warning, nil},
		{"corrupt", Broken, nil},
	}, checkKeyring},
	{"tray", GroupComputer, []Code{
		{"fine", OK, nil},
		{"no_session", Skipped, nil},
		{"no_tray", Warning, nil},
	}, checkTray},
	{"window", GroupComputer, []Code{
		{"fine", OK, nil},
		{"webview", OK, []string{"version"}},
		{"no_display", Skipped, nil},
		{"program_missing", Warning, []string{"program"}},
		{"library_missing", Warning, []string{"library"}},
		{"webview_missing", Warning, nil},
		{"webview_old", Warning, []string{"version", "oldest"}},
	}, checkWindow},
	{"browser", GroupComputer, []Code{
		{"none", OK, nil},
		{"allowed", OK, []string{"browser"}},
		{"asks", OK, []string{"browser"}},
		{"unreadable", Warning, []string{"browser"}},
		{"malformed", Warning, []string{"browser"}},
		{"blocked", Broken, []string{"browser"}},
	}, checkBrowser},
	{"dns", GroupNetwork, []Code{
		{"fine", OK, []string{"host"}},
		{"by_proxy", OK, []string{"host"}},
		{"encounter_host", Warning, []string{"host"}},
		{"not_found", Broken, []string{"host"}},
		{"no_answer", Broken, []string{"host"}},
	}, checkDNS},
	{"proxy", GroupNetwork, []Code{
		{"direct", OK, []string{"host"}},
		{"by_proxy", OK, []string{"host", "proxy"}},
		{"fallback", Warning, []string{"host"}},
		{"lookup_failed", Broken, []string{"host"}},
		{"no_answer", Broken, []string{"proxy"}},
		{"sign_in_needed", Broken, []string{"proxy"}},
	}, checkProxy},
	{"tls", GroupNetwork, []Code{
		{"fine", OK, []string{"host", "issuer"}},
		{"own_authority", OK, []string{"host", "issuer"}},
		{"extra_ca", OK, []string{"host", "issuer"}},
		{"unreached", Skipped, []string{"host"}},
		{"encounter_host", Warning, []string{"host"}},
		{"intercepted", Warning, []string{"host", "issuer"}},
		{"ends_soon", Warning, []string{"host", "days"}},
		{"untrusted", Broken, []string{"host", "issuer"}},
		{"wrong_name", Broken, []string{"host", "issuer"}},
		{"expired", Broken, []string{"host", "issuer"}},
		{"not_tls", Broken, []string{"host"}},
	}, checkTLS},
	{"clock", GroupNetwork, []Code{
		{"fine", OK, nil},
		{"unknown", Skipped, nil},
		{"off", Warning, []string{"seconds"}},
		{"wrong", Broken, []string{"minutes"}},
	}, checkClock},
	{"sign_in", GroupServices, []Code{
		{"fine", OK, []string{"host"}},
		{"pkce_unsaid", Warning, []string{"host"}},
		{"unreachable", Broken, []string{"host"}},
		{"not_a_service", Broken, []string{"host"}},
		{"other_issuer", Broken, []string{"host"}},
		{"unsafe_endpoint", Broken, []string{"host", "endpoint"}},
		{"no_pkce", Broken, []string{"host"}},
		{"keys_unusable", Broken, []string{"host"}},
	}, checkSignIn},
	{"backend", GroupServices, []Code{
		{"fine", OK, []string{"host", "version"}},
		{"version_unsaid", OK, []string{"host"}},
		{"busy", Warning, []string{"host"}},
		{"storable", Warning, []string{"host"}},
		{"no_request_id", Warning, []string{"host"}},
		{"unreachable", Broken, []string{"host"}},
		{"not_a_backend", Broken, []string{"host", "status"}},
		{"lets_in", Broken, []string{"host", "status"}},
		{"other_contract", Broken, []string{"host", "version"}},
	}, checkBackend},
}

// About is what a document or a page can know of a check without making it.
type About struct {
	Name, Group string
	Codes       []Code
}

// Checks returns the closed list, in its order.
func Checks() []About {
	var all []About
	for _, c := range checks {
		all = append(all, About{c.name, c.group, slices.Clone(c.codes)})
	}
	return all
}

// AnyCheck returns the codes that every check may find beside its own.
func AnyCheck() []Code { return slices.Clone(anyCheck) }

// Names returns the names of the checks, in their order.
func Names() []string {
	var names []string
	for _, c := range checks {
		names = append(names, c.name)
	}
	return names
}

// state is the state of a code of the check; a code that is not on the list is a
// mistake of this room, which a test finds, and counts as a warning.
func (c check) state(code string) State {
	for _, list := range [...][]Code{c.codes, anyCheck} {
		for _, known := range list {
			if known.Name == code {
				return known.State
			}
		}
	}
	return Warning
}
