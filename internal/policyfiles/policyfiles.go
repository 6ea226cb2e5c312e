// Package policyfiles makes from policy's one table every file by which IT sets
// policy: the Group Policy templates (ADMX, and an ADML for each language), the
// JSON Schema, and the pages for administrators. It also holds the words of the
// templates in four languages.
//
// It never reads a policy and never writes a file: it turns the table into texts,
// and a test holds what is committed to them. The workstation program does not
// link it.
package policyfiles

//go:generate go run ../cmd/policyfiles

import (
	"fmt"

	"encounterlauncher/internal/policy"
)

// Files returns every generated file by its path from the root of the tree, with
// “/” between folders.
func Files() (map[string][]byte, error) {
	keys := policy.Keys()
	files := map[string][]byte{
		"build/policy/admx/EncounterLauncher.admx": admx(forSystem(keys, policy.Windows)),
		"build/policy/policy.schema.json":          schema(forSystem(keys, policy.Linux)),
		"docs/admin-policies.md":                   adminPolicies(keys),
		"docs/intune.md":                           intune(forSystem(keys, policy.Windows)),
	}
	for _, language := range Languages {
		w, err := wordsOf(language)
		if err != nil {
			return nil, fmt.Errorf("words in %s: %w", language, err)
		}
		files["build/policy/admx/"+language+"/EncounterLauncher.adml"] = adml(forSystem(keys, policy.Windows), w)
	}
	return files, nil
}

// forSystem are the keys that a system has.
func forSystem(keys []policy.Key, system string) []policy.Key {
	var has []policy.Key
	for _, k := range keys {
		if k.Only == "" || k.Only == system {
			has = append(has, k)
		}
	}
	return has
}

// topic is a group of keys: a category of the templates, a heading of the pages.
type topic struct {
	// id names it in the templates; its words are in words/*.json.
	id string
	// heading is its English name.
	heading string
	keys    []string
}

// topics is the order in which administrators meet the keys. A test holds every
// key to exactly one of them.
func topics() []topic {
	return []topic{
		{"Organization", "Organisation", []string{"OrganizationName", "HelpDeskURL"}},
		{"SignIn", "Backend and sign-in", []string{"BackendURL", "OIDCIssuer", "OIDCClientID", "OIDCScopes", "OIDCAudience", "OIDCRedirectPorts", "OIDCPrompt"}},
		{"Links", "Links and encounters", []string{"EncounterURLHosts", "AllowedLinkForms", "LinkKeys"}},
		{"Recents", "Recent encounters", []string{"RecentsLimit", "RecentsRetentionHours", "RecentsLabel"}},
		{"Shared", "Signing out and shared workstations", []string{"SharedWorkstation", "IdleSignOutMinutes", "SignOutOnLock", "MaxSignInAgeMinutes"}},
		{"Network", "Network", []string{"ProxyMode", "ProxyURL", "ProxyPACURL", "ExtraCAFile", "ClientCertificateFile", "ClientKeyFile", "ClientCertificateThumbprint"}},
		{"Desktop", "Tray, window and start", []string{"Autostart", "Language", "Notices", "HiddenItems"}},
		{"Records", "Audit and log", []string{"AuditDestination", "LogLevel"}},
	}
}

// topicOf is the id of the topic of a key; empty when it has none.
func topicOf(key string) string {
	for _, t := range topics() {
		for _, name := range t.keys {
			if name == key {
				return t.id
			}
		}
	}
	return ""
}

func keyNamed(keys []policy.Key, name string) *policy.Key {
	for i := range keys {
		if keys[i].Name == name {
			return &keys[i]
		}
	}
	return nil
}
