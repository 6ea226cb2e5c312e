package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/scheme"
	"encounterlauncher/internal/tokenstore"
	"encounterlauncher/internal/transport"
	"encounterlauncher/internal/view"
)

// keyringTime bounds the keyring's part: writing, reading and removing takes a healthy
// one a few hundredths of a second.
const keyringTime = 2500 * time.Millisecond

// Keyring is what the keyring's check asks.
type Keyring interface {
	// Probe writes, reads back and removes what is as large as a token.
	Probe(ctx context.Context) error
	// Check reads the sign-in that is stored.
	Check(ctx context.Context) error
}

// WebView tells which WebView2 is installed. Version is empty when there is none;
// Needed is false where the window needs none.
type WebView struct {
	Needed  bool
	Version string
}

// oldestWebView is the oldest WebView2 that Wails v2 works with; the root package's
// window_webview_windows.go has the same, and a test compares them.
const oldestWebView = "94.0.992.31"

// Deps is the world as the checks see it. Real makes that of this computer.
type Deps struct {
	Layout paths.Layout
	// Version is this file's.
	Version string
	// Executable is the absolute path of this program; Home the person's home folder,
	// which facts show as "~".
	Executable, Home string
	// Policy is the policy in force.
	Policy policy.Snapshot
	// Now is the clock that is compared with the backend's.
	Now func() time.Time

	// HTTP is the client of the policy; nil when HTTPProblem says why there is none.
	HTTP        *http.Client
	HTTPProblem error
	// Proxy says which proxy leads to a host.
	Proxy func(ctx context.Context, host string) (transport.Proxy, error)
	// Resolve looks a name up, Dial connects to a proxy.
	Resolve func(ctx context.Context, host string) ([]string, error)
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	// PublicRoot reports whether an authority is one of those that browsers bring along.
	PublicRoot func(*x509.Certificate) bool

	Keyring Keyring
	// Agent asks the agent for its snapshot; the error is agent_unreachable, with
	// control.ErrNoAgent in its chain when none runs.
	Agent func(ctx context.Context) (view.Snapshot, error)
	// Scheme is who receives the links; Ask what the system's own tool says of it.
	Scheme func() (scheme.State, error)
	Ask    func(ctx context.Context, s scheme.State) (scheme.Asked, error)
	// Free is how many bytes of the file system of a folder this user can still fill.
	Free func(folder string) (uint64, error)
	// Tray says whether the desktop shows trays.
	Tray func(ctx context.Context) TrayState
	// WebView asks for WebView2.
	WebView func() (WebView, error)
	// Libraries are those that a program needs and that are missing; it is not started.
	Libraries func(ctx context.Context, program string) (missing []string, err error)
	// Display says whether this session has a display.
	Display func() bool
	// BrowserPolicies reads what IT has set for the browsers.
	BrowserPolicies func() []browserPolicy
	// Copies are the programs on this computer that may be another copy of this one.
	Copies func() []string
}

// TrayState says whether the desktop shows trays.
type TrayState int

// The states of the tray's host.
const (
	TrayShown TrayState = iota
	TrayNobody
	TrayNoSession
)

// Real returns this computer's world. It reads the policy and does nothing else.
func Real(l paths.Layout, version, executable string) Deps {
	p := policy.Load(l)
	home, _ := os.UserHomeDir()
	d := Deps{
		Layout: l, Version: version, Executable: linkProgram(executable), Home: home, Policy: p, Now: time.Now,
		Resolve: net.DefaultResolver.LookupHost, Dial: new(net.Dialer).DialContext, PublicRoot: publicRoot,
		// A lock of its own: what is tried here never holds a sign-in up.
		Keyring: tokenstore.New(tokenstore.OS(), l.KeyringService(), filepath.Join(l.StateDir(), "doctor.lock"), keyringTime),
		Agent: func(ctx context.Context) (view.Snapshot, error) {
			c, err := control.Dial(ctx, l)
			if err != nil {
				return view.Snapshot{}, err
			}
			defer c.Close()
			return c.Snapshot(ctx)
		},
		Scheme: func() (scheme.State, error) { return scheme.Look(l) },
		Ask:    func(ctx context.Context, s scheme.State) (scheme.Asked, error) { return s.Ask(ctx) },
		Free:   free, Tray: trayHost, WebView: webView, Libraries: missingLibraries, Display: display,
	}
	d.BrowserPolicies = func() []browserPolicy { return browserPolicies(l.Scheme()) }
	d.Copies = func() []string { return copies(l.Name) }
	keyring := tokenstore.New(tokenstore.OS(), l.KeyringService(), l.UserLockFile(), keyringTime)
	d.HTTP, d.HTTPProblem = transport.NewClient(p, proxyCredentials{keyring})
	d.Proxy = func(ctx context.Context, host string) (transport.Proxy, error) {
		return transport.LookupProxy(ctx, p, host)
	}
	return d
}

