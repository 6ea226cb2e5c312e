package policy

import (
	"slices"
	"strconv"
	"time"
)

// Type is how a value of a key is written in JSON and in the registry.
type Type string

// The types.
const (
	// Text is a JSON string, REG_SZ.
	Text Type = "text"
	// Choice is a Text out of Key.Allowed.
	Choice Type = "choice"
	// List is a JSON array of strings, REG_MULTI_SZ.
	List Type = "list"
	// Number is a whole number from Key.Min to Key.Max, REG_DWORD.
	Number Type = "number"
	// YesNo is true or false, REG_DWORD 1 or 0.
	YesNo Type = "yes/no"
	// Object is a JSON object, in the registry its text as REG_SZ.
	Object Type = "object"
)

// Scope says which of the two policies may set a key. Installer defaults may
// set every key.
type Scope string

// The scopes.
const (
	// Machine keys describe the computer: a user policy that sets one is rejected.
	Machine Scope = "machine"
	// MachineAndUser keys may be set by both.
	MachineAndUser Scope = "machine and user"
)

// The systems that a key may be for alone.
const (
	Linux   = "Linux"
	Windows = "Windows"
)

// OnError is what a value that cannot be used, or a source that cannot be read,
// does to a key. A weaker source never takes the place of either.
type OnError string

// The two outcomes.
const (
	// RefuseLaunches stops every launch until the value is mended.
	RefuseLaunches OnError = "refuse launches"
	// TakeSafest puts Key.Safest in force and shows the fault.
	TakeSafest OnError = "take the safest value"
)

// Key is one row of the one table: everything that the product knows about a
// key of policy. Parser, explanation and every generated artefact are driven by
// it.
type Key struct {
	Name string
	Type Type
	// Default is the built-in default as JSON text, "null" when there is none.
	Default string
	// Since is the version that first knew the key.
	Since string
	Scope Scope
	// PersonMayChoose says that the person's settings file may set the key.
	PersonMayChoose bool
	OnError         OnError
	// Safest is what is in force when a value cannot be used, as JSON text;
	// "null" leaves the key unset.
	Safest string
	// Required says that launches wait until the key is set.
	Required bool
	// Allowed are the values of a Choice, and the items of a List that has a
	// closed list; nil for every other key.
	Allowed []string
	// Min and Max are the bounds of a Number, both included.
	Min, Max int
	// Only is Linux or Windows where the key is for that system alone; else empty.
	Only string
	// Sentence says what the key does, for administrators.
	Sentence string
	// Example is a good value as JSON text, for instructions.
	Example string
	// Windows is the example for Windows where that differs; else empty.
	Windows string

	// check says what is wrong with a value of the right type, as the end of a
	// sentence ("must be …"); empty when nothing is. nil checks nothing more.
	check func(v value, r rules) string
	put   func(s *Snapshot, v value)
}

// value is a value of the right type: the field that belongs to the type of the
// key is set.
type value struct {
	text   string
	list   []string
	number int
	yes    bool
	object []byte
}

// rules are what the checks need to know about this build and this system.
type rules struct {
	// demo allows http://127.0.0.1:<port>.
	demo bool
	// pac says that this system can evaluate a proxy script.
	pac bool
	// store says that this system keeps certificates in a store of its own, and that
	// the rights to a file of a key cannot be read from its mode.
	store bool
}

const (
	nothing = "null"
	v01     = "0.1"
)

// Keys returns the table in its fixed order. The caller may change the copy.
func Keys() []Key {
	keys := table()
	for i := range keys {
		keys[i].Allowed = slices.Clone(keys[i].Allowed)
	}
	return keys
}

