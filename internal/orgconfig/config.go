// Package orgconfig is the configuration of org-backend: one strict YAML file, with
// secrets named by file. An unknown key is refused and its line named.
//
// It starts and calls nothing, never holds a secret, and knows no room that acts
// on what it says.
package orgconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"encounterlauncher/internal/orgapi"
)

// Config is the whole configuration, as its YAML file says it. Secrets are never
// values of it: they are named by file. A field tagged file is the name of a file
// or folder: relative to the folder of the configuration.
type Config struct {
	// Listen is host:port. Without TLS files the host must be loopback, unless
	// BehindProxy says that something in front of us does TLS.
	Listen      string `yaml:"listen"`
	BehindProxy bool   `yaml:"behind_proxy"`
	// TLSCertFile and TLSKeyFile (PEM) are read again when they change.
	TLSCertFile string `yaml:"tls_cert_file" file:""`
	TLSKeyFile  string `yaml:"tls_key_file" file:""`
	// ClientCAFile holds the authorities (PEM) of the client certificates by which
	// EHR servers may authenticate; see EHR.CertificateName. It needs TLSCertFile.
	ClientCAFile string `yaml:"client_ca_file" file:""`
	// AdminSocket is a Unix socket (0600) for `+"`org-backend deliveries`"+`; empty means
	// that there is none.
	AdminSocket string `yaml:"admin_socket" file:""`
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
	MappingFile string `yaml:"mapping_file" file:""`
	// EHRTokens says whose tokens EHR servers may show instead of a bearer secret.
	EHRTokens EHRTokens `yaml:"ehr_tokens"`
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
	LinkKeysFile string `yaml:"link_keys_file" file:""`
	// ContextFile is a context source for signed requests and identifiers, YAML
	// or JSON: external_patient_id → name, birth_date, gender, pronouns,
	// unstructured_context. It and FHIR exclude each other; with neither the answer
	// is context_unavailable.
	ContextFile string `yaml:"context_file" file:""`
	// IdentifiersAllowed lets the identifiers form in.
	IdentifiersAllowed bool `yaml:"identifiers_allowed"`
	// FHIR is a FHIR R4 server: the context source, and a place for exported notes.
	FHIR FHIR `yaml:"fhir"`
	// Nabla says how to reach Nabla Connect.
	Nabla Nabla `yaml:"nabla"`
	// Callbacks says how Nabla's callbacks are verified.
	Callbacks Callbacks `yaml:"callbacks"`
	// Deliver says where exported notes go.
	Deliver Deliver `yaml:"deliver"`
	// NATS says where JetStream runs.
	NATS NATS `yaml:"nats"`
	// Audit says where it is written who opened what.
	Audit Audit `yaml:"audit"`
	// Metrics and Traces are for those who operate us.
	Metrics Metrics `yaml:"metrics"`
	Traces  Traces  `yaml:"traces"`
	// Limits bound how often one caller may call.
	Limits Limits `yaml:"limits"`
	// LogLevel is debug, info, warn or error; empty means info.
	LogLevel string `yaml:"log_level"`
	// DrainDelay is how long a backend that was told to end still takes calls while
	// /readyz says no, so that a load balancer turns away first. 0 means 5 seconds
	// where NATS.Servers is set, else none: without a cluster no other backend could
	// take the calls. At most a minute.
	DrainDelay time.Duration `yaml:"drain_delay"`
}

// Claims names top-level claims of the access token; an empty name means "email"
// and "external_provider_id". Tenant empty means that clinicians have no tenant.
type Claims struct {
	ProviderEmail      string `yaml:"provider_email"`
	ExternalProviderID string `yaml:"external_provider_id"`
	Tenant             string `yaml:"tenant"`
}

// EHRTokens are access tokens of the organisation's identity provider that an EHR
// server got by client credentials (RFC 6749 §4.4). Empty fields are those of the
// clinicians' tokens.
type EHRTokens struct {
	Issuer   string `yaml:"issuer"`
	Audience string `yaml:"audience"`
	// ClientClaim names the claim with the client's id; empty means client_id
	// (RFC 9068 §2.2), or azp where that is absent.
	ClientClaim string `yaml:"client_claim"`
}

