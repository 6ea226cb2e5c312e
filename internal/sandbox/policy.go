package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// organization is the name in the demo policy.
const organization = "Sandbox Hospital"

// demoPolicy is the policy of the demo launcher; its fields are keys of the
// product's policy.
type demoPolicy struct {
	OrganizationName  string
	BackendURL        string
	OIDCIssuer        string
	OIDCClientID      string
	OIDCScopes        []string
	OIDCAudience      string
	EncounterURLHosts []string
	AllowedLinkForms  []string
	// Autostart is off: what is tried out must not be there after the next logon.
	Autostart bool
}

func newDemoPolicy(backend, issuer, clientID string) demoPolicy {
	return demoPolicy{
		OrganizationName: organization, BackendURL: backend,
		OIDCIssuer: issuer, OIDCClientID: clientID, OIDCAudience: backend,
		OIDCScopes:        []string{"openid", "email", "profile", "offline_access"},
		EncounterURLHosts: []string{"127.0.0.1"},
		AllowedLinkForms:  []string{"handle", "request"},
	}
}

// writeJSON writes a file of the sandbox's folder in one step, for this user
// only: a reader sees the old one or the new one, never half of it.
func writeJSON(file string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(file), err)
	}
	return writeFile(file, append(data, '\n'))
}

func writeFile(file string, data []byte) error {
	next, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(file), err)
	}
	_, err = next.Write(data)
	if err == nil {
		err = next.Sync()
	}
	if err = errors.Join(err, next.Close()); err == nil {
		err = os.Rename(next.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", filepath.Base(file), err), os.Remove(next.Name()))
	}
	return nil
}

// ErrMachinePolicy says that this machine is governed by an organisation. A
// sandbox has no business on it.
var ErrMachinePolicy = errors.New("this computer has a machine policy of Encounter Launcher: a sandbox may not run on a computer that an organisation governs")

// refuseGovernedMachine returns ErrMachinePolicy when there is a machine policy,
// or when that cannot be told. file is where a release looks for it; empty where
// no file holds it.
func refuseGovernedMachine(file string) error {
	if governedByRegistry() {
		return ErrMachinePolicy
	}
	if file == "" {
		return nil
	}
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return ErrMachinePolicy
	}
	return nil
}

// places are the files of the sandbox's folder.
type places struct{ dir string }

func (p places) policy() string         { return filepath.Join(p.dir, "policy.json") }
func (p places) record() string         { return filepath.Join(p.dir, "record.json") }
func (p places) lock() string           { return filepath.Join(p.dir, "lock") }
func (p places) follow() string         { return filepath.Join(p.dir, "follow.json") }
func (p places) agentOutput() string    { return filepath.Join(p.dir, "agent-output.log") }
func (p places) ehrSecret() string      { return filepath.Join(p.dir, "ehr-secret") }
func (p places) nablaKey() string       { return filepath.Join(p.dir, "nabla-key.pem") }
func (p places) callbackSecret() string { return filepath.Join(p.dir, "callback-secret") }
func (p places) webhookSecret() string  { return filepath.Join(p.dir, "webhook-secret") }
func (p places) bin() string            { return filepath.Join(p.dir, "bin") }

// removeAll removes what one run wrote, but for the record, which goes once the
// launcher's scheme is gone, and for what the launcher said, which is of use to
// whoever looks for a fault.
func (p places) removeAll() error {
	var errs []error
	for _, file := range []string{p.policy(), p.follow(), p.ehrSecret(), p.nablaKey(), p.callbackSecret(), p.webhookSecret()} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("removing %s: %w", filepath.Base(file), err))
		}
	}
	errs = append(errs, os.RemoveAll(p.bin()))
	return errors.Join(errs...)
}
