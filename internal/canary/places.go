package canary

// PlaceName is where something may have been left, as a reader of the report knows it.
type PlaceName string

// The places.
const (
	AgentSays      PlaceName = "launcher: standard output and error of the agent"
	HandlerSays    PlaceName = "launcher: standard output and error of the link handler"
	CommandsSay    PlaceName = "launcher: answers of its commands"
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
	return nil
}
