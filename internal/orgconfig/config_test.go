package orgconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// usable is a configuration without a fault.
func usable() Config {
	return Config{
		Listen: "127.0.0.1:0", PublicURL: "https://backend.hospital.example/launcher", Issuer: "https://idp.hospital.example",
		Audience: "org-backend", LauncherClientID: "encounter-launcher", Nabla: Nabla{KeyFiles: []string{"nabla.pem"}},
		EHRs: []EHR{{Name: "ehr", SecretFile: "secret"}}, Audit: Audit{Syslog: "local"}, Metrics: Metrics{Listen: "127.0.0.1:9464"},
	}
}

func TestEveryFaultOfOperationsNamesItsKey(t *testing.T) {
	if err := usable().Values(); err != nil {
		t.Fatal(err)
	}
	for key, spoil := range map[string]func(*Config){
		"client_ca_file":      func(c *Config) { c.ClientCAFile = "ca.pem" },
		"audit.max_megabytes": func(c *Config) { c.Audit.MaxMegabytes = -1 },
		"audit.keep_days":     func(c *Config) { c.Audit.KeepDays = -1 },
		"metrics.listen":      func(c *Config) { c.Metrics.Listen = "9464" },
		"traces.endpoint":     func(c *Config) { c.Traces.Endpoint = "otel:4318" },
		"traces.ratio":        func(c *Config) { c.Traces.Ratio = 1.5 },
		"log_level":           func(c *Config) { c.LogLevel = "INFO" },
		"drain_delay":         func(c *Config) { c.DrainDelay = time.Hour },
	} {
		c := usable()
		spoil(&c)
		if err := c.Values(); err == nil || !strings.HasPrefix(err.Error(), key+": ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestWhatIsSeldomMeantIsWarnedOf(t *testing.T) {
	if warned := usable().Warnings(); len(warned) != 0 {
		t.Errorf("of a good one: %v", warned)
	}
	for key, spoil := range map[string]func(*Config){
		"audit":               func(c *Config) { c.Audit = Audit{} },
		"audit.syslog":        func(c *Config) { c.Audit.Syslog = "udp://log:514" },
		"metrics.listen":      func(c *Config) { c.Metrics.Listen = ":9464" },
		"handle_life":         func(c *Config) { c.HandleLife = time.Hour },
		"identifiers_allowed": func(c *Config) { c.IdentifiersAllowed = true },
		"ehrs":                func(c *Config) { c.EHRs = nil },
		"traces.endpoint":     func(c *Config) { c.Traces.Endpoint = "http://otel.example:4318" },
		"drain_delay":         func(c *Config) { c.DrainDelay = time.Second },
	} {
		c := usable()
		spoil(&c)
		if warned := c.Warnings(); len(warned) != 1 || !strings.HasPrefix(warned[0], key+": ") {
			t.Errorf("%s: %v", key, warned)
		}
	}
}

func TestOnlyABackendOfSeveralWaitsForTheLoadBalancer(t *testing.T) {
	c := usable()
	if c.Delay() != 0 {
		t.Errorf("alone: %v", c.Delay())
	}
	c.NATS.Servers = []string{"tls://nats:4222"}
	if c.Delay() != 5*time.Second {
		t.Errorf("of several: %v", c.Delay())
	}
	c.DrainDelay = time.Minute
	if c.Delay() != time.Minute {
		t.Errorf("as configured: %v", c.Delay())
	}
}

func TestAFaultIsToldWithTheLineOfItsKeyOrOfItsSection(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("listen: x\n\nnabla:\n  region: eu\n  client_id: y\nehrs:\n  - name: a\n  - name: b\n    scope: c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := Lines(file)
	for fault, want := range map[string]string{
		"listen: wrong":          "line 1: listen: wrong",
		"nabla.client_id: wrong": "line 5: nabla.client_id: wrong",
		"nabla.key_files: none":  "line 3: nabla.key_files: none",
		"ehrs[1].scope: wrong":   "line 9: ehrs[1].scope: wrong",
		"ehrs[1].tenant: wrong":  "line 8: ehrs[1].tenant: wrong",
		"ehrs: two alike":        "line 6: ehrs: two alike",
		"audience: missing":      "audience: missing",
		"not a fault of a key":   "not a fault of a key",
	} {
		if got := At(lines, fault); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if len(Lines(file+".absent")) != 0 {
		t.Error("a file that is not there has lines")
	}
}
