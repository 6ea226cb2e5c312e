//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"encounterlauncher/internal/stage"
)

const (
	// shortMemory is org-backend with another keptHandles.
	shortMemory = "org-backend-of-short-memory"
	// clinicians press their buttons at the same time, one on each connection.
	clinicians = 64
	// creates are those of one side in one round.
	creates = 4000
)

// hospital is what the backend stands between: an issuer of access tokens (in this
// process), the simulator of Nabla Connect, nginx as a plain proxy to the same
// simulator, and the backend itself, each a program of its own on loopback over HTTP
// without TLS.
type hospital struct {
	dir     string
	started []*stage.Program
	secrets *stage.Secrets

	issuer    *http.Server
	issuerURL string
	signer    jose.Signer
	tokens    []string // one for each clinician

	simulator string // base URL
	sim, ngx  *stage.Program
	proxy     string // host:port of nginx
	sink      *sink
}

func (b *bench) buildBackend(ctx context.Context) error {
	short := b.built.Backend()
	short.Name, short.LDFlags = shortMemory, short.LDFlags+" -X encounterlauncher/internal/orgstore.shortened="+keptHandles.String()
	return b.built.Build(ctx, b.built.Backend(), b.built.Simulator(), short)
}

func newHospital(ctx context.Context, dir string, built built) (_ *hospital, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil { // nginx' workers are somebody else
		return nil, err
	}
	h := &hospital{dir: dir}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	if err := errors.Join(h.startIssuer(), h.startSink()); err != nil {
		return nil, err
	}
	for n := range clinicians {
		token, err := h.token(n)
		if err != nil {
			return nil, err
		}
		h.tokens = append(h.tokens, token)
	}
	if h.secrets, err = stage.NewSecrets(dir); err != nil {
		return nil, err
	}
	sim, err := stage.StartSimulator(ctx, built.Programs, h.secrets, stage.SimulatorOptions{})
	if err != nil {
		return nil, fmt.Errorf("starting the simulator: %w", err)
	}
	h.sim, h.simulator = sim.Program, sim.Base
	h.started = append(h.started, h.sim)
	return h, h.startProxy(ctx)
}

func (h *hospital) file(name string) string { return filepath.Join(h.dir, name) }

func (h *hospital) close() {
	for _, p := range slices.Backward(h.started) {
		p.Stop()
	}
	if h.issuer != nil {
		_ = h.issuer.Close()
	}
	if h.sink != nil {
		_ = h.sink.server.Close()
	}
}

// startIssuer serves discovery and keys. RS256 is what most issuers sign with.
func (h *hospital) startIssuer() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	h.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	h.issuerURL = "http://" + l.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"issuer": h.issuerURL, "jwks_uri": h.issuerURL + "/jwks", "authorization_endpoint": h.issuerURL + "/authorize",
			"token_endpoint": h.issuerURL + "/token", "id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "RS256", Use: "sig"}}})
	})
	h.issuer = &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	go func() { _ = h.issuer.Serve(l) }()
	return nil
}

func provider(n int) string      { return fmt.Sprintf("D-%05d", n) }
func providerEmail(n int) string { return fmt.Sprintf("clinician-%05d@hospital.example", n) }

// token is the access token of one clinician.
func (h *hospital) token(n int) (string, error) {
	at := time.Now()
	return jwt.Signed(h.signer).Claims(map[string]any{
		"iss": h.issuerURL, "aud": stage.Audience, "sub": fmt.Sprint("subject-", n), "iat": at.Unix(), "exp": at.Add(4 * time.Hour).Unix(),
		"email": providerEmail(n), "external_provider_id": provider(n),
	}).Serialize()
}

// startProxy starts nginx as somebody sets it up who wants a plain proxy to be
// quick: connections to the simulator are kept, and nothing is logged.
func (h *hospital) startProxy(ctx context.Context) (err error) {
	if h.proxy, err = stage.FreePort(); err != nil {
		return err
	}
	host := strings.Split(strings.TrimPrefix(h.simulator, "http://"), "/")[0]
	prefix := h.file("nginx")
	if err := os.Mkdir(prefix, 0o755); err != nil {
		return err
	}
	config := fmt.Sprintf(`daemon off;
worker_processes auto;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream simulator { server %s; keepalive 64; }
  server {
    listen %s;
    location / {
      proxy_pass http://simulator;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
    }
  }
}
`, host, h.proxy)
	if err := os.WriteFile(filepath.Join(prefix, "nginx.conf"), []byte(config), 0o644); err != nil {
		return err
	}
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // which is not on everybody's PATH
	}
	cmd := exec.CommandContext(ctx, program, "-p", prefix, "-c", "nginx.conf")
	// nginx' workers would outlive a master that was killed.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if h.ngx, err = stage.Start(cmd); err != nil {
		return err
	}
	h.started = append(h.started, h.ngx)
	return stage.Listens(ctx, h.proxy, h.ngx)
}

