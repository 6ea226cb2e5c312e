package canary

import (
	"fmt"
	"strings"
)

// PlaceName is where something may have been left, as a reader of the report knows it.
type PlaceName string

// The places.
const (
	AgentSays      PlaceName = "launcher: standard output and error of the agent"
	HandlerSays    PlaceName = "launcher: standard output and error of the link handler"
	CommandsSay    PlaceName = "launcher: answers of its commands"
	Snapshots      PlaceName = "launcher: snapshots and policy, as the control channel tells them"
	LauncherLog    PlaceName = "launcher: log files"
	LauncherAudit  PlaceName = "launcher: audit"
	RecentsFile    PlaceName = "launcher: recents"
	UserFiles      PlaceName = "every other file of the user (home, XDG folders)"
	RuntimeFiles   PlaceName = "every file of the runtime folder"
	TemporaryFiles PlaceName = "every file of the folders for temporary files"
	FleetingFiles  PlaceName = "files that were there for a moment only"
	KeyringFiles   PlaceName = "files of the keyring"
	Bundle         PlaceName = "archive for support, unpacked"
	AgentEnv       PlaceName = "environment of the agent"
	AgentArgv      PlaceName = "arguments of the agent"
	HandlerEnv     PlaceName = "environment of the link handler"
	HandlerArgv    PlaceName = "arguments of the link handler"
	CommandEnv     PlaceName = "environment of the launcher's commands"
	CommandArgv    PlaceName = "arguments of the launcher's commands"
	OpenerEnv      PlaceName = "environment of the opener"
	OpenerArgv     PlaceName = "arguments of the opener"
	WindowEnv      PlaceName = "environment of the window and its helpers"
	WindowArgv     PlaceName = "arguments of the window and its helpers"
	BackendEnv     PlaceName = "environment of org-backend"
	BackendArgv    PlaceName = "arguments of org-backend"
	BusKeyring     PlaceName = "session bus: with the keyring"
	BusTray        PlaceName = "session bus: tray icon and menu"
	BusNotices     PlaceName = "session bus: notices"
	BusOther       PlaceName = "session bus: everything else"
	WindowTitles   PlaceName = "titles and other properties of windows"
	Clipboard      PlaceName = "clipboard and selection"
	BackendSays    PlaceName = "org-backend: standard output and error (its log)"
	BackendAudit   PlaceName = "org-backend: audit"
	JetStream      PlaceName = "org-backend: files of JetStream"
	BackendExports PlaceName = "org-backend: folder of exports"
	BackendSecrets PlaceName = "org-backend: files with keys and secrets"
	BackendFiles   PlaceName = "org-backend: every other file"
	BackendAnswers PlaceName = "org-backend: refusals and answers of its commands"
	Metrics        PlaceName = "metrics"
	Traces         PlaceName = "traces"
	SimulatorSays  PlaceName = "nabla-sim: its log"
	CrashSays      PlaceName = "what a crash prints (goroutines)"
	CoreDumps      PlaceName = "core dumps"
)

// Place is one place and how it is read.
type Place struct {
	Name PlaceName
	How  string
	// Window says that there is nothing to look at without the window.
	Window bool
}

// Places are all places, in the order of a report.
func Places() []Place {
	return []Place{
		{AgentSays, "both streams of `encounter-launcher agent`, from its start to its end", false},
		{HandlerSays, "both streams of `encounter-launcher LINK`", false},
		{CommandsSay, "both streams of every other verb", false},
		{Snapshots, "`GET /v1/snapshot` and `GET /v1/policy` at the agent's socket, after every path", false},
		{LauncherLog, "the files, with those that were rotated", false},
		{LauncherAudit, "the files, with what `audit verify` needs", false},
		{RecentsFile, "the file", false},
		{UserFiles, "names and contents of everything below HOME and the XDG folders", false},
		{RuntimeFiles, "names and contents of everything below XDG_RUNTIME_DIR", false},
		{TemporaryFiles, "names and contents of everything below TMPDIR", false},
		{FleetingFiles, "every file that inotify sees being made is kept by a second link until it is searched", false},
		{KeyringFiles, "the files in which gnome-keyring keeps its items", false},
		{Bundle, "`doctor --bundle`, each member of the archive", false},
		{AgentEnv, "/proc/PID/environ, read again and again", false}, {AgentArgv, "/proc/PID/cmdline, read again and again", false},
		{HandlerEnv, "as above; the process is stopped at its first instruction until it was read", false}, {HandlerArgv, "as above", false},
		{CommandEnv, "as above", false}, {CommandArgv, "as above", false},
		{OpenerEnv, "as the opener itself sees it", false}, {OpenerArgv, "as the opener itself sees it", false},
		{WindowEnv, "as the agent's", true}, {WindowArgv, "as the agent's", true},
		{BackendEnv, "as the agent's", false}, {BackendArgv, "as the agent's", false},
		{BusKeyring, "every message to or from org.freedesktop.secrets, as a monitor of the bus sees it", false},
		{BusTray, "every message of StatusNotifierItem and dbusmenu", false},
		{BusNotices, "every message of org.freedesktop.Notifications", false},
		{BusOther, "every other message, names and introspection included", false},
		{WindowTitles, "every property of every window below the root of the display", true},
		{Clipboard, "CLIPBOARD, PRIMARY and SECONDARY of the display", true},
		{BackendSays, "both streams of `org-backend serve`, at log_level debug", false},
		{BackendAudit, "the files", false},
		{JetStream, "names and contents of everything below nats.folder", false},
		{BackendExports, "the files below deliver.folder", false},
		{BackendSecrets, "the files that the configuration names", false},
		{BackendFiles, "names and contents of everything else in its folder", false},
		{BackendAnswers, "bodies and headers of every refusal; streams of `deliveries` and `audit`", false},
		{Metrics, "/metrics, again and again", false},
		{Traces, "every request that an OTLP receiver on loopback gets", false},
		{SimulatorSays, "both streams of `nabla-sim serve`", false},
		{CrashSays, "streams of agent, handler and backend that were ended with SIGQUIT and SIGABRT", false},
		{CoreDumps, "core files; and the settings that keep them from being written, read from /proc", false},
	}
}