// EHR is one EHR server that may register launches. It authenticates by exactly
// one of SecretFile, ClientID and CertificateName.
type EHR struct {
	// Name stands in logs, in the audit and in what is kept of a handle.
	Name string `yaml:"name"`
	// Tenant is the one whose clinicians may use its links; empty means those who
	// have none.
	Tenant string `yaml:"tenant"`
	// SecretFile holds a bearer secret: one line of at least 32 characters.
	SecretFile string `yaml:"secret_file" file:""`
	// ClientID is its OAuth client at the issuer of EHRTokens: one of its own, for
	// client credentials only. Scope is what its token must grant, in scope, or in a
	// list scp or roles; empty means "launches".
	ClientID string `yaml:"client_id"`
	Scope    string `yaml:"scope"`
	// CertificateName is the DNS name in its client certificate (mTLS), which an
	// authority of ClientCAFile has signed. Not behind a proxy that ends TLS.
	CertificateName string `yaml:"certificate_name"`
	// LinkIssuer is the iss under which it signs requests; see LinkKeysFile.
	LinkIssuer string `yaml:"link_issuer"`
	// ProviderPrefixes, when set, are how the external_provider_id of every launch
	// of its must begin.
	ProviderPrefixes []string `yaml:"provider_prefixes"`
}

// FHIR is a FHIR R4 server, reached by SMART Backend Services. Empty BaseURL means
// that there is none.
type FHIR struct {
	BaseURL string `yaml:"base_url"`
	// TokenURL is the token endpoint; empty means that of the server's
	// .well-known/smart-configuration.
	TokenURL string `yaml:"token_url"`
	ClientID string `yaml:"client_id"`
	// KeyFiles (PEM) hold RSA or P-384 keys of their own, none of Nabla's. The first
	// signs, all are published with Nabla's.
	KeyFiles []string `yaml:"key_files" file:""`
	// Scopes are asked for; empty means "system/Patient.r", with PatientSystem
	// "system/Patient.rs", and "system/DocumentReference.c" where notes are delivered
	// there.
	Scopes []string `yaml:"scopes"`
	// PatientSystem, when set, says that external_patient_id is an identifier of
	// this system and not the resource's id.
	PatientSystem string `yaml:"patient_system"`
	// CAFile holds further authorities (PEM).
	CAFile string `yaml:"ca_file" file:""`
}

// Nabla says how to reach Nabla Connect; see package nabla. Exactly one of
// BaseURL and Region is set. Of KeyFiles (PEM) the first signs, all are published.
type Nabla struct {
	BaseURL  string   `yaml:"base_url"`
	Region   string   `yaml:"region"`
	ClientID string   `yaml:"client_id"`
	KeyFiles []string `yaml:"key_files" file:""`
	// Version and UsersVersion are the dated versions that are asked for: of create
	// and refresh, and of users. Empty means 2026-02-13 and 2026-03-23.
	Version      string `yaml:"version"`
	UsersVersion string `yaml:"users_version"`
}

// Callbacks says how Nabla's callbacks are verified. Without SecretFiles there is
// no route for them.
type Callbacks struct {
	// Path is below that of PublicURL; empty means /nabla/callbacks.
	Path string `yaml:"path"`
	// SecretFiles hold the secrets shared with Nabla, one line each; any may have
	// signed, so that they can be rotated.
	SecretFiles []string `yaml:"secret_files" file:""`
	// Bearer, when its Issuer is set, is the access token that Nabla must show too.
	Bearer Bearer `yaml:"bearer"`
}

// Bearer is an access token of the organisation's identity provider.
type Bearer struct {
	Issuer   string `yaml:"issuer"`
	Audience string `yaml:"audience"`
	ClientID string `yaml:"client_id"`
}

// Deliver says where exported notes go: to every place that is set, at least one
// where callbacks are taken.
type Deliver struct {
	Webhook Webhook `yaml:"webhook"`
	// FHIR delivers a DocumentReference to the server of the section fhir.
	FHIR bool `yaml:"fhir"`
	// Folder is a folder of ours (0700) in which each export becomes a file (0600).
	Folder string `yaml:"folder" file:""`
	// GiveUpAfter is how long a delivery is tried before it is put aside for a
	// person; 0 means 24 hours.
	GiveUpAfter time.Duration `yaml:"give_up_after"`
	// Remember is how long it is known that a callback was delivered (not its
	// content); 0 means seven days.
	Remember time.Duration `yaml:"remember"`
}

