package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	secretsName    = "org.freedesktop.secrets"
	secretsPath    = "/org/freedesktop/secrets"
	defaultAlias   = "/org/freedesktop/secrets/aliases/default"
	loginPath      = "/org/freedesktop/secrets/collection/login"
	serviceFace    = "org.freedesktop.Secret.Service"
	collectionFace = "org.freedesktop.Secret.Collection"
	itemFace       = "org.freedesktop.Secret.Item"
	sessionFace    = "org.freedesktop.Secret.Session"
	isLockedName   = "org.freedesktop.Secret.Error.IsLocked"
)

// stateTimeout bounds the question whether the keyring is locked, which a
// service answers without asking anybody.
const stateTimeout = 2 * time.Second

// reachable refuses when there is no session bus: godbus would start one by
// dbus-launch, and leave it behind, with a keyring in it that nobody can unlock.
func reachable() error {
	if !hasSessionBus(os.Getenv("DBUS_SESSION_BUS_ADDRESS"), "/run/user/"+strconv.Itoa(os.Getuid())) {
		return fmt.Errorf("%w: there is no session bus", ErrUnavailable)
	}
	return nil
}

// hasSessionBus looks where godbus looks before it starts a bus (conn.go,
// getSessionBusAddress).
func hasSessionBus(address, runtimeDir string) bool {
	if address != "" && address != "autolaunch:" {
		return true
	}
	_, err := os.Stat(runtimeDir + "/bus")
	return err == nil
}

// Prepare connects to the session bus, where there is one.
func (osKeyring) Prepare() {
	if reachable() == nil {
		_, _ = dbus.SessionBus() // the same for everybody in this process
	}
}

// shortcut reads an item in two turns over the bus, where go-keyring takes seven: it
// asks for a session and for the item at once, then for the secret (Secret Service API,
// OpenSession, SearchItems, GetSecret). ok is false for whatever is not the plain case,
// one item, unlocked, in the collection that go-keyring uses, and then go-keyring is
// asked and says what is the matter. It never leads to a prompt.
func shortcut(service, user string) (value string, ok bool) {
	conn, err := dbus.SessionBus()
	if err != nil {
		return "", false
	}
	ctx, cancel := context.WithTimeout(context.Background(), stateTimeout)
	defer cancel()
	secrets := conn.Object(secretsName, secretsPath)
	opening := secrets.GoWithContext(ctx, serviceFace+".OpenSession", 0, nil, "plain", dbus.MakeVariant(""))
	search := secrets.GoWithContext(ctx, serviceFace+".SearchItems", 0, nil, map[string]string{"username": user, "service": service})
	var unlocked, locked []dbus.ObjectPath
	searched := (<-search.Done).Store(&unlocked, &locked)
	var output dbus.Variant
	var session dbus.ObjectPath
	if (<-opening.Done).Store(&output, &session) != nil {
		return "", false
	}
	defer conn.Object(secretsName, session).Go(sessionFace+".Close", dbus.FlagNoReplyExpected, nil)
	if searched != nil || len(unlocked) != 1 || len(locked) != 0 || !strings.HasPrefix(string(unlocked[0]), loginPath+"/") {
		return "", false
	}
	var secret struct {
		Session           dbus.ObjectPath
		Parameters, Value []byte
		ContentType       string
	}
	if conn.Object(secretsName, unlocked[0]).CallWithContext(ctx, itemFace+".GetSecret", 0, session).Store(&secret) != nil {
		return "", false
	}
	return string(secret.Value), true
}

// classify says what an error of go-keyring means. Its text for a locked keyring
// and for one without a collection is the same, so the service is asked.
func classify(err error) error {
	var named dbus.Error
	if errors.As(err, &named) && named.Name == isLockedName {
		return fmt.Errorf("%w: %w", ErrLocked, err)
	}
	locked, stateErr := collectionLocked()
	switch {
	case stateErr == nil && locked:
		return fmt.Errorf("%w: %w", ErrLocked, err)
	case errors.Is(stateErr, context.DeadlineExceeded), stateErr == nil && strings.HasPrefix(err.Error(), "failed to unlock"):
		// It was locked a moment ago, or cannot say: locked never looks absent.
		return fmt.Errorf("%w: %w", ErrLocked, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}

// collectionLocked reports whether the collection that go-keyring uses is
// locked: "login" where there is one, else the default
// (secret_service.go, GetLoginCollection).
func collectionLocked() (bool, error) {
	conn, err := dbus.SessionBus()
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stateTimeout)
	defer cancel()
	var collections []dbus.ObjectPath
	if err := property(ctx, conn.Object(secretsName, secretsPath), serviceFace, "Collections", &collections); err != nil {
		return false, err
	}
	path := dbus.ObjectPath(defaultAlias)
	for _, c := range collections {
		if c == loginPath {
			path = c
		}
	}
	var locked bool
	err = property(ctx, conn.Object(secretsName, path), collectionFace, "Locked", &locked)
	return locked, err
}

// Locked reports whether the collection is locked, without a prompt. Where that
// cannot be found out, reading it tells more.
func (osKeyring) Locked() (bool, error) {
	if err := reachable(); err != nil {
		return false, err
	}
	locked, err := collectionLocked()
	return err == nil && locked, nil
}

func property(ctx context.Context, object dbus.BusObject, face, name string, into any) error {
	var value dbus.Variant
	err := object.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, face, name).Store(&value)
	if err != nil {
		return err
	}
	return value.Store(into)
}
