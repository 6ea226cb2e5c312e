package orgserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"encounterlauncher/internal/orgapi"
)

// Config is the whole configuration, as its YAML file says it. Secrets are never
// values of it: they are named by file.
type Config struct {
	// Listen is host:port. Without TLS files the host must be loopback, unless
	// BehindProxy says that something in front of us does TLS.
	Listen      string `yaml:"listen"`
	BehindProxy bool   `yaml:"behind_proxy"`
	TLSCertFile string `yaml:"tls_cert_file"`
	TLSKeyFile  string `yaml:"tls_key_file"`
	// PublicURL is BackendURL as launchers know it, without a trailing slash: the
	// audience of signed requests. Its path is the prefix of every route. https,
	// or http to 127.0.0.1.
	PublicURL string `yaml:"public_url"`
	// Issuer is the OIDC issuer of the access tokens, Audience what their aud must
	// hold. Audience may not be LauncherClientID: an ID token would pass for an
	// access token.
	Issuer           string `yaml:"issuer"`
	Audience         string `yaml:"audience"`
	LauncherClientID string `yaml:"launcher_client_id"`
	// Claims says which claims of the access token name the clinician.
	Claims Claims `yaml:"claims"`
	// MappingFile, when set, names the clinicians by issuer and subject and is the
	// only source: Claims are then not looked at.
	MappingFile string `yaml:"mapping_file"`
	// EHRs may call POST /launches.
	EHRs []EHR `yaml:"ehrs"`
	// LinkScheme is the scheme of the links that POST /launches returns; empty
	// means "encounter-launcher".
	LinkScheme string `yaml:"link_scheme"`
	// HandleLife is how long a handle lives; 0 means ten minutes. It is longer than
	// five minutes, for which a launcher may hold a link during sign-in, and at
	// most an hour.
	HandleLife time.Duration `yaml:"handle_life"`
	// LinkKeysFile holds the keys of signed requests, the very JWK set that the
	// launcher's policy calls LinkKeys: each key has kid, alg and our own member
	// iss, the name under which its owner signs. Empty: signed requests are refused.
	LinkKeysFile string `yaml:"link_keys_file"`
	// ContextFile is the context source for signed requests and identifiers, YAML
	// or JSON: external_patient_id → name, birth_date, gender, pronouns,
	// unstructured_context. Empty: context_unavailable.
	ContextFile string `yaml:"context_file"`
	// IdentifiersAllowed lets the identifiers form in.
	IdentifiersAllowed bool `yaml:"identifiers_allowed"`
	// Nabla says how to reach Nabla Connect.
	Nabla Nabla `yaml:"nabla"`
	// NATS says where JetStream runs.
	NATS NATS `yaml:"nats"`
}

// Claims names top-level claims of the access token; an empty name means "email"
// and "external_provider_id".
type Claims struct {
	ProviderEmail      string `yaml:"provider_email"`
	ExternalProviderID string `yaml:"external_provider_id"`
}

// EHR is one EHR server that may register launches.
type EHR struct {
	// Name stands in logs and in what is kept of a handle.
	Name string `yaml:"name"`
	// SecretFile holds the bearer secret: one line of at least 32 characters.
	SecretFile string `yaml:"secret_file"`
}

// Nabla says how to reach Nabla Connect; see package nabla. Exactly one of
// BaseURL and Region is set. Of KeyFiles (PEM) the first signs, all are published.
type Nabla struct {
	BaseURL  string   `yaml:"base_url"`
	Region   string   `yaml:"region"`
	ClientID string   `yaml:"client_id"`
	KeyFiles []string `yaml:"key_files"`
	Version  string   `yaml:"version"`
}

// NATS is empty for now: JetStream runs inside this process, in memory.
type NATS struct{}

const (
	defaultScheme  = "encounter-launcher"
	heldRequest    = 5 * time.Minute
	maxHandleLife  = time.Hour
	maxConfigBytes = 1 << 20
)

