package delivery

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"encounterlauncher/internal/fhir"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/secret"
)

const (
	minSecret       = 32
	maxSecretBytes  = 4 << 10
	leastGiveUp     = time.Minute
	leastRemember   = 5 * time.Minute
	placeHeaderTime = 10 * time.Second
)

// Check reports everything that is wrong with the section deliver, naming the key
// of each fault. It reads files and changes and calls nothing.
func Check(cfg orgconfig.Config) error {
	var faults []error
	fault := func(key, what string) { faults = append(faults, fmt.Errorf("deliver.%s: %s", key, what)) }
	d := cfg.Deliver
	if d.Webhook != (orgconfig.Webhook{}) {
		if _, err := newWebhook(d.Webhook, time.Now); err != nil {
			faults = append(faults, err)
		}
	}
	if d.Folder != "" {
		if err := checkFolder(d.Folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, err)
		}
	}
	if d.GiveUpAfter != 0 && d.GiveUpAfter < leastGiveUp {
		fault("give_up_after", "it is less than a minute")
	}
	if d.Remember != 0 && d.Remember < leastRemember {
		fault("remember", "it is less than five minutes")
	}
	if d.Webhook.URL == "" && !d.FHIR && d.Folder == "" && len(cfg.Callbacks.SecretFiles) > 0 {
		faults = append(faults, errors.New("deliver: callbacks are taken, but no place is named to bring them to: one of webhook, fhir and folder"))
	}
	return errors.Join(faults...)
}

// Places makes the places of a configuration, and the folder of one of them. server
// is needed where the section deliver says fhir.
func Places(cfg orgconfig.Config, server *fhir.Client, now func() time.Time) ([]Place, error) {
	if err := Check(cfg); err != nil {
		return nil, err
	}
	var places []Place
	if cfg.Deliver.Folder != "" {
		f, err := newFolder(cfg.Deliver.Folder)
		if err != nil {
			return nil, err
		}
		places = append(places, f)
	}
	if cfg.Deliver.FHIR {
		places = append(places, &document{server: server})
	}
	if cfg.Deliver.Webhook.URL != "" {
		w, err := newWebhook(cfg.Deliver.Webhook, now)
		if err != nil {
			return nil, err
		}
		places = append(places, w)
	}
	return places, nil
}

func newWebhook(cfg orgconfig.Webhook, now func() time.Time) (*webhook, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || (u.Scheme != "https" && !orgconfig.IsLoopbackHTTP(u)) {
		// The error of the parser quotes the address.
		return nil, errors.New("deliver.webhook.url: it is not an https URL without user name and fragment")
	}
	if cfg.SecretFile == "" {
		return nil, errors.New("deliver.webhook.secret_file: it is missing; the EHR knows our calls by their signature")
	}
	word, err := orgconfig.ReadSecret(cfg.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("deliver.webhook.secret_file: %w", err)
	}
	if len(word) < minSecret || strings.ContainsAny(word, " \t\r\n") {
		return nil, fmt.Errorf("deliver.webhook.secret_file: it does not hold one line of at least %d characters without spaces", minSecret)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = shards * workersOfShard
	transport.ResponseHeaderTimeout = placeHeaderTime
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		if transport.TLSClientConfig.RootCAs, err = orgconfig.ReadAuthorities(cfg.CAFile); err != nil {
			return nil, fmt.Errorf("deliver.webhook.ca_file: %w", err)
		}
	}
	return &webhook{
		url: cfg.URL, key: secret.New(word), now: now,
		client: &http.Client{
			Transport: transport, Timeout: placeTime,
			// A note goes where the organisation said, and nowhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// newFolder makes the folder where it is missing, and takes away what a crash left
// half written.
func newFolder(path string) (*folder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("deliver.folder: %w", err)
	}
	if err := checkFolder(path); err != nil {
		return nil, err
	}
	left, err := filepath.Glob(filepath.Join(path, partPrefix+"*"))
	if err != nil {
		return nil, fmt.Errorf("deliver.folder: %w", err)
	}
	for _, file := range left {
		// A younger one may be another backend's, which writes it right now.
		if info, err := os.Lstat(file); err == nil && time.Since(info.ModTime()) > partAge {
			_ = os.Remove(file)
		}
	}
	return &folder{path: path}, nil
}

func checkFolder(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("deliver.folder: %w", err)
	}
	if !info.IsDir() {
		return errors.New("deliver.folder: it is not a folder")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return errors.New("deliver.folder: others may look into it; make it 0700")
	}
	return nil
}
