// Package orgstore is what several backends share: JetStream, in this process or in
// the organisation's cluster, by one code path; and the handles, the ids of signed
// requests and the idempotency keys, in the cluster or in this process's own memory.
//
// It never stores a one-time URL or an access token, and nothing reaches JetStream
// in clear: values are sealed, names are hashes.
package orgstore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"encounterlauncher/internal/orgconfig"
)

const (
	// startTime bounds what starting waits for: a server, a cluster that elects.
	startTime = 30 * time.Second
	// dialTime bounds the connection to one server, TLS included.
	dialTime = 5 * time.Second
	// A server that is gone without a word is found out after three pings at most.
	pingEvery = 5 * time.Second
	// againAfter is between two attempts to connect to the same server.
	againAfter = 250 * time.Millisecond

	maxCredentials = 64 << 10
)

// Conn is one connection to JetStream, and the keys that seal what goes there. It
// is safe for concurrent use. A connection to a cluster that is lost is made anew
// for as long as it takes; until then everything is refused within StoreTime.
type Conn struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	keys     sealKeys
	replicas int
	durable  bool
	alone    bool // JetStream is this process's own
	stop     func() error
	folder   string // that of our own server; empty without one on file

	mu      sync.Mutex
	streams []jetstream.StreamConfig // guarded by mu: those that Stream opened
	memory  *memory                  // guarded by mu: the shelf of a process that is alone
}

// Connect starts JetStream inside this process (there is no port: the connection is
// a pipe), or connects to the cluster that cfg names. Its errors name the key of
// the configuration that is at fault.
func Connect(cfg orgconfig.NATS) (*Conn, error) { return connectTo(cfg, 0) }

// connectTo is Connect, with what our own server may take of the disk; see embed.
func connectTo(cfg orgconfig.NATS, disk int64) (*Conn, error) {
	keys, err := readFiles(cfg)
	if err != nil {
		return nil, err
	}
	c := &Conn{keys: keys, replicas: cfg.Replicas, durable: cfg.Folder != "" || len(cfg.Servers) > 0, alone: len(cfg.Servers) == 0}
	if len(cfg.Servers) > 0 {
		err = c.join(cfg)
	} else {
		err = c.embed(cfg, disk)
	}
	if err != nil {
		return nil, err
	}
	if c.js, err = jetstream.New(c.nc); err != nil {
		return nil, errors.Join(fmt.Errorf("using JetStream: %w", err), c.Close())
	}
	return c, nil
}

// Check reports what is wrong with the files that cfg names. It starts and connects
// to nothing.
func Check(cfg orgconfig.NATS) error {
	keys, err := readFiles(cfg)
	if err != nil || cfg.Folder == "" {
		return err
	}
	sealed, err := orgconfig.ReadBounded(filepath.Join(cfg.Folder, keyFile), 1<<10)
	if err != nil {
		return nil // a new folder has none; Connect tells of anything else
	}
	if _, err := (&Conn{keys: keys}).Open(keyPlace, sealed); err != nil {
		return errNoKeyOpens
	}
	return nil
}

var errNoKeyOpens = errors.New("nats.seal_key_files: none of these keys opens nats.folder")

func readFiles(cfg orgconfig.NATS) (sealKeys, error) {
	if cfg.CredentialsFile != "" {
		if err := orgconfig.CheckSecret(cfg.CredentialsFile); err != nil {
			return nil, fmt.Errorf("nats.credentials_file: %w", err)
		}
		text, err := orgconfig.ReadBounded(cfg.CredentialsFile, maxCredentials)
		if err == nil {
			err = credentials(text)
		}
		if err != nil {
			return nil, fmt.Errorf("nats.credentials_file: %w", err)
		}
	}
	if cfg.KeyFile != "" {
		if err := orgconfig.CheckSecret(cfg.KeyFile); err != nil {
			return nil, fmt.Errorf("nats.key_file: %w", err)
		}
	}
	// The options read the files once, so that a bad one is not taken for a cluster
	// that cannot be reached.
	if _, err := joinOptions(cfg); err != nil {
		return nil, err
	}
	return readSealKeys(cfg.SealKeyFiles)
}

// credentials reports whether a file holds what a NATS account gives to a user: a
// JWT and the seed of its key.
func credentials(text []byte) error {
	if _, err := nkeys.ParseDecoratedJWT(text); err != nil {
		return errors.New("it holds no user JWT")
	}
	if _, err := nkeys.ParseDecoratedUserNKey(text); err != nil {
		return errors.New("it holds no seed of a user")
	}
	return nil
}

