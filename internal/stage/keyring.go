//go:build linux

package stage

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/godbus/dbus/v5"
)

const (
	keyringPassword = "stage"
	secretsName     = "org.freedesktop.secrets"
	secretsPath     = "/org/freedesktop/secrets"
	serviceFace     = "org.freedesktop.Secret.Service"
	loginPath       = "/org/freedesktop/secrets/collection/login"
)

// StartKeyring starts a gnome-keyring-daemon, unlocked. NewSession has called it
// already; it is for after StopKeyring. What was kept before is there again.
func (s *Session) StartKeyring(ctx context.Context) error {
	cmd := s.Command(context.WithoutCancel(ctx), "gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets", "--control-directory="+filepath.Join(s.Folder("run"), "keyring"))
	cmd.Stdin = strings.NewReader(keyringPassword)
	var err error
	if s.keyring, err = s.Start(cmd); err != nil {
		return fmt.Errorf("starting a keyring: %w", err)
	}
	return Await(ctx, "the keyring", func() bool {
		var there bool
		err := s.bus.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, secretsName).Store(&there)
		return err == nil && there
	})
}

// HasKeyring says whether the session has a keyring now.
func (s *Session) HasKeyring() bool { return s.keyring != nil }

// StopKeyring takes the keyring away, as one that crashes.
func (s *Session) StopKeyring() {
	if s.keyring != nil {
		s.keyring.Kill()
		s.keyring = nil
	}
}

// LockKeyring locks it, as a person or a desktop may.
func (s *Session) LockKeyring(ctx context.Context) error {
	var done []dbus.ObjectPath
	var prompt dbus.ObjectPath
	err := s.bus.Object(secretsName, secretsPath).CallWithContext(ctx, serviceFace+".Lock", 0, []dbus.ObjectPath{loginPath}).Store(&done, &prompt)
	if err == nil && len(done) != 1 {
		err = errors.New("it stays open")
	}
	if err != nil {
		return fmt.Errorf("locking the keyring: %w", err)
	}
	return nil
}

// UnlockKeyring unlocks it.
func (s *Session) UnlockKeyring(ctx context.Context) error {
	var ignored dbus.Variant
	var session dbus.ObjectPath
	service := s.bus.Object(secretsName, secretsPath)
	if err := service.CallWithContext(ctx, serviceFace+".OpenSession", 0, "plain", dbus.MakeVariant("")).Store(&ignored, &session); err != nil {
		return fmt.Errorf("unlocking the keyring: %w", err)
	}
	master := secretValue{session, []byte{}, []byte(keyringPassword), "text/plain"}
	// What the login does by PAM; it has no other door without a display.
	if err := service.CallWithContext(ctx, "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface.UnlockWithMasterPassword", 0, dbus.ObjectPath(loginPath), master).Err; err != nil {
		return fmt.Errorf("unlocking the keyring: %w", err)
	}
	return nil
}

// secretValue is Secret of the Secret Service API.
type secretValue struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}

// KeyringItems returns what the keyring holds in its one collection: the secret by the
// item's attributes, written as name=value, sorted by name and separated by spaces.
func (s *Session) KeyringItems(ctx context.Context) (map[string]string, error) {
	var ignored dbus.Variant
	var session dbus.ObjectPath
	if err := s.bus.Object(secretsName, secretsPath).CallWithContext(ctx, serviceFace+".OpenSession", 0, "plain", dbus.MakeVariant("")).Store(&ignored, &session); err != nil {
		return nil, fmt.Errorf("asking the keyring: %w", err)
	}
	all, err := s.bus.Object(secretsName, loginPath).GetProperty("org.freedesktop.Secret.Collection.Items")
	if err != nil {
		return nil, fmt.Errorf("asking the keyring: %w", err)
	}
	paths, _ := all.Value().([]dbus.ObjectPath)
	items := map[string]string{}
	for _, path := range paths {
		item := s.bus.Object(secretsName, path)
		attributes, err := item.GetProperty("org.freedesktop.Secret.Item.Attributes")
		if err != nil {
			return nil, fmt.Errorf("asking the keyring: %w", err)
		}
		var secret secretValue
		if err := item.CallWithContext(ctx, "org.freedesktop.Secret.Item.GetSecret", 0, session).Store(&secret); err != nil {
			return nil, fmt.Errorf("asking the keyring: %w", err)
		}
		named, _ := attributes.Value().(map[string]string)
		items[inOrder(named)] = string(secret.Value)
	}
	return items, nil
}
