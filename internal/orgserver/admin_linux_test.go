package orgserver

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"encounterlauncher/internal/delivery"
	"encounterlauncher/internal/orgconfig"
)

func overSocket(t *testing.T, socket, path string) (int, error) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://admin"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode, json.NewDecoder(response.Body).Decode(new(delivery.Listing))
}

func TestTheAdminSocketIsOursAloneAndReplacesOneThatACrashLeft(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin")
	w := newCallbackWorld(t, func(c *orgconfig.Config) { c.AdminSocket = socket })
	// A crash leaves a socket that nobody listens on.
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	closing, err := OpenAdmin(w.config, w.server, w.server.log)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v", info, err)
	}
	if status, err := overSocket(t, socket, "/deliveries"); status != http.StatusOK || err != nil {
		t.Errorf("got %d, %v", status, err)
	}
	if _, err := OpenAdmin(w.config, w.server, w.server.log); err == nil || !strings.Contains(err.Error(), "another org-backend") {
		t.Errorf("a second one: %v", err)
	}
	closing()
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Error("the socket is still there")
	}
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAdmin(w.config, w.server, w.server.log); err == nil {
		t.Error("a file was taken for a socket")
	}
}

func TestTheAdminSocketIsNotMadeWhereOthersMayWrite(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	cfg := orgconfig.Config{AdminSocket: filepath.Join(folder, "admin")}
	if err := checkAdmin(cfg); err == nil || !strings.Contains(err.Error(), "written by others") {
		t.Errorf("got %v", err)
	}
	// Below /run a folder may come only with the service.
	cfg.AdminSocket = filepath.Join(folder, "later", "admin")
	if err := checkAdmin(cfg); err != nil {
		t.Errorf("got %v", err)
	}
	if _, err := OpenAdmin(cfg, nil, nil); !errors.Is(err, errNoAdminFolder) {
		t.Errorf("got %v", err)
	}
}

type foreign struct{ net.Conn }

func TestWhoCannotBeToldIsTurnedAway(t *testing.T) {
	if _, err := peerUID(foreign{}); err == nil {
		t.Error("a connection without a user was let in")
	}
}
