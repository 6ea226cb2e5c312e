//go:build linux

package stage

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	// NablaClient is the backend's OAuth client at the simulator.
	NablaClient = "6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11"
	// EHRSecret is the bearer secret of the EHR's server, CallbackSecret what Nabla
	// signs callbacks with.
	EHRSecret      = "an-ehr-secret-of-more-than-32-characters"
	CallbackSecret = "a-secret-of-nabla-of-more-than-32-characters"
	// PageHost is the host of the simulator's one-time URLs; nobody opens them.
	PageHost = "encounters.stage.example"
	// LinkIssuer is the iss, and LinkKeyID the kid, of signed requests.
	LinkIssuer = "ehr.stage.example"
	LinkKeyID  = "ehr-1"
)

// Secrets are the keys and secrets of one hospital, each in a file of its own that
// configurations name.
type Secrets struct {
	// Dir holds nabla.pem, nabla.jwks, ehr.secret, callback.secret, webhook.secret,
	// seal.key and link-keys.json.
	Dir string
	// Nabla signs as the backend does at Nabla; Link signs requests as the EHR does.
	Nabla, Link jose.Signer
	// LinkKeys is the public part of Link, as the policy's LinkKeys wants it.
	LinkKeys json.RawMessage
}

// NewSecrets makes them and writes the files into a folder.
func NewSecrets(dir string) (*Secrets, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	linkKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	public := jose.JSONWebKey{Key: key.Public(), Algorithm: "ES256", Use: "sig"}
	sum, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	public.KeyID = base64.RawURLEncoding.EncodeToString(sum)
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}})
	if err != nil {
		return nil, err
	}
	s := &Secrets{Dir: dir}
	if s.Nabla, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: public.KeyID}}, nil); err != nil {
		return nil, err
	}
	options := (&jose.SignerOptions{}).WithType("encounter-launch+jwt")
	if s.Link, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: linkKey, KeyID: LinkKeyID}}, options); err != nil {
		return nil, err
	}
	link, err := json.Marshal(jose.JSONWebKey{Key: linkKey.Public(), KeyID: LinkKeyID, Algorithm: "ES256", Use: "sig"})
	if err != nil {
		return nil, err
	}
	// iss is a member of our own, which go-jose does not write.
	s.LinkKeys = fmt.Appendf(nil, `{"keys":[%s,"iss":%q}]}`, bytes.TrimSuffix(link, []byte("}")), LinkIssuer)
	seal := make([]byte, 32)
	_, _ = rand.Read(seal)
	for name, text := range map[string][]byte{
		"nabla.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "nabla.jwks": set, "link-keys.json": s.LinkKeys,
		"ehr.secret": []byte(EHRSecret + "\n"), "callback.secret": []byte(CallbackSecret + "\n"),
		"webhook.secret": []byte("a-secret-of-the-ehr-of-more-than-32-characters\n"),
		"seal.key":       []byte(base64.StdEncoding.EncodeToString(seal) + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Request is a signed request for three ids, for one minute: the request of a link.
// backend is BackendURL, exactly.
func (s *Secrets) Request(backend, encounter, patient, provider string) (string, error) {
	at := time.Now()
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	return jwt.Signed(s.Link).Claims(map[string]any{
		"iss": LinkIssuer, "aud": backend, "iat": at.Unix(), "exp": at.Add(4 * time.Minute).Unix(), "jti": base64.RawURLEncoding.EncodeToString(id),
		"external_encounter_id": encounter, "external_patient_id": patient, "external_provider_id": provider,
	}).Serialize()
}

// server prepares a program that runs until it is told to end, also when the context
// ends.
func server(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return cmd
}

// Simulator is nabla-sim, on loopback without TLS, with its control port.
type Simulator struct {
	*Program
	// Base is the address below which callers know the protocol, Own scheme and host
	// of the simulator itself, Control the control port's.
	Base, Own, Control string
}

// SimulatorOptions say how the simulator is reached and whom it calls back.
type SimulatorOptions struct {
	// PublicURL is scheme and host by which callers know it; empty means its own. A
	// proxy in front has one of its own.
	PublicURL string
	// CallbackURL is where exports go; empty means that there are none.
	CallbackURL string
}

// StartSimulator starts the simulator, which knows the client of these secrets.
func StartSimulator(ctx context.Context, p Programs, s *Secrets, o SimulatorOptions) (*Simulator, error) {
	control, err := FreePort()
	if err != nil {
		return nil, err
	}
	listen, err := FreePort()
	if err != nil {
		return nil, err
	}
	args := []string{"serve", "--listen", listen, "--page-url", "https://" + PageHost, "--client", NablaClient + "=" + filepath.Join(s.Dir, "nabla.jwks"), "--control", control}
	if o.PublicURL != "" {
		args = append(args, "--public-url", o.PublicURL)
	}
	if o.CallbackURL != "" {
		args = append(args, "--callback-url", o.CallbackURL, "--callback-secret-file", filepath.Join(s.Dir, "callback.secret"))
	}
	program, base, err := StartAndHear(server(ctx, p.Path(SimulatorName), args...))
	if err != nil {
		return nil, err
	}
	sim := &Simulator{Program: program, Base: base, Own: "http://" + listen, Control: "http://" + control}
	if err := Listens(ctx, control, program); err != nil {
		program.Stop()
		return nil, fmt.Errorf("the simulator's control port: %w", err)
	}
	return sim, nil
}

// Ask calls the control port: method and path are those of its description
// (nablasim/control.yaml); body, when not nil, is sent as JSON, and the answer is read
// into answer when that is not nil. A status that is not 2xx is an error.
func (s *Simulator) Ask(ctx context.Context, method, path string, body, answer any) error {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, s.Control+path, in)
	if err != nil {
		return err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return do(http.DefaultClient, r, answer)
}

func do(client *http.Client, r *http.Request, answer any) error {
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s answered %d: %.300s", r.Method, r.URL.Path, response.StatusCode, text)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// BackendOptions say how the backend is set up.
type BackendOptions struct {
	// Dir is its folder: configuration, queue and audit. It is made.
	Dir string
	// Program is its name in Programs.Bin; empty means BackendName.
	Program string
	// Issuer is the address of the issuer of access tokens, and Nabla the base of the
	// simulator or of a proxy in front of it.
	Issuer, Nabla string
	// PublicURL is by which launchers know it; empty means its own address. A proxy in
	// front has one of its own.
	PublicURL string
	// Authority, when set, gives it TLS, and it trusts that for the issuer too.
	Authority *Authority
	// Deliver is where exported notes go, as the configuration's deliver says it (YAML,
	// one line); empty means a folder "notes" in Dir.
	Deliver string
	// More is added to its configuration (YAML).
	More string
	// Env is added to its environment.
	Env []string
}

// Backend is one run of org-backend.
type Backend struct {
	*Program
	// Address is host and port, URL the address by which launchers know it.
	Address, URL string
	// Own is its own address with the scheme, for a proxy in front.
	Own string
	// AuditFile is its audit.
	AuditFile string

	client *http.Client
	cmd    func() *exec.Cmd
}

// StartBackend starts org-backend as it is released, with everything on that a
// hospital has on: the queue of callbacks on disk, sealed, and the audit. Only the
// limits of calls a minute are out of the way, because so few callers do not call so
// often.
func StartBackend(ctx context.Context, p Programs, s *Secrets, o BackendOptions) (*Backend, error) {
	if o.Program == "" {
		o.Program = BackendName
	}
	address, err := FreePort()
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(o.Dir, 0o700); err != nil {
		return nil, err
	}
	if o.Deliver == "" {
		o.Deliver = "{folder: notes}"
		if err := os.Mkdir(filepath.Join(o.Dir, "notes"), 0o700); err != nil {
			return nil, err
		}
	}
	b := &Backend{Address: address, Own: "http://" + address, URL: o.PublicURL, AuditFile: filepath.Join(o.Dir, "audit.jsonl"), client: http.DefaultClient}
	more := o.More
	env := append(os.Environ(), o.Env...)
	if o.Authority != nil {
		b.Own, b.client = "https://"+address, o.Authority.Client()
		more += fmt.Sprintf("\ntls_cert_file: %q\ntls_key_file: %q\n", o.Authority.CertFile, o.Authority.KeyFile)
		env = append(env, "SSL_CERT_FILE="+o.Authority.CAFile)
	}
	if b.URL == "" {
		b.URL = b.Own
	}
	file := func(name string) string { return filepath.Join(s.Dir, name) }
	config := fmt.Sprintf(`listen: %q
public_url: %q
issuer: %q
audience: %q
launcher_client_id: %q
ehrs:
  - {name: ehr, secret_file: %q}
nabla: {base_url: %q, client_id: %q, key_files: [%q]}
callbacks: {secret_files: [%q]}
nats: {folder: queue, seal_key_files: [%q]}
audit: {file: audit.jsonl}
deliver: %s
limits: {person_per_minute: 10000000, ehr_per_minute: 10000000}
%s`, address, b.URL, o.Issuer, Audience, ClientID, file("ehr.secret"), o.Nabla, NablaClient, file("nabla.pem"),
		file("callback.secret"), file("seal.key"), o.Deliver, more)
	path := filepath.Join(o.Dir, "config.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	b.cmd = func() *exec.Cmd {
		cmd := server(ctx, p.Path(o.Program), "serve", "--config", path)
		cmd.Env, cmd.Dir = env, o.Dir
		return cmd
	}
	check := exec.CommandContext(ctx, p.Path(o.Program), "check-config", "--config", path)
	check.Env = env
	if out, err := check.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("the backend's configuration: %w: %s", err, out)
	}
	return b, b.Start(ctx)
}

// Start starts a backend again that was stopped or killed, at the same address and with
// the same files.
func (b *Backend) Start(ctx context.Context) (err error) {
	if b.Program, err = Start(b.cmd()); err != nil {
		return err
	}
	if err := Listens(ctx, b.Address, b.Program); err != nil {
		b.Stop()
		return fmt.Errorf("the backend: %w", err)
	}
	return nil
}

// Launch is what an EHR knows of an encounter: the body of POST /launches, and field
// for field that of Nabla's create.
type Launch struct {
	Email, Provider, Patient, Encounter string
	// Name is the patient's.
	Name string
	// Text is unstructured_context; empty means none.
	Text string
}

// Body is the launch as JSON.
func (l Launch) Body() []byte {
	text := ""
	if l.Text != "" {
		text = fmt.Sprintf(`,"unstructured_context":%s`, quoted(l.Text))
	}
	return fmt.Appendf(nil, `{"provider_email":%s,"external_provider_id":%s,"external_patient_id":%s,"external_encounter_id":%s,`+
		`"structured_context":{"patient_demographics":{"name":%s,"birth_date":"1980-01-31","gender":"female","pronouns":null}}%s}`,
		quoted(l.Email), quoted(l.Provider), quoted(l.Patient), quoted(l.Encounter), quoted(l.Name), text)
}

func quoted(text string) string {
	b, _ := json.Marshal(text) // a string can always be written
	return string(b)
}

// Mint has the EHR's server register a launch, by the backend's own address, and
// returns the link.
func (b *Backend) Mint(ctx context.Context, l Launch) (link string, err error) {
	if l.Name == "" {
		l.Name = "Ada Example"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.Own+"/launches", bytes.NewReader(l.Body()))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+EHRSecret)
	var answer struct {
		Link string `json:"link"`
	}
	if err := do(b.client, r, &answer); err != nil {
		return "", err
	}
	if !strings.HasPrefix(answer.Link, "encounter-launcher://") {
		return "", errors.New("POST /launches gave no link")
	}
	return answer.Link, nil
}

// Policy is a machine policy by which a launcher works with this issuer and this
// backend. Callers change it before they write it.
func Policy(a *Authority, i *Issuer, b *Backend) map[string]any {
	return map[string]any{
		"OrganizationName": "Stage", "BackendURL": b.URL, "OIDCIssuer": i.URL, "OIDCClientID": ClientID, "OIDCAudience": Audience,
		"EncounterURLHosts": []string{PageHost}, "ExtraCAFile": a.CAFile, "ProxyMode": "direct",
	}
}
