package orgserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"encounterlauncher/internal/orgconfig"
)

// lookPause is how often it is looked whether the TLS files have changed.
const lookPause = 2 * time.Second

// certificates are the TLS files of the configuration, read again when they change. A
// new file that cannot be used changes nothing but the log.
type certificates struct {
	cfg orgconfig.Config
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	config *tls.Config // guarded by mu
	failed bool        // guarded by mu: those that were tried last cannot be used
	seen   [3]stamp    // guarded by mu: of the files that were tried last
	looked time.Time   // guarded by mu
}

// stamp tells versions of a file apart.
type stamp struct {
	size    int64
	changed time.Time
	missing bool
}

func stampOf(file string) stamp {
	if file == "" {
		return stamp{}
	}
	info, err := os.Stat(file)
	if err != nil {
		return stamp{missing: true}
	}
	return stamp{size: info.Size(), changed: info.ModTime()}
}

// openCertificates reads the files for the first time; then they must be usable.
func openCertificates(cfg orgconfig.Config, log *slog.Logger, now func() time.Time) (*certificates, error) {
	c := &certificates{cfg: cfg, log: log, now: now}
	c.seen, c.looked = c.stamps(), now()
	var err error
	c.config, err = c.load()
	return c, err
}

func (c *certificates) stamps() [3]stamp {
	return [3]stamp{stampOf(c.cfg.TLSCertFile), stampOf(c.cfg.TLSKeyFile), stampOf(c.cfg.ClientCAFile)}
}

func (c *certificates) load() (*tls.Config, error) {
	if err := orgconfig.CheckSecret(c.cfg.TLSKeyFile); err != nil {
		return nil, fmt.Errorf("tls_key_file: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(c.cfg.TLSCertFile, c.cfg.TLSKeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls_cert_file: %w", withoutFile(err))
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
	if config.ClientCAs, err = clientCertificates(c.cfg); err != nil {
		return nil, withoutFile(err)
	}
	if config.ClientCAs != nil {
		// A launcher has no certificate; an EHR server that shows one must be true.
		config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return config, nil
}

// current is the configuration for one handshake. The one of files that are the same
// stays the same, so that sessions can be resumed.
func (c *certificates) current(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if since := now.Sub(c.looked); since >= 0 && since < lookPause {
		return c.config, nil
	}
	c.looked = now
	stamps := c.stamps()
	changed := stamps != c.seen
	// To let only us read a key changes neither its time nor its size.
	if !changed && !c.failed {
		return c.config, nil
	}
	// Two files do not change at the same moment: until they fit, the old ones serve.
	c.seen = stamps
	config, err := c.load()
	if c.failed = err != nil; c.failed {
		if !changed {
			return c.config, nil
		}
		c.log.Error("the changed TLS files cannot be used; the old ones go on serving", "cause", err)
		return c.config, nil
	}
	c.config = config
	c.log.Info("the TLS files have changed and are in use")
	return c.config, nil
}

// withoutFile leaves of an error about a file what is wrong with it.
func withoutFile(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}
