// Package archtest holds the house together: which rooms there are, what each
// may import, and why. Its test fails when code and table disagree.
//
// A wall that is wrong is moved here first: the row, its reason and the floor
// plan (internal/README.md) in one commit.
package archtest

// Room is one row of the table.
type Room struct {
	// Name is the folder below internal, or "." for the root program.
	Name string
	// Does is the responsibility in one line, as the floor plan says it.
	Does string
	// May are the rooms of ours that it may import.
	May []string
	// Outside are the modules, beyond the free ones, that it may import.
	Outside []string
	// Why is the reason for the row's walls.
	Why string
}

// Free modules may be imported by the thin OS files of every room.
var Free = []string{"golang.org/x/sys", "github.com/godbus/dbus/v5"}

// launcherRooms are the rooms of the workstation program below agent and cli.
var launcherRooms = []string{
	"problem", "secret", "paths", "orgapi", "launch", "intake", "policy", "transport", "signin", "tokenstore", "orgclient",
	"opener", "recents", "audit", "flow", "scheme", "autostart", "session", "view", "text", "tray", "notify", "control", "browserpolicy",
}

func without(rooms []string, names ...string) []string {
	var out []string
next:
	for _, r := range rooms {
		for _, n := range names {
			if r == n {
				continue next
			}
		}
		out = append(out, r)
	}
	return out
}