// Allowance says that marks of some kinds may stand in a place, and why. Whatever has
// no row may not.
type Allowance struct {
	Place  PlaceName
	Kinds  []Kind
	Reason string
}

// Allowed is the whole list. A row that no run needs is a fault of the list.
func Allowed() []Allowance {
	return []Allowance{
		{HandlerArgv, []Kind{Handle, SignedRequest, EncounterID, PatientID, PatientName, BirthDate},
			"A desktop hands a link to its program as the one argument; there is no other way that every desktop knows. The process lives for milliseconds and passes it on to nobody but the agent, over the socket. A handle works once, for the clinician who is signed in, for ten minutes; a link with a name or a birth date in it is refused, and the three ids are taken only where policy allows that form."},
		{CommandArgv, []Kind{Handle, PatientName},
			"What a person types as an argument stands there: an integrator who tries a link with check-link, or whoever types anything. No program of ours starts a command with something of a launch."},
		{OpenerArgv, []Kind{OneTimeURL},
			"The system's opener, and the browser behind it, take an address as their argument only. It works once, and the browser spends it as it opens it."},
		{OpenerArgv, []Kind{State},
			"The sign-in page is opened the same way. state and nonce tie its answer to this agent: who reads them has neither the code, which goes to the agent's own port, nor the PKCE verifier, without which the code is worth nothing."},
		{OpenerArgv, []Kind{IDToken},
			"At a sign-out the issuer's page is opened the same way, and wants to know whose session it is to end (id_token_hint, OpenID Connect RP-Initiated Logout 1.0, section 2). The token opens nothing: the backend refuses ID tokens."},
		{BusKeyring, []Kind{RefreshToken, ProxyPassword},
			"The Secret Service gives and takes secrets over the session bus, in clear within the bus. The bus is a socket of the user alone, and whoever may listen to it may as well ask the keyring."},
		{BusTray, []Kind{PatientName},
			"Only where policy says RecentsLabel name: the tray's host draws the menu, so it is told the labels. With initials, which is the default, and with none there is no name."},
		{Snapshots, []Kind{PatientName},
			"Only where policy says RecentsLabel name: tray and window draw what the snapshot holds. The socket is the user's alone, and both ends check each other."},
		{CommandsSay, []Kind{PatientName},
			"Only where policy says RecentsLabel name: recents lists what the tray shows, to the same person."},
		{BackendAudit, []Kind{PatientID, EncounterID},
			"The audit has to answer who opened which patient. It is apart from the logs, in a file that only the backend's user reads."},
		{BackendAnswers, []Kind{PatientID, EncounterID},
			"The command audit answers from that file, to whoever may read it."},
		{BackendExports, []Kind{Note, PatientID, EncounterID},
			"deliver.folder is one of the places to which the organisation wants its notes brought; the folder is 0700, each file 0600."},
		{BackendSecrets, []Kind{ClientSecret, PrivateKey},
			"The files that the configuration names for keys and secrets, which only the backend's user may read: org-backend refuses others."},
	}
}

// Markdown is the list of places and the list of what may stand where, for the page
// docs/canary.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| searched | how it is read |\n|---|---|\n")
	for _, p := range Places() {
		fmt.Fprintf(&b, "| %s | %s |\n", p.Name, p.How)
	}
	b.WriteString("\n| place | what may stand there | why |\n|---|---|---|\n")
	for _, a := range Allowed() {
		kinds := make([]string, len(a.Kinds))
		for i, k := range a.Kinds {
			kinds[i] = string(k)
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", a.Place, strings.Join(kinds, ", "), a.Reason)
	}
	return b.String()
}