// table is a function and not a variable, so that a start of the program which
// reads no policy does not pay for it.
func table() []Key {
	return []Key{
		{
			Name: "OrganizationName", Type: Text, Default: nothing, Since: v01, Scope: MachineAndUser, OnError: TakeSafest, Safest: nothing,
			Sentence: "The name of the organisation, shown in the tray and in the window.",
			Example:  `"Example Hospital"`,
			check:    checkName,
			put:      func(s *Snapshot, v value) { s.OrganizationName = v.text },
		}, {
			Name: "HelpDeskURL", Type: Text, Default: nothing, Since: v01, Scope: MachineAndUser, OnError: TakeSafest, Safest: nothing,
			Sentence: "The page of the IT help desk that the tray and the window offer to open.",
			Example:  `"https://help.hospital.example/"`,
			check:    checkPage,
			put:      func(s *Snapshot, v value) { s.HelpDeskURL = v.text },
		}, {
			Name: "BackendURL", Type: Text, Default: nothing, Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: nothing, Required: true,
			Sentence: "The address of the organisation's backend, to which the launcher sends every encounter.",
			Example:  `"https://encounters.hospital.example/api"`,
			check:    checkService,
			put:      func(s *Snapshot, v value) { s.BackendURL = v.text },
		}, {
			Name: "OIDCIssuer", Type: Text, Default: nothing, Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: nothing, Required: true,
			Sentence: "The OpenID Connect issuer at which clinicians sign in, written exactly as the issuer calls itself.",
			Example:  `"https://login.hospital.example/realms/staff"`,
			check:    checkService,
			put:      func(s *Snapshot, v value) { s.OIDCIssuer = v.text },
		}, {
			Name: "OIDCClientID", Type: Text, Default: nothing, Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: nothing, Required: true,
			Sentence: "The client id under which the launcher is registered at the issuer, as a public client without a secret.",
			Example:  `"encounter-launcher"`,
			check:    checkIdentifier,
			put:      func(s *Snapshot, v value) { s.OIDCClientID = v.text },
		}, {
			Name: "OIDCScopes", Type: List, Default: `["openid","email","offline_access"]`, Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: nothing,
			Sentence: "The scopes that the launcher asks for at sign-in; openid is one of them.",
			Example:  `["openid","email","offline_access"]`,
			check:    checkScopes,
			put:      func(s *Snapshot, v value) { s.OIDCScopes = v.list },
		}, {
			Name: "OIDCAudience", Type: Text, Default: nothing, Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: nothing,
			Sentence: "The audience that the access token is asked for: the backend's name at the issuer, never the client id.",
			Example:  `"https://encounters.hospital.example/api"`,
			check:    checkIdentifier,
			put:      func(s *Snapshot, v value) { s.OIDCAudience = v.text },
		}, {
			Name: "OIDCRedirectPorts", Type: List, Default: nothing, Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: nothing,
			Sentence: "The ports on 127.0.0.1 to which the issuer may redirect after sign-in, in the order in which they are tried; any free port when unset.",
			Example:  `["8400","8401"]`,
			check:    checkPorts,
			put:      putPorts,
		}, {
			Name: "OIDCPrompt", Type: Choice, Default: nothing, Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: nothing,
			Allowed:  []string{"login", "consent", "select_account"},
			Sentence: "What the issuer is asked to show at every sign-in; nothing is asked when unset.",
			Example:  `"consent"`,
			put:      func(s *Snapshot, v value) { s.OIDCPrompt = v.text },
		}, {
			Name: "EncounterURLHosts", Type: List, Default: nothing, Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: nothing, Required: true,
			Sentence: "The hosts on which encounters may be opened: exact names, or endings with a leading dot.",
			Example:  `["encounters.vendor.example",".vendor.example"]`,
			check:    checkHosts,
			put:      func(s *Snapshot, v value) { s.EncounterURLHosts = v.list },
		}, {
			Name: "AllowedLinkForms", Type: List, Default: `["handle","request"]`, Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: nothing,
			Allowed:  []string{"handle", "request", "identifiers"},
			Sentence: "The forms of links that are accepted from the EHR.",
			Example:  `["handle"]`,
			check:    checkNotEmpty,
			put:      func(s *Snapshot, v value) { s.AllowedLinkForms = v.list },
		}, {
			Name: "LinkKeys", Type: Object, Default: nothing, Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: nothing,
			Sentence: "The public keys that sign links, as a JWK set in which each key has kid, alg and the issuer of its links as iss; with keys, signatures are checked on this computer too.",
			Example:  `{"keys":[{"kty":"EC","crv":"P-256","kid":"ehr-2026","alg":"ES256","iss":"ehr.hospital.example","x":"zP8MGEzxxX7YSXHvM5MrmH92JrGuCyAAZWC2BIhIMao","y":"HMwUkI5T9UaLwFBjHr4WTHMDFiDB1YWUJpsEwe76FPQ"}]}`,
			check:    checkLinkKeys,
			put:      func(s *Snapshot, v value) { s.LinkKeys = v.object },
		}, {
			Name: "RecentsLimit", Type: Number, Default: "10", Since: v01, Scope: MachineAndUser, OnError: TakeSafest, Safest: "0", Max: 200,
			Sentence: "How many recent encounters are kept; 0 keeps none.",
			Example:  `5`,
			put:      func(s *Snapshot, v value) { s.RecentsLimit = v.number },
		}, {
			Name: "RecentsRetentionHours", Type: Number, Default: "24", Since: v01, Scope: MachineAndUser, OnError: TakeSafest, Safest: "0", Max: 720,
			Sentence: "For how many hours a recent encounter is kept; 0 keeps none.",
			Example:  `12`,
			put:      func(s *Snapshot, v value) { s.RecentsRetention = time.Duration(v.number) * time.Hour },
		}, {
			Name: "RecentsLabel", Type: Choice, Default: `"initials"`, Since: v01, Scope: MachineAndUser, OnError: TakeSafest, Safest: `"none"`,
			Allowed:  []string{"none", "initials", "name"},
			Sentence: "What a recent encounter shows of the patient.",
			Example:  `"none"`,
			put:      func(s *Snapshot, v value) { s.RecentsLabel = v.text },
		}, {
			Name: "SharedWorkstation", Type: YesNo, Default: "false", Since: v01, Scope: Machine, OnError: RefuseLaunches, Safest: "true",
			Sentence: "Several people work under one account of this computer: a sign-in lasts in memory only, ends when the computer is locked, the session switched or disconnected (whatever SignOutOnLock says), and nothing is left for the next person.",
			Example:  `true`,
			put:      func(s *Snapshot, v value) { s.SharedWorkstation = v.yes },
		}, {
			Name: "IdleSignOutMinutes", Type: Number, Default: "0", Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: "5", Max: 1440,
			Sentence: "After how many minutes without a key or the mouse the person is signed out, told a minute before; 0 never.",
			Example:  `15`,
			put:      func(s *Snapshot, v value) { s.IdleSignOut = time.Duration(v.number) * time.Minute },
		}, {
			Name: "SignOutOnLock", Type: YesNo, Default: "false", Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: "true",
			Sentence: "Locking the computer, switching to another session, disconnecting from this one and going to sleep sign the person out.",
			Example:  `true`,
			put:      func(s *Snapshot, v value) { s.SignOutOnLock = v.yes },
		}, {
			Name: "MaxSignInAgeMinutes", Type: Number, Default: "0", Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: "60", Max: 43200,
			Sentence: "How many minutes ago the person may have signed in at the issuer; at that age the person is signed out, and told five minutes before; 0 sets no limit.",
			Example:  `720`,
			put:      func(s *Snapshot, v value) { s.MaxSignInAge = time.Duration(v.number) * time.Minute },
		}, {
			Name: "Autostart", Type: YesNo, Default: "true", Since: v01, Scope: MachineAndUser, PersonMayChoose: true, OnError: TakeSafest, Safest: "false",
			Sentence: "The launcher starts when the person logs on; without it, the first link starts it.",
			Example:  `false`,
			put:      func(s *Snapshot, v value) { s.Autostart = v.yes },
		}, {
			Name: "ProxyMode", Type: Choice, Default: `"system"`, Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: nothing,
			Allowed:  []string{"system", "direct", "manual", "pac"},
			Sentence: "How the launcher finds the proxy: the system's settings, none, ProxyURL, or the script at ProxyPACURL.",
			Example:  `"manual"`,
			check:    checkProxyMode,
			put:      func(s *Snapshot, v value) { s.ProxyMode = v.text },
		}, {
			Name: "ProxyURL", Type: Text, Default: nothing, Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: nothing,
			Sentence: "The proxy for ProxyMode manual, without user name and password.",
			Example:  `"http://proxy.hospital.example:3128"`,
			check:    checkProxy,
			put:      func(s *Snapshot, v value) { s.ProxyURL = v.text },
		}, {
			Name: "ProxyPACURL", Type: Text, Default: nothing, Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: nothing,
			Sentence: "The address of the proxy script for ProxyMode pac.",
			Example:  `"http://wpad.hospital.example/proxy.pac"`,
			check:    checkScript,
			put:      func(s *Snapshot, v value) { s.ProxyPACURL = v.text },
		}, {
			Name: "ExtraCAFile", Type: Text, Default: nothing, Since: v01, Scope: Machine, OnError: RefuseLaunches, Safest: nothing,
			Sentence: "A file of PEM certificates that are trusted in addition to the system's.",
			Example:  `"/etc/encounter-launcher/extra-ca.pem"`,
			Windows:  `"C:\\Program Files\\Hospital IT\\extra-ca.pem"`,
			check:    checkFile,
			put:      func(s *Snapshot, v value) { s.ExtraCAFile = v.text },
		}, {
			Name: "ClientCertificateFile", Type: Text, Default: nothing, Since: v01, Scope: Machine, OnError: RefuseLaunches, Safest: nothing,
			Sentence: "A PEM file with the certificate, and those between it and its root, that is shown to the host of BackendURL when it asks for one, and to no other host; on Linux, with ClientKeyFile.",
			Only:     Linux, Example: `"/etc/encounter-launcher/client.pem"`, Windows: `"C:\\Program Files\\Hospital IT\\client.pem"`,
			check: checkFile,
			put:   func(s *Snapshot, v value) { s.ClientCertificateFile = v.text },
		}, {
			Name: "ClientKeyFile", Type: Text, Default: nothing, Since: v01, Scope: Machine, OnError: RefuseLaunches, Safest: nothing,
			Sentence: "The PEM file with the private key of ClientCertificateFile, not encrypted; the user must be able to read it, and neither everybody to read it nor others to write it.",
			Only:     Linux, Example: `"/etc/encounter-launcher/client.key"`, Windows: `"C:\\Program Files\\Hospital IT\\client.key"`,
			check: checkFile,
			put:   func(s *Snapshot, v value) { s.ClientKeyFile = v.text },
		}, {
			Name: "ClientCertificateThumbprint", Type: Text, Default: nothing, Since: v01, Scope: MachineAndUser, OnError: RefuseLaunches, Safest: nothing,
			Sentence: "The SHA-1 thumbprint of a certificate in Windows' store (Personal, of the computer or else of the user) that is shown to the host of BackendURL when it asks for one, and to no other host; its private key never leaves the store.",
			Only:     Windows, Example: `"0123456789abcdef0123456789abcdef01234567"`,
			check: checkThumbprint,
			put:   func(s *Snapshot, v value) { s.ClientCertificateThumbprint = v.text },
		}, {
			Name: "Language", Type: Choice, Default: nothing, Since: v01, Scope: MachineAndUser, PersonMayChoose: true, OnError: TakeSafest, Safest: nothing,
			Allowed:  []string{"en", "fr", "es", "de"},
			Sentence: "The language of tray, window and notices; the system's when unset.",
			Example:  `"fr"`,
			put:      func(s *Snapshot, v value) { s.Language = v.text },
		}, {
			Name: "AuditDestination", Type: Choice, Default: `"file"`, Since: v01, Scope: MachineAndUser, OnError: TakeSafest, Safest: `"file"`,
			Allowed:  []string{"file", "system", "none"},
			Sentence: "Where outcomes of launches are recorded: a file of the person, that file and the system's log, or nowhere.",
			Example:  `"system"`,
			put:      func(s *Snapshot, v value) { s.AuditDestination = v.text },
		}, {
			Name: "LogLevel", Type: Choice, Default: `"info"`, Since: v01, Scope: MachineAndUser, OnError: TakeSafest, Safest: `"info"`,
			Allowed:  []string{"debug", "info", "warn", "error"},
			Sentence: "How much the agent writes to its log; no level writes patient data, links or tokens.",
			Example:  `"debug"`,
			put:      func(s *Snapshot, v value) { s.LogLevel = v.text },
		}, {
			Name: "Notices", Type: Choice, Default: `"all"`, Since: v01, Scope: MachineAndUser, PersonMayChoose: true, OnError: TakeSafest, Safest: `"problems"`,
			Allowed:  []string{"all", "problems", "none"},
			Sentence: "Which system notifications the person gets; tray and window show everything in any case.",
			Example:  `"problems"`,
			put:      func(s *Snapshot, v value) { s.Notices = v.text },
		}, {
			Name: "HiddenItems", Type: List, Default: nothing, Since: v01, Scope: MachineAndUser, OnError: TakeSafest, Safest: nothing,
			Allowed:  []string{"sign-in", "sign-out", "recents", "settings", "diagnostics", "quit"},
			Sentence: "What the tray and the window do not show; the command line hides nothing.",
			Example:  `["settings","diagnostics"]`,
			put:      func(s *Snapshot, v value) { s.HiddenItems = v.list },
		},
	}
}

func putPorts(s *Snapshot, v value) {
	s.OIDCRedirectPorts = nil
	for _, item := range v.list {
		if port, err := strconv.Atoi(item); err == nil {
			s.OIDCRedirectPorts = append(s.OIDCRedirectPorts, port)
		}
	}
}