// Webhook is an endpoint of the EHR's. Its calls are signed as Nabla signs ours,
// with the secret of SecretFile.
type Webhook struct {
	URL        string `yaml:"url"`
	SecretFile string `yaml:"secret_file" file:""`
	// CAFile holds further authorities (PEM).
	CAFile string `yaml:"ca_file" file:""`
}

// NATS says where JetStream runs: in this process, without a port, or, when
// Servers is set, in the organisation's cluster.
type NATS struct {
	Servers         []string `yaml:"servers"`
	CredentialsFile string   `yaml:"credentials_file" file:""`
	CAFile          string   `yaml:"ca_file" file:""`
	CertFile        string   `yaml:"cert_file" file:""`
	KeyFile         string   `yaml:"key_file" file:""`
	// Replicas is how many servers of the cluster hold everything: 1, 3 or 5; 0
	// means 3 for a cluster and 1 in this process.
	Replicas int `yaml:"replicas"`
	// Folder is where the delivery queue of this process is kept (0700); needed
	// where callbacks are taken without a cluster.
	Folder string `yaml:"folder" file:""`
	// SealKeyFiles hold keys of 32 bytes in base64, one line each: what goes to
	// JetStream is sealed with the first and opened with any. Needed with Servers,
	// and alike on all backends, and with Folder. Else a key is made that lives as
	// long as the process.
	SealKeyFiles []string `yaml:"seal_key_files" file:""`
}

// Audit says where it is written who opened what, apart from the logs. With
// neither File nor Syslog there is no audit, which check-config points out.
type Audit struct {
	// File (0600) is appended to and rotated at MaxMegabytes (0 means 100) and
	// files are kept for KeepDays (0 means 2,190, six years).
	File         string `yaml:"file" file:""`
	MaxMegabytes int    `yaml:"max_megabytes"`
	KeepDays     int    `yaml:"keep_days"`
	// Syslog is "local", the log of this machine, or tcp://host:port, tls://host:port
	// or udp://host:port (RFC 5424). Of File and Syslog together one is enough for a
	// call to be answered.
	Syslog string `yaml:"syslog"`
}

// Metrics says where Prometheus may read: host:port of a listener of their own;
// empty means nowhere.
type Metrics struct {
	Listen string `yaml:"listen"`
}

// Traces says where OpenTelemetry traces go (OTLP over HTTP); an empty Endpoint
// means that there are none. Ratio is how many of all calls are traced; 0 means all.
type Traces struct {
	Endpoint string  `yaml:"endpoint"`
	Ratio    float64 `yaml:"ratio"`
}

// Limits bound how often one caller may call, in each process; 0 means 120 calls
// a minute for a person and 1,200 for an EHR.
type Limits struct {
	PersonPerMinute int `yaml:"person_per_minute"`
	EHRPerMinute    int `yaml:"ehr_per_minute"`
}

const (
	defaultScheme  = "encounter-launcher"
	heldRequest    = 5 * time.Minute
	maxHandleLife  = time.Hour
	maxConfigBytes = 1 << 20
	drainDelay     = 5 * time.Second
	maxDrainDelay  = time.Minute
)

