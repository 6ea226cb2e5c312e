package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/problem"
)

const (
	// windowUp is the line that the window's process writes when it shows its page.
	windowUp = "the window is open"
	// windowPainted is the other line that it writes, when the first snapshot has
	// been painted. The launcher does not wait for it; a measurement does.
	windowPainted = "the window is painted"
	// windowPatience is how long that may take before the window counts as open
	// anyway. A warm start takes half a second.
	windowPatience = 10 * time.Second
)

// startWindow starts the window's process with the person's click, and returns
// when it shows its page. The channel delivers its end: nil when the person closed
// it. The error is window_unavailable.
func startWindow(ctx context.Context, click control.Activation) (<-chan error, error) {
	executable, err := ownProgram()
	if err != nil {
		return nil, problem.New(problem.WindowUnavailable, fmt.Errorf("finding this program: %w", err))
	}
	cmd := windowProcess(executable)
	cmd.Dir = ownFolder()
	return startAndWait(ctx, cmd, click, windowPatience)
}

func startAndWait(ctx context.Context, cmd *exec.Cmd, click control.Activation, patience time.Duration) (<-chan error, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, problem.New(problem.WindowUnavailable, fmt.Errorf("starting the window: %w", err))
	}
	cmd.Env = append(os.Environ(), clickEnviron(click)...)
	cmd.Stdout = write
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		_ = read.Close()
		fact := ""
		if errors.Is(err, fs.ErrNotExist) {
			fact = "Its program is not installed."
		}
		return nil, problem.With(problem.WindowUnavailable, fact, fmt.Errorf("starting the window: %w", withoutPath(err)))
	}
	ended := make(chan error, 1)
	// The window holds nothing that an orderly end would save.
	heed := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	go func() {
		err := cmd.Wait()
		heed()
		if ctx.Err() != nil {
			err = nil // it ended because it was to end
		}
		ended <- err
		_ = read.Close() // the webview's helpers may hold the other end a little longer
	}()
	up := make(chan struct{})
	go func() {
		for lines := bufio.NewScanner(read); lines.Scan(); {
			if lines.Text() == windowUp {
				close(up)
				break
			}
		}
		_, _ = io.Copy(io.Discard, read)
	}()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-up:
	case <-late.C:
	case err := <-ended:
		if err != nil {
			return nil, problem.With(problem.WindowUnavailable, endedBecause(err), withoutPath(err))
		}
		ended <- nil // closed before its page was there
	}
	return ended, nil
}

// noLibrary is how the dynamic linker ends a program that lacks a library.
const noLibrary = 127

// endedBecause is the fact of a window that never showed its page. Packages only
// recommend the webview's libraries: a kiosk may do without them.
func endedBecause(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == noLibrary {
		return "A library that it needs is not installed."
	}
	return endedAtOnce()
}

// withoutPath drops the path from an error of os/exec: the log does not need
// where the person's programs lie.
func withoutPath(err error) error {
	var e *exec.Error
	if errors.As(err, &e) {
		return e.Err
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
