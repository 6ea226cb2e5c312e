package sandbox

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"encounterlauncher/internal/nablasim"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgserver"
)

const (
	// builtInClientID is the launcher's client id at the built-in issuer.
	builtInClientID = "encounter-launcher-sandbox"
	// nablaClientID is the backend's client id at the simulator.
	nablaClientID = "3f1d2c4e-0000-4000-8000-5a4db0c05a4d"
	// nablaBasePath is where Nabla's protocol begins.
	nablaBasePath = "/v1/connect/server"
)

// world is everything that a launch meets outside the workstation, each at an
// origin of its own on loopback: EHR, issuer, backend, Nabla.
type world struct {
	ehrURL, issuerURL, backendURL, nablaURL string
	controlURL                              string // of the simulator
	clientID                                string

	timeline *timeline
	issuer   *issuer // nil when an external one is used
	ehr      *ehr
	sim      *nablasim.Sim

	servers []*http.Server
	closers []io.Closer
}

// build makes the world and serves it. Whatever it started is ended by close.
func build(ctx context.Context, o Options, p places, scheme string, print func(string)) (*world, error) {
	w := &world{timeline: newTimeline(time.Now, print), clientID: o.ClientID}
	ok := false
	defer func() {
		if !ok {
			w.close()
		}
	}()
	var listeners [5]net.Listener
	for i, port := range []int{o.EHRPort, o.IssuerPort, o.BackendPort, o.NablaPort, o.ControlPort} {
		if i == 1 && o.Issuer != "" {
			continue
		}
		l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return nil, fmt.Errorf("opening port %d on loopback: another program has it, or it is not allowed", port)
		}
		listeners[i] = l
		w.closers = append(w.closers, l)
	}
	w.ehrURL, w.backendURL, w.nablaURL, w.controlURL = originOf(listeners[0]), originOf(listeners[2]), originOf(listeners[3]), originOf(listeners[4])
	w.issuerURL = o.Issuer
	if o.Issuer == "" {
		w.issuerURL = originOf(listeners[1])
		if w.clientID == "" {
			w.clientID = builtInClientID
		}
		var err error
		if w.issuer, err = newIssuer(w.issuerURL, w.clientID, w.backendURL, time.Now); err != nil {
			return nil, err
		}
		w.serve(listeners[1], w.issuer)
	}
	secret := randomText()
	if err := writeFile(p.ehrSecret(), []byte(secret+"\n")); err != nil {
		return nil, err
	}
	callbackSecret, webhookSecret := randomText(), randomText()
	if err := writeFile(p.callbackSecret(), []byte(callbackSecret+"\n")); err != nil {
		return nil, err
	}
	if err := writeFile(p.webhookSecret(), []byte(webhookSecret+"\n")); err != nil {
		return nil, err
	}
	if err := writeKey(p.nablaKey()); err != nil {
		return nil, err
	}
	clock := newClock()
	backend, err := orgserver.New(ctx, orgconfig.Config{
		Listen: listeners[2].Addr().String(), PublicURL: w.backendURL,
		Issuer: w.issuerURL, Audience: w.backendURL, LauncherClientID: w.clientID,
		Claims:     orgconfig.Claims{ProviderEmail: claimEmail, ExternalProviderID: claimProviderID},
		EHRs:       []orgconfig.EHR{{Name: "sandbox-ehr", SecretFile: p.ehrSecret()}},
		LinkScheme: scheme,
		Nabla:      orgconfig.Nabla{BaseURL: w.nablaURL + nablaBasePath, ClientID: nablaClientID, KeyFiles: []string{p.nablaKey()}},
		Callbacks:  orgconfig.Callbacks{SecretFiles: []string{p.callbackSecret()}},
		Deliver:    orgconfig.Deliver{Webhook: orgconfig.Webhook{URL: w.ehrURL + pathNotes, SecretFile: p.webhookSecret()}},
	}, orgserver.Deps{Now: clock.Now})
	if err != nil {
		return nil, fmt.Errorf("starting the backend: %w", err)
	}
	w.closers = append(w.closers, backend)
	w.sim, err = nablasim.New(nablasim.Config{
		BaseURL: w.nablaURL + nablaBasePath, PageBase: w.nablaURL,
		Clients:   map[string]nablasim.Client{nablaClientID: {JWKS: backend.JWKS()}},
		Callbacks: nablasim.Callbacks{URL: w.backendURL + orgapi.PathCallbacks, Secrets: [][]byte{[]byte(callbackSecret)}},
	})
	if err != nil {
		return nil, fmt.Errorf("starting the simulator: %w", err)
	}
	endless := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, orgapi.PathEvents) }
	w.serve(listeners[2], watchBackend(w.timeline, clock.guard(endless, backend)))
	w.serve(listeners[3], watchNabla(w.timeline, w.nablaURL, w.sim))
	w.serve(listeners[4], w.sim.Control())
	w.ehr = newEHR(w.ehrURL, scheme, &backendMinter{
		url: w.backendURL, secret: secret, clock: clock,
		http: &http.Client{Timeout: 15 * time.Second},
	}, w.sim, newNotes(webhookSecret), w.timeline)
	w.serve(listeners[0], w.ehr)
	ok = true
	return w, nil
}

func originOf(l net.Listener) string { return "http://" + l.Addr().String() }

func (w *world) serve(l net.Listener, handler http.Handler) {
	server := &http.Server{
		Handler: onlyFrom(l.Addr().String(), handler), ReadHeaderTimeout: 10 * time.Second,
		// What net/http would log may quote a request.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	w.servers = append(w.servers, server)
	go func() { _ = server.Serve(l) }()
}

// close ends every server at once and forgets everything.
func (w *world) close() {
	for _, s := range w.servers {
		_ = s.Close()
	}
	for _, c := range w.closers {
		_ = c.Close()
	}
}

// writeKey makes the key by which the backend signs in at Nabla.
func writeKey(file string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return errors.New("making the backend's key for Nabla")
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return errors.New("writing the backend's key for Nabla")
	}
	return writeFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
