package main

import (
	"fmt"
	"strings"
	"time"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/policy"
)

// leastPolicy sets what every installation has to set.
const leastPolicy = `{
  "BackendURL": "https://encounters.hospital.example/api",
  "OIDCIssuer": "https://login.hospital.example/realms/staff",
  "OIDCClientID": "encounter-launcher",
  "EncounterURLHosts": [".vendor.example"]
}`

// policyPage is encounter-launcher-policy(5), written from the table of keys.
func policyPage(l paths.Layout, version string, day time.Time) string {
	p := newPage("encounter-launcher-policy", "5", version, day, "how IT governs encounter-launcher(1)")
	p.section("Description")
	p.text("The policy of this computer is one JSON object in")
	p.line(".IR %s .", escape(l.MachinePolicyFile()))
	p.begun = true
	p.say(`
The file must belong to root, and nobody else may be able to write to it; otherwise it is not believed, and launches
are refused. Running agents take up a change at once. “encounter-launcher policy” shows each value, its source, and what is
wrong; it ends with 0 when launches can go on.

Sources, strongest first: this file; the person's own choice, for the keys that allow one; the installer's defaults, which are
written the same way; what the program sets by itself. A value that cannot be used never falls through to a weaker source: each
key says what is in force then. A key that is not in the list below is rejected and shown.

No secret is ever a value of policy.`)
	p.section("Keys")
	for _, k := range policy.Keys() {
		p.line(".TP\n%s (%s)", bold(k.Name), escape(string(k.Type)))
		p.text(k.Sentence)
		for _, more := range facts(k) {
			p.line(".br")
			p.text(more)
		}
	}
	p.section("Files")
	p.item(l.MachinePolicyFile(), "The policy.")
	p.item(l.InstallerDefaultsFile(), "The installer's defaults, under the same rules of ownership.")
	p.item("/usr/share/doc/encounter-launcher/examples/policy.json", "An example of most keys.")
	p.item("~/.config/encounter-launcher/settings.json", "The person's choices, written by the program.")
	p.section("Examples")
	p.text("The least that has to be set:")
	p.verbatim(leastPolicy)
	p.section("See also")
	p.line(".BR encounter\\-launcher (1)")
	return p.String()
}

// facts are the lines below the sentence of a key.
func facts(k policy.Key) []string {
	var lines []string
	if len(k.Allowed) > 0 {
		what := "One of: "
		if k.Type == policy.List {
			what = "Any of: "
		}
		lines = append(lines, what+strings.Join(k.Allowed, ", ")+".")
	}
	if k.Type == policy.Number {
		lines = append(lines, fmt.Sprintf("From %d to %d.", k.Min, k.Max))
	}
	line := "Default: " + k.Default + "."
	switch {
	case k.Required:
		line = "Required: launches wait until it is set."
	case k.Default == "null":
		line = "Default: unset."
	}
	if k.PersonMayChoose {
		line += " The person may choose, where no policy sets it."
	}
	switch {
	case k.OnError == policy.RefuseLaunches:
		line += " Unusable: launches are refused."
	case k.Safest == "null":
		line += " Unusable: unset."
	default:
		line += " Unusable: " + k.Safest + " is in force."
	}
	return append(lines, line)
}