// Load reads a strict YAML file: an unknown key is refused and its line
// named. Relative file names in it are relative to its folder. It does not look
// at what the values say; Values and orgserver.Check do. With a FormError that says
// so, what could be read is returned beside it.
func Load(file string) (Config, error) {
	text, err := ReadTrusted(file, maxConfigBytes)
	if err != nil {
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	var c Config
	err = ReadYAML(text, &c)
	var form *FormError
	if err != nil && (!errors.As(err, &form) || !form.Read) {
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	resolve(reflect.ValueOf(&c).Elem(), filepath.Dir(file))
	if err != nil {
		return c, fmt.Errorf("reading the configuration: %w", err)
	}
	return c, nil
}

// resolve makes every name of a file absolute.
func resolve(v reflect.Value, folder string) {
	for i := range v.NumField() {
		field := v.Field(i)
		_, isFile := v.Type().Field(i).Tag.Lookup("file")
		switch {
		case field.Kind() == reflect.Struct:
			resolve(field, folder)
		case isFile && field.Kind() == reflect.String:
			field.SetString(inside(folder, field.String()))
		case field.Kind() == reflect.Slice:
			for n := range field.Len() {
				switch item := field.Index(n); {
				case item.Kind() == reflect.Struct:
					resolve(item, folder)
				case isFile:
					item.SetString(inside(folder, item.String()))
				}
			}
		}
	}
}

func inside(folder, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(folder, name)
}

// ReadYAML reads exactly one document without unknown keys into a struct, a map or
// a slice.
func ReadYAML(text []byte, into any) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("the file is empty")
		}
		return form(err)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return errors.New("the file holds more than one document")
	}
	return nil
}

// ReadBounded reads a whole file of at most limit bytes.
func ReadBounded(file string, limit int64) ([]byte, error) { return read(file, limit, nil) }

// ReadTrusted is ReadBounded for a file that decides whom and what the backend believes:
// its configuration, authorities, keys of links, identities, contexts. It refuses one
// that everybody on the computer can write. On Windows the access list decides, which
// this does not look at.
func ReadTrusted(file string, limit int64) ([]byte, error) {
	return read(file, limit, func(info fs.FileInfo) error {
		if everybodyWrites(info) {
			return errors.New("everybody can write the file; chmod o-w it")
		}
		return nil
	})
}

// read judges what it has opened, so that nothing can be exchanged in between.
func read(file string, limit int64, judge func(fs.FileInfo) error) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if judge != nil {
		info, err := f.Stat()
		if err == nil {
			err = judge(info)
		}
		if err != nil {
			return nil, err
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, errors.New("the file is too large")
	}
	return text, nil
}

// Values reports everything that is wrong with the configuration and can be seen
// without reading a file, naming the key of each fault.
func (c Config) Values() error {
	var faults []error
	fault := func(key, what string) { faults = append(faults, fmt.Errorf("%s: %s", key, what)) }
	if host, _, err := net.SplitHostPort(c.Listen); err != nil {
		fault("listen", "it is not host:port, such as 127.0.0.1:8080")
	} else if ip := net.ParseIP(host); c.TLSCertFile == "" && !c.BehindProxy && (ip == nil || !ip.IsLoopback()) {
		fault("listen", "without tls_cert_file, and without behind_proxy, only a loopback address may be listened on")
	}
	if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		fault("tls_cert_file", "it and tls_key_file belong together")
	}
	if !ServerURL(c.PublicURL) {
		fault("public_url", "it is not a plain https URL without a trailing slash")
	}
	// An issuer may end with a slash: it is compared, not extended.
	if !ServerURL(strings.TrimSuffix(c.Issuer, "/")) {
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
	if life := c.Life(); life <= heldRequest || life > maxHandleLife {
		fault("handle_life", "it is not more than 5m and at most 1h")
	}
	c.ehrFaults(fault)
	c.limitFaults(fault)
	if len(c.Nabla.KeyFiles) == 0 {
		fault("nabla.key_files", "there is none")
	}
	c.NATS.values(fault)
	c.FHIR.faults(fault)
	if c.ContextFile != "" && c.FHIR.BaseURL != "" {
		fault("context_file", "it and fhir exclude each other: there is one source of the patients' details")
	}
	if c.Deliver.FHIR && c.FHIR.BaseURL == "" {
		fault("deliver.fhir", "it needs fhir.base_url")
	}
	c.operations(fault)
	return errors.Join(faults...)
}

