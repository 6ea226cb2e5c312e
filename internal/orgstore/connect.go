// Package orgstore is what several backends share: JetStream, in this process or in
// the organisation's cluster, by one code path; and in it the handles, the ids of
// signed requests and the idempotency keys.
//
// It never stores a one-time URL or an access token, and nothing reaches JetStream
// in clear: values are sealed, names are hashes.
package orgstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"encounterlauncher/internal/orgconfig"
)

const startTime = 10 * time.Second

// maxPayload is the largest message of our own server: a callback with a long
// transcript, sealed, that does not pack well. A cluster has its own max_payload.
const maxPayload = 9 << 20

// Conn is one connection to JetStream, and the keys that seal what goes there. It
// is safe for concurrent use.
type Conn struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	keys     sealKeys
	replicas int
	durable  bool
	stop     func() error
}

// Connect starts JetStream inside this process (there is no port: the connection is
// a pipe), or connects to the cluster that cfg names.
func Connect(cfg orgconfig.NATS) (*Conn, error) {
	keys, err := readSealKeys(cfg.SealKeyFiles)
	if err != nil {
		return nil, err
	}
	c := &Conn{keys: keys, replicas: cfg.Replicas, durable: cfg.Folder != "" || len(cfg.Servers) > 0}
	if len(cfg.Servers) > 0 {
		err = c.join(cfg)
	} else {
		err = c.embed(cfg)
	}
	if err != nil {
		return nil, err
	}
	if c.js, err = jetstream.New(c.nc); err != nil {
		return nil, errors.Join(fmt.Errorf("using JetStream: %w", err), c.Close())
	}
	return c, nil
}

// join connects to the organisation's cluster, and stays until Close however often
// the connection is lost.
func (c *Conn) join(cfg orgconfig.NATS) error {
	if c.replicas == 0 {
		c.replicas = 3
	}
	options := []nats.Option{nats.Name("org-backend"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(false), nats.Timeout(startTime)}
	if cfg.CredentialsFile != "" {
		options = append(options, nats.UserCredentials(cfg.CredentialsFile))
	}
	if cfg.CAFile != "" {
		options = append(options, nats.RootCAs(cfg.CAFile))
	}
	if cfg.CertFile != "" {
		options = append(options, nats.ClientCert(cfg.CertFile, cfg.KeyFile))
	}
	options = append(options, func(o *nats.Options) error { o.Servers = cfg.Servers; return nil })
	nc, err := nats.Connect("", options...)
	if err != nil {
		return fmt.Errorf("connecting to NATS: %w", err)
	}
	c.nc, c.stop = nc, func() error { return nil }
	return nil
}

// embed starts a server of our own. Without a folder it keeps everything in memory,
// yet JetStream wants a folder for its own records.
func (c *Conn) embed(cfg orgconfig.NATS) (err error) {
	c.replicas = 1
	options := &server.Options{ServerName: "org-backend", DontListen: true, JetStream: true, StoreDir: cfg.Folder, MaxPayload: maxPayload, NoLog: true, NoSigs: true}
	undo := func() error { return nil }
	if cfg.Folder == "" {
		// os.MkdirTemp makes it 0700.
		if options.StoreDir, err = os.MkdirTemp("", "org-backend-"); err != nil {
			return fmt.Errorf("making JetStream's folder: %w", err)
		}
		undo = func() error { return os.RemoveAll(options.StoreDir) }
	} else {
		if undo, err = take(cfg.Folder); err != nil {
			return err
		}
		options.SyncAlways = true
		options.JetStreamKey, options.JetStreamOldKey = c.keys.server()
	}
	ns, err := server.NewServer(options)
	if err != nil {
		return errors.Join(fmt.Errorf("making JetStream: %w", err), undo())
	}
	ns.Start()
	c.stop = func() error {
		ns.Shutdown()
		ns.WaitForShutdown()
		return undo()
	}
	if !ns.ReadyForConnections(startTime) {
		return errors.Join(errors.New("JetStream did not start"), c.stop())
	}
	if c.nc, err = nats.Connect("", nats.InProcessServer(ns)); err != nil {
		return errors.Join(fmt.Errorf("connecting to JetStream: %w", err), c.stop())
	}
	return nil
}

// take makes a folder ours alone: JetStream itself does not notice a second process.
func take(folder string) (release func() error, err error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("nats.folder: %w", err)
	}
	info, err := os.Stat(folder)
	if err != nil {
		return nil, fmt.Errorf("nats.folder: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, errors.New("nats.folder: others may look into it; make it 0700")
	}
	lock := flock.New(folder + ".lock")
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("nats.folder: %w", err)
	}
	if !held {
		return nil, errors.New("nats.folder: another org-backend uses it")
	}
	return lock.Close, nil
}

// JetStream is where streams and buckets are made, with Replicas and, for what must
// outlive this process, only where Durable.
func (c *Conn) JetStream() jetstream.JetStream { return c.js }

// NATS is the connection itself, for messages that are not kept.
func (c *Conn) NATS() *nats.Conn { return c.nc }

// Replicas is how many servers shall hold each stream.
func (c *Conn) Replicas() int { return c.replicas }

// Durable reports whether a stream on file outlives this process.
func (c *Conn) Durable() bool { return c.durable }

// Check reports whether JetStream answers, for readiness.
func (c *Conn) Check(ctx context.Context) error {
	_, err := c.js.AccountInfo(ctx)
	return err
}

// Close ends the connection, and the server of our own.
func (c *Conn) Close() error {
	c.nc.Close()
	return c.stop()
}
