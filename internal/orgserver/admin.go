package orgserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"encounterlauncher/internal/delivery"
	"encounterlauncher/internal/orgconfig"
)

const (
	// longestSocket is sun_path without its end: unix(7).
	longestSocket = 107
	adminTime     = time.Minute
	adminDrain    = 5 * time.Second
)

// checkAdmin checks what can be seen of the admin socket without making it.
func checkAdmin(cfg orgconfig.Config) error {
	switch {
	case cfg.AdminSocket == "":
		return nil
	case !adminPossible:
		return errors.New("admin_socket: this system cannot tell who is at the other end of a socket")
	case len(cfg.AdminSocket) > longestSocket:
		return fmt.Errorf("admin_socket: the path is longer than %d bytes", longestSocket)
	}
	// Below /run the folder may come only with the service.
	if err := checkAdminFolder(filepath.Dir(cfg.AdminSocket)); !errors.Is(err, errNoAdminFolder) {
		return err
	}
	return nil
}

var errNoAdminFolder = errors.New("admin_socket: its folder does not exist")

func checkAdminFolder(folder string) error {
	info, err := os.Stat(folder)
	if errors.Is(err, os.ErrNotExist) {
		return errNoAdminFolder
	}
	if err != nil {
		return errors.New("admin_socket: its folder cannot be looked at")
	}
	if !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
		return errors.New("admin_socket: its folder may be written by others; a socket there could be exchanged")
	}
	return nil
}

// OpenAdmin listens on the admin socket of cfg and serves server's Admin there, until
// closing. Where cfg has none it does nothing. Only the user of this process and
// root are answered, whatever the permissions of the socket say.
func OpenAdmin(cfg orgconfig.Config, server *Server, log *slog.Logger) (closing func(), err error) {
	if cfg.AdminSocket == "" {
		return func() {}, nil
	}
	if err := checkAdmin(cfg); err != nil {
		return nil, err
	}
	if err := checkAdminFolder(filepath.Dir(cfg.AdminSocket)); err != nil {
		return nil, err
	}
	// Only here, and not where a configuration is looked at: root may look at a service's.
	if info, err := os.Stat(filepath.Dir(cfg.AdminSocket)); err != nil || orgconfig.OfAnother(info) {
		return nil, errors.New("admin_socket: its folder belongs to another user, who could exchange a socket there")
	}
	listener, release, err := bindAdmin(cfg.AdminSocket)
	if err != nil {
		return nil, fmt.Errorf("admin_socket: %w", err)
	}
	times := ordinary()
	s := &http.Server{
		Handler: server.Admin(), ReadHeaderTimeout: times.header, ReadTimeout: times.read, WriteTimeout: adminTime, IdleTimeout: times.idle,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Serve(ownOnly{listener, log}); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the admin socket has ended", "cause", err.Error())
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), adminDrain)
		defer cancel()
		if s.Shutdown(ctx) != nil {
			_ = s.Close()
		}
		<-ended
		release()
	}, nil
}

// ownOnly lets in who runs as we do, and root.
type ownOnly struct {
	net.Listener
	log *slog.Logger
}

func (l ownOnly) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(c)
		if err == nil && (uid == 0 || uid == os.Getuid()) {
			return c, nil
		}
		_ = c.Close()
		l.log.Warn("another user was turned away from the admin socket")
	}
}

// Admin is for people who operate this backend, by `org-backend deliveries`. It checks
// nobody: OpenAdmin does.
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /deliveries", s.admin(func(r *http.Request) (any, error) {
		return s.deliveries.List(r.Context(), r.URL.Query().Get("all") == "true")
	}))
	mux.HandleFunc("GET /deliveries/{id}", s.admin(func(r *http.Request) (any, error) {
		item, encounter, err := s.deliveries.Show(r.Context(), r.PathValue("id"))
		return delivery.Shown{Item: item, Encounter: encounter}, err
	}))
	mux.HandleFunc("POST /deliveries/{id}/replay", s.admin(func(r *http.Request) (any, error) {
		return s.deliveries.Replay(r.Context(), r.PathValue("id"))
	}))
	mux.HandleFunc("POST /deliveries/{id}/discard", s.admin(func(r *http.Request) (any, error) {
		_, of, _ := s.deliveries.Show(r.Context(), r.PathValue("id")) // its content goes; Discard tells what is wrong
		item, err := s.deliveries.Discard(r.Context(), r.PathValue("id"))
		if err == nil {
			s.discarded(of)
		}
		return item, err
	}))
	mux.HandleFunc("POST /deliveries/replay-aside", s.admin(func(r *http.Request) (any, error) {
		n, err := s.deliveries.ReplayAside(r.Context())
		return delivery.Replayed{Replayed: n}, err
	}))
	return mux
}

func (s *Server) admin(do func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		ctx, cancel := context.WithTimeout(r.Context(), adminTime)
		defer cancel()
		status := http.StatusOK
		var body any
		err := errors.New("no callbacks are taken: callbacks.secret_files is empty")
		if s.deliveries != nil {
			body, err = do(r.WithContext(ctx))
		}
		switch {
		case err == nil:
		case errors.Is(err, delivery.ErrNotFound):
			status = http.StatusNotFound
		case errors.Is(err, delivery.ErrGone), errors.Is(err, delivery.ErrChanged):
			status = http.StatusConflict
		default:
			status = http.StatusServiceUnavailable
		}
		if err != nil {
			body = delivery.Refusal{Error: err.Error()}
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // the caller may be gone
	}
}