// startBackend starts org-backend as it is released, with everything on that a
// hospital has on, a webhook among it.
func (h *hospital) startBackend(ctx context.Context, built built, name, program string, more string) (*stage.Backend, error) {
	p, err := stage.StartBackend(ctx, built.Programs, h.secrets, stage.BackendOptions{
		Dir: h.file(name), Program: program, Issuer: h.issuerURL, Nabla: h.simulator, More: more,
		Deliver: fmt.Sprintf("{webhook: {url: %q, secret_file: ../webhook.secret}}", h.sink.url),
	})
	if err == nil {
		h.started = append(h.started, p.Program)
	}
	return p, err
}

// stop ends one program before the others.
func (h *hospital) stop(p *stage.Backend) {
	p.Stop()
	h.started = slices.DeleteFunc(h.started, func(c *stage.Program) bool { return c == p.Program })
}

// nablaToken gets an access token from the simulator, as the backend does.
func (h *hospital) nablaToken(ctx context.Context) (string, error) {
	at := time.Now()
	endpoint := h.simulator + "/oauth/token"
	proof, err := jwt.Signed(h.secrets.Nabla).Claims(map[string]any{
		"iss": stage.NablaClient, "sub": stage.NablaClient, "aud": endpoint, "iat": at.Unix(), "exp": at.Add(time.Minute).Unix(), "jti": fmt.Sprint(at.UnixNano()),
	}).Serialize()
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(map[string]string{
		"grant_type": "client_credentials", "client_assertion": proof,
		"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
	})
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(response.Body).Decode(&token); err != nil || token.AccessToken == "" {
		return "", fmt.Errorf("the simulator gave no token: status %d", response.StatusCode)
	}
	return token.AccessToken, nil
}

// createBody is what an EHR knows of an encounter: the body of POST /launches, and
// field for field that of Nabla's create.
func createBody(n int, encounter, text string) []byte {
	return fmt.Appendf(nil, `{"provider_email":%q,"external_provider_id":%q,"external_patient_id":"P-%s","external_encounter_id":"E-%s",`+
		`"structured_context":{"patient_demographics":{"name":"Ada Example","birth_date":"1980-01-31","gender":"female","pronouns":null}}%s}`,
		providerEmail(n), provider(n), encounter, encounter, text)
}

// withText is what a launch says beside its patient.
const withText = `,"unstructured_context":"Follow-up after discharge; blood pressure was high, takes ramipril 5 mg since March. Allergic to penicillin."`

// mint has an EHR register so many launches and returns their handles. Clinicians
// take turns.
func (h *hospital) mint(ctx context.Context, p *stage.Backend, name string, count int, text string) ([]string, error) {
	requests := make([][]byte, count)
	for i := range requests {
		requests[i] = post(p.Address, "/launches", [][2]string{{"Authorization", "Bearer " + stage.EHRSecret}}, createBody(i%clinicians, fmt.Sprint(name, "-", i), text))
	}
	replies, _, err := generator{p.Address, clinicians}.run(ctx, requests)
	if err != nil {
		return nil, err
	}
	handles := make([]string, count)
	for i, r := range replies {
		var a struct {
			Handle string `json:"handle"`
		}
		if err := json.Unmarshal(r.body, &a); r.status != http.StatusOK || err != nil || a.Handle == "" {
			return nil, fmt.Errorf("POST /launches answered %d: %s", r.status, r.body)
		}
		handles[i] = a.Handle
	}
	return handles, nil
}

// opened makes sure that every answer is 200 with a one-time URL of its own.
func opened(replies []reply) error {
	seen := make(map[string]bool, len(replies))
	for _, r := range replies {
		var a struct {
			URL string `json:"encounter_url"`
		}
		if err := json.Unmarshal(r.body, &a); r.status != http.StatusOK || err != nil || a.URL == "" {
			return fmt.Errorf("a create was answered %d: %s", r.status, r.body)
		}
		seen[a.URL] = true
	}
	if len(seen) != len(replies) {
		return fmt.Errorf("%d creates gave %d different one-time URLs", len(replies), len(seen))
	}
	return nil
}