// Rooms is the table, in the order of the floor plan.
var Rooms = []Room{
	{"problem", "closed list of codes; sentence for people, cause for the log", nil, nil, "everything speaks it, so it may depend on nothing"},
	{"secret", "text that redacts itself everywhere", nil, nil, "everything holds it, so it may depend on nothing"},
	{"libraries", "Windows' own libraries come from the system's folder, whatever lies beside the program", nil, nil, "it is initialised before every library, so it may import nothing but syscall"},
	{"ground", "flavour of this build, the session's folder for sockets", nil, nil, "what is needed before anything else may need nothing else to be initialised"},
	{"first", "a link to the running agent before the rest of the program is initialised", []string{"ground"}, nil, "everything that it imported would be initialised before a click is handed over"},
	{"paths", "per-user and per-machine folders, flavour", []string{"ground"}, []string{"github.com/adrg/xdg"}, "where things live must not depend on what they are"},
	{"orgapi", "the contract with the organisation's backend: types, limits, OpenAPI", []string{"problem"}, nil, "client and server share this and no code that acts"},
	{"launch", "Request, Target, Rules, Parse: pure, no I/O", []string{"problem", "secret"}, []string{"github.com/go-jose/go-jose/v4"}, "what judges hostile text does nothing else"},
	{"intake", "argument vector to one bounded candidate", []string{"launch", "problem", "secret"}, nil, "no raw string carries a link beyond this room; a candidate's text is a secret"},
	{"policy", "keys, sources, one Snapshot, reload", []string{"paths", "problem"}, []string{"github.com/fsnotify/fsnotify"}, "policy decides for the others and knows none of them"},
	{"transport", "one HTTP client from policy: proxy, CA, client certificate", []string{"policy", "problem", "secret"}, nil, "one place decides how the network is reached; it asks WinHTTP and the certificate store itself, through x/sys"},
	{"policyfiles", "templates, schema and pages for administrators, made from policy's table", []string{"policy"}, []string{"github.com/santhosh-tekuri/jsonschema/v6"}, "texts that IT needs and no launch does: the program never links it; the library only judges the schema in its test"},
	{"browserpolicy", "the browsers' managed policy for links and microphone: pure texts", []string{"problem"}, nil, "what it allows is given to it; it decides only what an origin is"},
	{"signin", "code + PKCE on loopback, refresh, sign-out", []string{"problem", "secret"}, []string{"github.com/coreos/go-oidc/v3", "golang.org/x/oauth2", "github.com/go-jose/go-jose/v4"}, "sibling steps do not know each other; go-jose only to name the signature algorithms that go-oidc may accept"},
	{"tokenstore", "one refresh token in the OS keyring, the per-user lock", []string{"paths", "problem", "secret"}, []string{"github.com/zalando/go-keyring", "github.com/gofrs/flock"}, "only this room touches the keyring"},
	{"orgclient", "the calls to the backend: bounded, timed, checked", []string{"launch", "orgapi", "problem", "secret"}, []string{"github.com/google/uuid"}, "sibling steps do not know each other"},
	{"opener", "allow-list, then the system browser", []string{"launch", "problem"}, []string{"github.com/pkg/browser"}, "only this room starts a browser"},
	{"recents", "sealed list", []string{"launch", "paths", "problem", "secret"}, []string{"filippo.io/age"}, "sibling steps do not know each other"},
	{"audit", "outcomes, chained by hash", []string{"launch", "paths", "problem"}, nil, "an audit that knows no secret cannot write one"},
	{"flow", "the sequence; declares the interfaces it uses", []string{"launch", "problem", "secret"}, nil, "who has read Run has the map"},
	{"scheme", "who owns the link scheme: read, register, repair", []string{"paths", "problem"}, nil, "registering knows nothing of launching"},
	{"autostart", "whether the agent starts when the person logs on: read, set", []string{"paths", "problem"}, nil, "starting at logon knows nothing of links; who may ask for it is the agent's to decide"},
	{"session", "lock, switch, disconnect, idle: reported, never judged", nil, nil, "what watches a session must not know what a lock means; it has no error that a person sees, so not even a problem"},
	{"view", "snapshot structs for tray, window, command line; text from outside made inert", []string{"problem"}, nil, "what is seen holds no truth"},
	{"text", "sentences by code and language", []string{"problem"}, []string{"golang.org/x/text"}, "one catalogue for Go and the window"},
	{"tray", "menu from a snapshot", []string{"view", "text", "problem"}, []string{"fyne.io/systray"}, "a view sends intents back and knows nobody who acts; problem codes key its icon and its words"},
	{"notify", "system notifications from a snapshot", []string{"view", "text", "problem"}, []string{"git.sr.ht/~jackmordaunt/go-toast/v2", "github.com/go-ole/go-ole"}, "a view sends intents back and knows nobody who acts; problem codes key its words; toasts on Windows through COM, which Wails links already, and go-ole to take one away"},
	{"control", "control channel, both ends", []string{"intake", "paths", "problem", "view", "secret"}, []string{"github.com/Microsoft/go-winio"}, "the only way between our processes"},
	{"agent", "builds the rooms from a policy snapshot, serialises launches, publishes snapshots", without(launcherRooms), []string{"github.com/google/uuid"}, "the one place that knows all"},
	{"doctor", "checks of this workstation, and the archive for support", without(launcherRooms, "flow"), []string{"golang.org/x/crypto"}, "it examines every room and takes part in none; the agent asks it by a process of its own; x/crypto only for the list of the authorities that browsers bring along"},
	{"cli", "verbs and their output", append(without(launcherRooms, "flow"), "agent", "doctor"), []string{"github.com/spf13/cobra", "golang.org/x/term"}, "a verb asks the agent; it launches nothing itself; x/term reads a password without showing it"},
	{".", "choose the role; Wails lives only in window_desktop.go", []string{"cli", "control", "first", "ground", "intake", "launch", "libraries", "notify", "paths", "problem", "text", "view"}, []string{"github.com/wailsapp/wails/v2", "github.com/wailsapp/go-webview2"}, "the link comes first, and paths, notify and text are what it needs to be handed over and to tell the person when nobody answers; the window's first page speaks before the agent has said in which language"},
	{"assertion", "proves which OAuth client we are: keys from file, JWT assertions, JWKS", nil, []string{"github.com/go-jose/go-jose/v4"}, "Nabla and the FHIR server are told the same way who we are, so it is written once"},
	{"nabla", "client of Nabla Connect: server authentication, create, refresh, users; callback verification", []string{"assertion", "problem", "secret"}, []string{"golang.org/x/oauth2", "golang.org/x/sync", "github.com/google/uuid", "github.com/sony/gobreaker/v2"}, "the vendor's protocol in one place"},
	{"fhir", "client of the EHR's FHIR server: a patient's details, a note filed", []string{"assertion", "problem", "secret"}, []string{"golang.org/x/sync", "github.com/google/uuid"}, "it knows FHIR and nothing of Nabla"},
	{"orgconfig", "configuration of org-backend: one strict file, secrets by file", []string{"orgapi"}, []string{"go.yaml.in/yaml/v3"}, "what says how everything is set up acts on nothing"},
	{"orgstore", "what backends share: JetStream embedded or in a cluster, values sealed; handles, there or in memory", []string{"orgapi", "orgconfig", "problem"}, []string{"github.com/nats-io/nats-server/v2", "github.com/nats-io/nats.go", "github.com/nats-io/nkeys", "github.com/nats-io/jwt/v2", "github.com/gofrs/flock"}, "only this room decides where and how something is kept; jwt only makes credentials for its test"},
	{"delivery", "exported notes to the EHR: durable, again and again, until there or put aside", []string{"fhir", "nabla", "orgconfig", "orgstore", "problem", "secret"}, []string{"github.com/nats-io/nats.go", "github.com/google/uuid"}, "it takes what was verified and knows no HTTP server"},
	{"orgaudit", "who opened what, apart from logs: write, rotate, search", []string{"orgconfig", "problem"}, []string{"github.com/gofrs/flock"}, "an audit that knows no secret cannot write one"},
	{"provision", "users at Nabla ahead of time, one or from CSV, resumable", []string{"nabla", "problem"}, []string{"github.com/schollz/progressbar/v3"}, "an administrator's tool, which no server links but through its verb"},
	{"conformance", "cases that tell whether any backend keeps the contract", []string{"orgapi", "problem", "secret"}, []string{"github.com/getkin/kin-openapi", "github.com/google/uuid"}, "it judges backends from outside"},
	{"orgserver", "the organisation's backend", []string{"assertion", "delivery", "fhir", "nabla", "orgapi", "orgaudit", "orgconfig", "orgstore", "problem", "secret"}, []string{"github.com/coreos/go-oidc/v3", "github.com/go-jose/go-jose/v4", "github.com/nats-io/nats.go", "github.com/prometheus/client_golang", "go.opentelemetry.io/otel", "github.com/google/uuid", "golang.org/x/sync", "golang.org/x/time"}, "the launcher is only a client to it"},
	{"nablasim", "strict simulator of Nabla Connect", nil, []string{"github.com/go-jose/go-jose/v4"}, "independent of our client, so that one mistake is not made twice"},
	{"sessionsim", "stand-ins for logind and screen savers on a bus of one's own, for tests", nil, nil, "independent of the room that it is to try"},
	{"sandbox", "sample EHR page, OIDC issuer, backend and simulator on loopback", []string{"orgserver", "orgconfig", "nablasim", "orgapi", "paths"}, []string{"github.com/zitadel/oidc/v3", "github.com/go-jose/go-jose/v4", "golang.org/x/text", "github.com/google/uuid"}, "it reaches the launcher only as the desktop would"},
	{"endurance", "100,000 launches and whole days: what the programs hold is read, judged and drawn", []string{"chart", "sandbox", "stage"}, nil, "it meets the programs as processes: stage starts them, sandbox names the people, chart draws"},
	{"canary", "marked data through the real programs, then every place searched where something of it could be left", []string{"sandbox", "stage"}, []string{"github.com/fsnotify/fsnotify", "github.com/go-jose/go-jose/v4"}, "it meets the programs as processes: stage starts them, sandbox names the people; fsnotify sees files that are there for a moment, go-jose signs requests that are to be refused"},
	{"attackers", "tries the real programs as another user of the computer would; tests only", nil, nil, "it meets the programs from outside, as whoever attacks them does"},
	{"stage", "the real programs as processes in a desktop session and a hospital of their own, for tests and measurements", []string{"sandbox"}, []string{"github.com/go-jose/go-jose/v4"}, "it meets the programs from outside, as desktop and hospital do; of ours it takes only the sandbox's issuer"},
	{"chart", "figures as SVG: lines and bars, in light and dark, for tools only", nil, nil, "a picture of lines and bars is less than a library brings along (5 to 9 MB, licences for fonts and pictures), and none of them speaks to who cannot see it or follows light and dark"},
	{"cmd/org-backend", "org-backend: flags, handler, listen", []string{"conformance", "delivery", "nabla", "orgaudit", "orgconfig", "orgserver", "problem", "provision", "secret"}, []string{"github.com/spf13/cobra", "github.com/spf13/pflag"}, "a program is flags and a handler; pflag lists the flags for its own manual page"},
	{"cmd/nabla-sim", "nabla-sim: flags, handler, listen", []string{"nablasim", "problem"}, []string{"github.com/spf13/cobra", "github.com/go-jose/go-jose/v4"}, "a program is flags and a handler"},
	{"cmd/sandbox", "encounter-launcher-sandbox: flags, run", []string{"sandbox", "problem"}, []string{"github.com/spf13/cobra"}, "a program is flags and a handler"},
	{"cmd/policyfiles", "writes what policyfiles makes into the tree", []string{"policyfiles"}, nil, "go generate runs it"},
	{"cmd/e2e-desktop", "stand-in for a desktop's tray host and notification service, for the end-to-end test", []string{"sessionsim"}, nil, "it meets the program on the bus only, and shares the stand-in for logind with the tests"},
	{"cmd/proof", "runs every part of the proof and prints one table of what was tried and found", []string{"canary", "endurance", "faults", "fuzzing"}, []string{"github.com/schollz/progressbar/v3", "golang.org/x/term"}, "it runs what shows something, and shows nothing itself; the bar is of the library that provision has, for a terminal only"},
	{"cmd/bench", "measures the launcher and the backend against their peers, as ratios in one run", []string{"chart", "stage"}, []string{"github.com/go-jose/go-jose/v4"}, "it meets the programs from outside, as the desktop does"},
	{"cmd/wine-shim", "writes the one DLL that Wine lacks for Go programs; for tests only", nil, nil, "it meets nothing of ours"},
	{"cmd/windows-resources", "gives the Windows programs icon, version and manifest, and reads them back", nil, []string{"github.com/tc-hib/winres"}, "a build's step; it meets nothing of ours"},
	{"cmd/supply", "tells what is in the artefacts, under which licences, and what is known against it", nil, []string{"github.com/spf13/cobra", "github.com/google/licensecheck", "github.com/CycloneDX/cyclonedx-go", "github.com/santhosh-tekuri/jsonschema/v6", "github.com/google/uuid"}, "it looks at finished files from outside, so it links nothing of what it judges"},
	{"cmd/linux-docs", "writes manual pages, completions and changelog of the Linux packages", []string{"cli", "paths", "policy"}, []string{"github.com/spf13/cobra", "github.com/spf13/pflag"}, "what describes the program is written from the program; a tool of the build, so the program does not carry it"},
	{"fuzzing", "runs every fuzz target and counts: executions, new inputs, violations", nil, nil, "it meets the targets as Go's tests do and knows none of them"},
	{"cmd/fuzz", "make fuzz: flags, run, table, report", []string{"fuzzing"}, nil, "a program is flags and a run"},
	{"archtest", "this table and the test that keeps it", nil, nil, "it looks at the others from outside"},
}

// NeverInRoot are import path parts that must not appear in the closure of the
// root program: the workstation program never links a server (measured: 15.7 MB
// idle with NATS and an issuer inside, 6.3 MB without).
var NeverInRoot = []string{
	"github.com/nats-io/", "github.com/zitadel/", "github.com/prometheus/", "github.com/getkin/", "go.opentelemetry.io/",
	"encounterlauncher/internal/orgserver", "encounterlauncher/internal/orgaudit", "encounterlauncher/internal/orgstore", "encounterlauncher/internal/delivery", "encounterlauncher/internal/nablasim", "encounterlauncher/internal/nabla", "encounterlauncher/internal/sandbox", "encounterlauncher/internal/sessionsim", "encounterlauncher/internal/stage",
	"encounterlauncher/internal/policyfiles",
}