func joinOptions(cfg orgconfig.NATS) (nats.Options, error) {
	o := nats.GetDefaultOptions()
	o.Name, o.Servers, o.Timeout, o.MaxReconnect = "org-backend", cfg.Servers, dialTime, -1
	o.ReconnectWait, o.PingInterval = againAfter, pingEvery
	// While there is no connection a call is refused at once, and tried again by who
	// knows until when; nothing is sent that nobody waits for any more.
	o.ReconnectBufSize = -1
	// The client would write to stderr. What it drops is read again.
	o.AsyncErrorCB = func(*nats.Conn, *nats.Subscription, error) {}
	for _, f := range []struct {
		key, file string
		option    nats.Option
	}{
		{"credentials_file", cfg.CredentialsFile, nats.UserCredentials(cfg.CredentialsFile)},
		{"ca_file", cfg.CAFile, nats.RootCAs(cfg.CAFile)},
		{"cert_file", cfg.CertFile, nats.ClientCert(cfg.CertFile, cfg.KeyFile)},
	} {
		if f.file == "" {
			continue
		}
		// They are read anew with every connection, so that they can be exchanged.
		if err := f.option(&o); err != nil {
			return o, fmt.Errorf("nats.%s: %w", f.key, err)
		}
	}
	return o, nil
}

// join connects to the organisation's cluster, and stays until Close however often
// the connection is lost.
func (c *Conn) join(cfg orgconfig.NATS) error {
	if c.replicas == 0 {
		c.replicas = 3
	}
	o, err := joinOptions(cfg)
	if err != nil {
		return err
	}
	again := make(chan struct{}, 1)
	o.ReconnectedCB = func(*nats.Conn) {
		select {
		case again <- struct{}{}:
		default:
		}
	}
	if c.nc, err = o.Connect(); err != nil {
		return fmt.Errorf("nats.servers: none of them takes the connection: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-again:
				c.remake(ctx)
			}
		}
	}()
	c.stop = func() error {
		cancel()
		<-ended
		return nil
	}
	return nil
}

// remake makes the streams anew that are gone: a server alone, without a cluster,
// forgets with its end what it had in memory, the streams too.
func (c *Conn) remake(ctx context.Context) {
	c.mu.Lock()
	streams := slices.Clone(c.streams)
	c.mu.Unlock()
	for _, cfg := range streams {
		// What fails is seen by Check and by whoever uses the stream.
		_, _ = c.Stream(ctx, cfg)
	}
}

// JetStream is where streams are read and written. They are made by Stream.
func (c *Conn) JetStream() jetstream.JetStream { return c.js }

// Stream makes a stream with Replicas copies, or takes the one that another backend
// made, and gives it these settings. It waits for a cluster that elects a leader,
// at most 30 seconds. A stream on file outlives this process only where Durable.
func (c *Conn) Stream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	cfg.Replicas = c.replicas
	var stream jetstream.Stream
	err := open(ctx, func(ctx context.Context) (err error) {
		stream, err = c.js.CreateOrUpdateStream(ctx, cfg)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("nats: making the stream %s: %w", cfg.Name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams = append(slices.DeleteFunc(c.streams, func(s jetstream.StreamConfig) bool { return s.Name == cfg.Name }), cfg)
	return stream, nil
}

// open repeats the making of a stream for as long as waiting may help.
func open(ctx context.Context, attempt func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		trying, cancel := context.WithTimeout(ctx, StoreTime)
		err := attempt(trying)
		cancel()
		// Two backends that start at once may both find no stream and both make it.
		code := codeOf(err)
		raced := code == jetstream.JSErrCodeStreamNameInUse || code == jetstream.JSErrCodeStreamNotFound
		if err == nil || !passing(err) && !raced || rest(ctx) != nil {
			return err
		}
	}
}

// shelf is where tickets lie. Where the store is this process's own nobody shares it,
// and the way through JetStream would only cost: a sixth of a launch's processor
// time, and for a million handles 40 MB that Go never gives back.
func (c *Conn) shelf(ctx context.Context, kept time.Duration, bytes int64) (shelf, error) {
	if !c.alone {
		return openStream(ctx, c, kept, bytes)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.memory == nil {
		c.memory = newMemory(kept, bytes)
	}
	return c.memory, nil
}

// NATS is the connection itself, for messages that are not kept.
func (c *Conn) NATS() *nats.Conn { return c.nc }

// Replicas is how many servers hold each stream.
func (c *Conn) Replicas() int { return c.replicas }

// Durable reports whether a stream on file outlives this process.
func (c *Conn) Durable() bool { return c.durable }

// Check reports within two seconds whether JetStream answers and every stream of
// Stream has a leader, for readiness.
func (c *Conn) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	if _, err := c.js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("JetStream does not answer: %w", err)
	}
	c.mu.Lock()
	streams := slices.Clone(c.streams)
	c.mu.Unlock()
	for _, s := range streams {
		if _, err := c.js.Stream(ctx, s.Name); err != nil {
			return fmt.Errorf("the stream %s does not answer: %w", s.Name, err)
		}
	}
	return nil
}

// Close ends the connection, and the server of our own.
func (c *Conn) Close() error {
	c.end()
	return c.stop()
}

// end refuses everything from now on.
func (c *Conn) end() {
	c.nc.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.memory != nil {
		c.memory.close()
	}
}