// side is one of two that are measured against each other.
type side struct {
	rate, p99 *sample
	cpu       time.Duration // of its own program
	sim       time.Duration // of the simulator meanwhile
	count     int
}

func (b *bench) newSide() *side { return &side{rate: b.report.sample(), p99: b.report.sample()} }

// measure sends requests and takes into the side how quickly they were answered.
func (s *side) measure(ctx context.Context, address string, own, sim *stage.Program, requests [][]byte, count bool) error {
	ownBefore, simBefore := stage.CPU(own.PID()), stage.CPU(sim.PID())
	replies, took, err := generator{address, clinicians}.run(ctx, requests)
	if err != nil {
		return err
	}
	ownAfter, simAfter := stage.CPU(own.PID()), stage.CPU(sim.PID())
	if err := opened(replies); err != nil {
		return err
	}
	if !count {
		return nil
	}
	var times sample
	for _, r := range replies {
		times.values = append(times.values, r.took.Seconds()*1e3)
	}
	s.rate.values = append(s.rate.values, float64(len(replies))/took.Seconds())
	s.p99.values = append(s.p99.values, times.percentile(99).Median)
	s.cpu += ownAfter - ownBefore
	s.sim += simAfter - simBefore
	s.count += len(replies)
	return nil
}

func (s *side) perCall(d time.Duration) *stats {
	v := d.Seconds() * 1e6 / float64(s.count)
	return &stats{N: s.count, Median: v, Min: v, Max: v}
}

// creates measures POST /encounters by handle through the backend against Nabla's
// create through nginx, in turns. Both end at the same simulator, which answers at
// once; both carry what is known of the encounter: nginx in the request, the backend
// from the handle.
func (b *bench) creates(ctx context.Context) error {
	h := b.hospital
	p, err := h.startBackend(ctx, b.built, "creates", "org-backend", "")
	if err != nil {
		return err
	}
	defer h.stop(p)
	ours, theirs := b.newSide(), b.newSide()
	for round := range b.rounds + 1 {
		handles, err := h.mint(ctx, p, fmt.Sprint("a", round), creates, withText)
		if err != nil {
			return err
		}
		requests := make([][]byte, creates)
		for i, handle := range handles {
			requests[i] = post(p.Address, "/encounters", [][2]string{
				{"Authorization", "Bearer " + h.tokens[i%clinicians]}, {"Idempotency-Key", fmt.Sprintf("key-%d-%d", round, i)}, {"X-Request-Id", fmt.Sprintf("call-%d-%d", round, i)},
			}, fmt.Appendf(nil, `{"handle":%q}`, handle))
		}
		// The first round brings both up to speed.
		if err := ours.measure(ctx, p.Address, p.Program, h.sim, requests, round > 0); err != nil {
			return fmt.Errorf("through the backend: %w", err)
		}
		token, err := h.nablaToken(ctx)
		if err != nil {
			return err
		}
		for i := range requests {
			requests[i] = post(h.proxy, strings.TrimPrefix(h.simulator, "http://"+strings.Split(h.simulator, "/")[2])+"/encounters", [][2]string{
				{"Authorization", "Bearer " + token}, {"X-Nabla-Api-Version", "2026-02-13"},
			}, createBody(i%clinicians, fmt.Sprint("b", round, "-", i), withText))
		}
		if err := theirs.measure(ctx, h.proxy, h.ngx, h.sim, requests, round > 0); err != nil {
			return fmt.Errorf("through nginx: %w", err)
		}
	}
	const peer = "nginx, a plain proxy to the same simulator"
	b.report.add(figure{
		ID: "create_rate", Name: "POST /encounters by handle, 64 connections", Unit: perSecond, Ours: ours.rate.stats(),
		Peer: peer, Theirs: theirs.rate.stats(), Goal: ratioAtLeast(0.5),
	})
	b.report.add(figure{
		ID: "create_p99", Name: "  of it: 99 of 100 take at most", Unit: ms, Ours: ours.p99.stats(),
		Peer: peer, Theirs: theirs.p99.stats(), Goal: ratioAtMost(3),
	})
	b.report.add(figure{
		ID: "create_cpu", Name: "  of it: processor time of a call", Unit: us, Ours: ours.perCall(ours.cpu),
		Peer: peer, Theirs: theirs.perCall(theirs.cpu),
	})
	b.report.add(figure{
		ID: "create_sim_cpu", Name: "  beside it: the simulator's", Unit: us, Ours: ours.perCall(ours.sim),
		Peer: peer, Theirs: theirs.perCall(theirs.sim),
	})
	return nil
}