// operations looks at what those who operate us have set.
func (c Config) operations(fault func(key, what string)) {
	if c.Audit.MaxMegabytes < 0 {
		fault("audit.max_megabytes", "it is negative")
	}
	if c.Audit.KeepDays < 0 {
		fault("audit.keep_days", "it is negative")
	}
	if c.Metrics.Listen != "" {
		if _, port, err := net.SplitHostPort(c.Metrics.Listen); err != nil || port == "" {
			fault("metrics.listen", "it is not host:port")
		} else if c.Metrics.Listen == c.Listen && port != "0" {
			fault("metrics.listen", "it is that of listen: metrics have a listener of their own")
		}
	}
	if c.Traces.Endpoint != "" {
		if u, err := url.Parse(c.Traces.Endpoint); err != nil || u.Host == "" || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") {
			fault("traces.endpoint", "it is not an http or https URL")
		}
	}
	if c.Traces.Ratio < 0 || c.Traces.Ratio > 1 || c.Traces.Ratio != c.Traces.Ratio {
		fault("traces.ratio", "it is not from 0 to 1")
	}
	if _, ok := c.Level(); !ok {
		fault("log_level", "it is none of debug, info, warn and error")
	}
	if c.DrainDelay < 0 || c.DrainDelay > maxDrainDelay {
		fault("drain_delay", "it is not from 0s to 1m")
	}
}

// Warnings names what can be used and is seldom meant.
func (c Config) Warnings() []string {
	var all []string
	warn := func(key, what string) { all = append(all, key+": "+what) }
	if c.Audit.File == "" && c.Audit.Syslog == "" {
		warn("audit", "there is none: nobody will be able to say who opened what")
	}
	if c.Metrics.Listen == "" {
		warn("metrics.listen", "metrics are off: nobody is told when the backend slows down or fails")
	} else if host, _, err := net.SplitHostPort(c.Metrics.Listen); err == nil && !loopback(host) {
		warn("metrics.listen", "it is not a loopback address: metrics have no password, so let a firewall decide who reads them")
	}
	if u, err := url.Parse(c.Traces.Endpoint); err == nil && u.Scheme == "http" && !loopback(u.Hostname()) {
		warn("traces.endpoint", "traces go there without TLS")
	}
	if c.HandleLife > 0 && c.HandleLife != orgapi.HandleLifeSeconds*time.Second {
		warn("handle_life", fmt.Sprintf("a link works for %s, not for the usual ten minutes", c.HandleLife))
	}
	if c.IdentifiersAllowed {
		warn("identifiers_allowed", "a link with three ids is taken although anybody can write one; handles and signed requests cannot be made up")
	}
	if len(c.EHRs) == 0 {
		warn("ehrs", "there is none, so no handle can be registered")
	}
	if len(c.NATS.Servers) == 0 && c.DrainDelay > 0 {
		warn("drain_delay", "without nats.servers no other backend can take the calls")
	}
	if strings.HasPrefix(c.Audit.Syslog, "udp://") && c.Audit.File == "" {
		warn("audit.syslog", "what is sent by udp can be lost without anybody noticing; use tcp or tls, or a file too")
	}
	return all
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// Level is LogLevel, or its default; false for a word that is none.
func (c Config) Level() (slog.Level, bool) {
	switch c.LogLevel {
	case "debug":
		return slog.LevelDebug, true
	case "", "info":
		return slog.LevelInfo, true
	case "warn":
		return slog.LevelWarn, true
	case "error":
		return slog.LevelError, true
	}
	return slog.LevelInfo, false
}

// Delay is DrainDelay, or its default.
func (c Config) Delay() time.Duration {
	if c.DrainDelay == 0 && len(c.NATS.Servers) > 0 {
		return drainDelay
	}
	return c.DrainDelay
}

// Life is HandleLife, or its default.
func (c Config) Life() time.Duration {
	if c.HandleLife == 0 {
		return orgapi.HandleLifeSeconds * time.Second
	}
	return c.HandleLife
}

// Scheme is LinkScheme, or its default.
func (c Config) Scheme() string {
	if c.LinkScheme == "" {
		return defaultScheme
	}
	return c.LinkScheme
}

// ServerURL accepts https, and http to 127.0.0.1 for development.
func ServerURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(text, "/") {
		return false
	}
	return u.Scheme == "https" || IsLoopbackHTTP(u)
}

// IsLoopbackHTTP reports whether an address is one of development.
func IsLoopbackHTTP(u *url.URL) bool { return u.Scheme == "http" && u.Hostname() == "127.0.0.1" }

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
