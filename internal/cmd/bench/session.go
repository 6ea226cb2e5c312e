//go:build linux

package main

import (
	"bufio"
	"context"
	"net"
	"path/filepath"
	"time"

	"encounterlauncher/internal/stage"
)

// moment is a reading of the clock that every process of the machine shares.
type moment = stage.Moment

const patience = stage.Patience

func now() moment { return stage.Now() }

func sleep(ctx context.Context, d time.Duration) error { return stage.Sleep(ctx, d) }

// The kinds of notes of the peers.
const (
	noteReady  = 'r' // the Wails program shows its page
	noteSecond = 's' // the first Wails process heard of a second one; the text is its argument
)

// newSession starts the desktop session that launcher and peers run in.
func newSession(ctx context.Context, dir string, b built, w *world) (*stage.Session, error) {
	server := filepath.Join(dir, "server")
	if err := serveLines(server); err != nil {
		return nil, err
	}
	return stage.NewSession(ctx, stage.SessionOptions{
		Dir: dir, Programs: b.Programs, Display: true,
		Env: []string{"BENCH_SERVER=" + server, "BENCH_DIRECT=" + filepath.Join(dir, "direct"), "BENCH_CA=" + w.authority.CAFile, "BENCH_TOKEN=" + w.scriptToken, "BENCH_BACKEND=" + w.backend},
	})
}

// serveLines answers every line with a line: the other end of the bare client.
func serveLines(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
					_, _ = conn.Write([]byte(line))
				}
			}()
		}
	}()
	return nil
}