// LoadConfig reads a strict YAML file: an unknown key is refused and its line
// named. Relative file names in it are relative to its folder. It does not look
// at what the values say; Check and New do.
func LoadConfig(file string) (Config, error) {
	text, err := readBounded(file, maxConfigBytes)
	if err != nil {
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	var c Config
	if err := readYAML(text, &c); err != nil {
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	folder := filepath.Dir(file)
	for _, name := range []*string{&c.TLSCertFile, &c.TLSKeyFile, &c.MappingFile, &c.LinkKeysFile, &c.ContextFile} {
		*name = inside(folder, *name)
	}
	for i := range c.EHRs {
		c.EHRs[i].SecretFile = inside(folder, c.EHRs[i].SecretFile)
	}
	for i := range c.Nabla.KeyFiles {
		c.Nabla.KeyFiles[i] = inside(folder, c.Nabla.KeyFiles[i])
	}
	return c, nil
}

func inside(folder, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(folder, name)
}

// readYAML reads exactly one document without unknown keys.
func readYAML(text []byte, into any) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("the file is empty")
		}
		return err
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return errors.New("the file holds more than one document")
	}
	return nil
}

func readBounded(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, errors.New("the file is too large")
	}
	return text, nil
}

// Check reports everything that is wrong with the configuration, naming the key
// of each, and reads the files that it names. It starts and calls nothing.
func (c Config) Check() error {
	_, err := assemble(c, Deps{})
	return err
}

// values checks what can be seen without reading a file.
func (c Config) values() error {
	var faults []error
	fault := func(key, what string) { faults = append(faults, fmt.Errorf("%s: %s", key, what)) }
	if host, _, err := net.SplitHostPort(c.Listen); err != nil {
		fault("listen", "it is not host:port")
	} else if ip := net.ParseIP(host); c.TLSCertFile == "" && !c.BehindProxy && (ip == nil || !ip.IsLoopback()) {
		fault("listen", "without tls_cert_file, and without behind_proxy, only a loopback address may be listened on")
	}
	if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		fault("tls_cert_file", "it and tls_key_file belong together")
	}
	if !serverURL(c.PublicURL) {
		fault("public_url", "it is not a plain https URL without a trailing slash")
	}
	// An issuer may end with a slash: it is compared, not extended.
	if !serverURL(strings.TrimSuffix(c.Issuer, "/")) {
		fault("issuer", "it is not a plain https URL")
	}
	if c.Audience == "" {
		fault("audience", "it is missing")
	}
	if c.LauncherClientID == "" {
		fault("launcher_client_id", "it is missing")
	} else if c.Audience == c.LauncherClientID {
		fault("audience", "it is the launcher's client id, so an ID token would pass for an access token; register an audience (API, resource) of its own at the identity provider")
	}
	if c.LinkScheme != "" && !schemeName(c.LinkScheme) {
		fault("link_scheme", "it is not a scheme name in lower case")
	}
	if life := c.life(); life <= heldRequest || life > maxHandleLife {
		fault("handle_life", "it is not more than 5m and at most 1h")
	}
	names := map[string]bool{}
	for _, e := range c.EHRs {
		if e.Name == "" || e.SecretFile == "" {
			fault("ehrs", "an entry lacks name or secret_file")
		}
		if names[e.Name] {
			fault("ehrs", "two entries have the same name")
		}
		names[e.Name] = true
	}
	if len(c.Nabla.KeyFiles) == 0 {
		fault("nabla.key_files", "there is none")
	}
	return errors.Join(faults...)
}

func (c Config) life() time.Duration {
	if c.HandleLife == 0 {
		return orgapi.HandleLifeSeconds * time.Second
	}
	return c.HandleLife
}

func (c Config) scheme() string {
	if c.LinkScheme == "" {
		return defaultScheme
	}
	return c.LinkScheme
}

// serverURL accepts https, and http to 127.0.0.1 for development.
func serverURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(text, "/") {
		return false
	}
	return u.Scheme == "https" || isLoopbackHTTP(u)
}

func isLoopbackHTTP(u *url.URL) bool { return u.Scheme == "http" && u.Hostname() == "127.0.0.1" }

// schemeName is RFC 3986 §3.1 without capitals.
func schemeName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z'
		other := (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.'
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return s != ""
}