// proxyCredentials asks the keyring for what a proxy wants to know, as the agent does,
// unless it is locked: nobody waits here who could answer its prompt.
type proxyCredentials struct{ store *tokenstore.Store }

// ProxyCredential implements transport.Credentials.
func (p proxyCredentials) ProxyCredential(ctx context.Context, host string) (transport.Credential, bool, error) {
	if err := p.store.Check(ctx); problem.IsCode(err, problem.KeyringLocked) {
		return transport.Credential{}, false, err
	}
	c, found, err := p.store.ProxyCredential(ctx, host)
	if problem.IsCode(err, problem.KeyringUnavailable) {
		err = nil
	}
	return transport.Credential{User: c.User, Password: c.Password, Stamp: c.Set.Format(time.RFC3339Nano)}, found, err
}

// linkProgram is the program that links start: on Windows the one without a console,
// which lies beside the one with.
func linkProgram(executable string) string {
	if ext := filepath.Ext(executable); strings.EqualFold(ext, ".com") {
		return strings.TrimSuffix(executable, ext) + ".exe"
	}
	return executable
}

// world is what the checks of one run share: each server is asked once.
type world struct {
	Deps
	backend, issuer *place
	encounters      []*place
}

// mostEncounterHosts bounds how many hosts of EncounterURLHosts are met.
const mostEncounterHosts = 5

func newWorld(d Deps) *world {
	w := &world{Deps: d}
	w.backend = w.placeOf(d.Policy.BackendURL, pathOfMe)
	w.issuer = w.placeOf(d.Policy.OIDCIssuer, pathOfDiscovery)
	for _, host := range d.Policy.EncounterURLHosts {
		// A suffix names no host that could be met, and the demo's pages lie on a port
		// that no policy names.
		if strings.HasPrefix(host, ".") || w.Layout.IsDemo() && host == "127.0.0.1" || len(w.encounters) == mostEncounterHosts {
			continue
		}
		if p := w.placeOf("https://"+host, "/"); p != nil {
			p.encounters = true
			w.encounters = append(w.encounters, p)
		}
	}
	return w
}

// places are the servers that policy names, each host once.
func (w *world) places() []*place {
	var all []*place
	seen := map[string]bool{}
	for _, p := range append([]*place{w.backend, w.issuer}, w.encounters...) {
		if p != nil && !seen[p.url.Host] {
			seen[p.url.Host] = true
			all = append(all, p)
		}
	}
	return all
}

// refused reports whether there is no client to reach anything with.
func (w *world) unconnected() bool { return w.HTTPProblem != nil || w.HTTP == nil }

// shown is a fact as people may read it: bounded, inert, and without the name of the
// person, which stands in the path of the home folder.
func (w *world) shown(fact string) string { return w.bounded(fact, 200) }

func (w *world) bounded(fact string, most int) string {
	if home := strings.TrimRight(w.Home, `/\`); len(home) > 1 {
		fact = strings.ReplaceAll(fact, home, "~")
	}
	return view.Inert(masked(fact), most)
}

// causeOf is an error for the log, with its inner cause. Its reference is left out: it
// was shown to nobody.
func causeOf(err error) error {
	p := problem.Of(err)
	if p == nil {
		return nil
	}
	var parts []string
	for _, a := range p.LogValue().Group() {
		if a.Key != "reference" {
			parts = append(parts, a.Value.String())
		}
	}
	return errors.New(strings.Join(parts, ": "))
}
