package tokenstore

import (
	"errors"

	"github.com/zalando/go-keyring"
)

// OS returns the keyring of the operating system: Secret Service, Windows
// Credential Manager, macOS Keychain. It does no I/O until it is asked, and
// never falls back to anything else.
func OS() Keyring { return osKeyring{} }

type osKeyring struct{}

func (osKeyring) Get(service, user string) (string, error) {
	if err := reachable(); err != nil {
		return "", err
	}
	if value, ok := shortcut(service, user); ok {
		return value, nil
	}
	value, err := keyring.Get(service, user)
	return value, told(err)
}

func (osKeyring) Set(service, user, value string) error {
	if err := reachable(); err != nil {
		return err
	}
	return told(keyring.Set(service, user, value))
}

func (osKeyring) Delete(service, user string) error {
	if err := reachable(); err != nil {
		return err
	}
	return told(keyring.Delete(service, user))
}

func told(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, keyring.ErrNotFound):
		return ErrNotFound
	default:
		return classify(err)
	}
}
