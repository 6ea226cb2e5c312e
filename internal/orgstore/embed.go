package orgstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"encounterlauncher/internal/orgconfig"
)

const (
	// memoryBytes is what the streams of our own server may reserve in memory
	// together: a limit that does not depend on the machine, so that what fits here
	// fits everywhere.
	memoryBytes = 2 << 30
	// maxMessage is enough for the largest callback of Nabla's that is taken (8 MB),
	// sealed.
	maxMessage = 10 << 20
	// roomBytes is what Room asks for.
	roomBytes = 16 << 20

	// lockFile and keyFile are in nats.folder. The second holds the key by which all
	// else in it is encrypted, sealed by the first of nats.seal_key_files.
	lockFile = "lock"
	keyFile  = "key"
	keyPlace = "nats.folder"
)

// embed starts a server of our own. Without a folder it keeps everything in memory,
// yet JetStream wants a folder for its own records.
// disk is how much the streams may take of the disk together; 0 means what JetStream
// thinks of what is free.
func (c *Conn) embed(cfg orgconfig.NATS, disk int64) (err error) {
	c.replicas = 1
	options := &server.Options{
		ServerName: "org-backend", DontListen: true, JetStream: true, StoreDir: cfg.Folder, JetStreamMaxMemory: memoryBytes,
		JetStreamMaxStore: disk, MaxPayload: maxMessage, NoLog: true, NoSigs: true,
		// Every subject is new: what remembers who listens to one only costs.
		NoSublistCache: true,
	}
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
		if options.JetStreamKey, err = c.folderKey(cfg.Folder); err != nil {
			return errors.Join(err, undo())
		}
	}
	ns, err := start(options)
	if err != nil {
		return errors.Join(err, undo())
	}
	c.folder = cfg.Folder
	c.stop = func() error {
		end(ns)
		return undo()
	}
	if c.nc, err = nats.Connect("", nats.InProcessServer(ns), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1)); err != nil {
		return errors.Join(fmt.Errorf("connecting to JetStream: %w", err), c.stop())
	}
	if cfg.Folder != "" {
		if err := c.opened(cfg.Folder); err != nil {
			return errors.Join(err, c.Close())
		}
	}
	return nil
}

// start starts a server. How much its streams may take of the disk together JetStream
// finds out by what is free when it starts, and what they were promised when more was
// free may be over that: then nothing could be opened, until somebody makes room for
// what may never be needed. What was promised stays promised.
func start(options *server.Options) (*server.Server, error) {
	ns, err := startOnce(options)
	if err != nil {
		return nil, err
	}
	_, promised, err := ns.JetStreamReservedResources()
	if cfg := ns.JetStreamConfig(); err != nil || cfg == nil || promised <= cfg.MaxStore {
		return ns, err
	}
	end(ns)
	again := options.Clone()
	again.JetStreamMaxStore = promised
	return startOnce(again)
}

func startOnce(options *server.Options) (*server.Server, error) {
	ns, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("making JetStream: %w", err)
	}
	ns.Start()
	if !ns.ReadyForConnections(startTime) {
		end(ns)
		return nil, errors.New("JetStream did not start")
	}
	return ns, nil
}

func end(ns *server.Server) {
	ns.Shutdown()
	ns.WaitForShutdown()
}

// Embedded reports whether the streams on file are in a folder of this process's own.
func (c *Conn) Embedded() bool { return c.folder != "" }

// Room reports whether the disk of the folder takes something more. It is for a
// connection that is Embedded.
func (c *Conn) Room() error {
	f, err := os.CreateTemp(c.folder, "room-*")
	if err != nil {
		return fmt.Errorf("looking for room in nats.folder: %w", withoutPath(err))
	}
	_, err = f.Write(make([]byte, roomBytes))
	err = errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
	if err != nil {
		return fmt.Errorf("looking for room in nats.folder: %w", withoutPath(err))
	}
	return nil
}

func withoutPath(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
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
	if openToOthers(info) {
		return nil, errors.New("nats.folder: others may look into it; make it 0700")
	}
	lock := flock.New(filepath.Join(folder, lockFile), flock.SetPermissions(0o600))
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("nats.folder: %w", err)
	}
	if !held {
		return nil, errors.New("nats.folder: another org-backend uses it")
	}
	return lock.Close, nil
}

// folderKey returns the key of a folder, and sees to it that the first of our keys
// seals it from now on. JetStream itself cannot change keys: it does not open its
// consumers by a new one (v2.15.2). And started with a wrong key it leaves out what it
// cannot read, and spoils it when a stream of that name is made: so a folder that
// none of our keys opens is refused before.
func (c *Conn) folderKey(folder string) (string, error) {
	file := filepath.Join(folder, keyFile)
	sealed, err := orgconfig.ReadBounded(file, 1<<10)
	var key []byte
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if names, err := streamFolders(folder); err != nil || len(names) > 0 {
			return "", errors.Join(errors.New("nats.folder: its file "+keyFile+" is missing; restore the whole folder"), err)
		}
		key = make([]byte, keyBytes)
		_, _ = rand.Read(key) // crypto/rand.Read never fails since Go 1.24
	case err != nil:
		return "", fmt.Errorf("nats.folder: %w", err)
	default:
		if key, err = c.Open(keyPlace, sealed); err != nil {
			return "", errNoKeyOpens
		}
		if bytes.HasPrefix(sealed, c.keys[0].id[:]) {
			return hex.EncodeToString(key), nil
		}
	}
	if err := replace(file, c.Seal(keyPlace, key)); err != nil {
		return "", fmt.Errorf("nats.folder: %w", err)
	}
	return hex.EncodeToString(key), nil
}

// replace writes a file in one step, and has it on disk when it returns.
func replace(file string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+"-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncFolder(filepath.Dir(file))
}

func streamFolders(folder string) ([]string, error) {
	found, err := fs.Glob(os.DirFS(folder), server.JetStreamStoreDir+"/*/streams/*/"+server.JetStreamMetaFile)
	if err != nil {
		return nil, fmt.Errorf("nats.folder: %w", err)
	}
	names := make([]string, 0, len(found))
	for _, file := range found {
		names = append(names, path.Base(path.Dir(file)))
	}
	return names, nil
}

// opened makes sure that JetStream has opened every stream in the folder. What it
// cannot open it only leaves out, and nobody would miss what was to be delivered.
func (c *Conn) opened(folder string) error {
	names, err := streamFolders(folder)
	if err != nil {
		return err
	}
	js, err := jetstream.New(c.nc)
	if err != nil {
		return fmt.Errorf("using JetStream: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	for _, name := range names {
		if _, err := js.Stream(ctx, name); err != nil {
			return fmt.Errorf("nats.folder: JetStream cannot open the stream %s: %w", name, err)
		}
	}
	return nil
}
