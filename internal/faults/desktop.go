//go:build linux

package faults

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"encounterlauncher/internal/stage"
)

// diskBytes is the size of a disk that can be filled.
const diskBytes = 8 << 20

// mount puts the folders that launcher and keyring write into onto small disks of
// their own (tmpfs), which only root can do.
func (s *station) mount(ctx context.Context) error {
	if os.Getuid() != 0 {
		return errors.New("only root can mount a small disk")
	}
	had := s.session.HasKeyring()
	s.session.StopKeyring()
	for _, name := range []string{"state", "data", "config"} {
		dir := s.session.Folder(name)
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+strconv.Itoa(diskBytes)); err != nil {
			s.unmount()
			return errors.New("a small disk cannot be mounted here: " + err.Error())
		}
		s.disks = append(s.disks, dir)
	}
	if had {
		return s.session.StartKeyring(ctx)
	}
	return nil
}

func (s *station) unmount() {
	for _, dir := range s.disks {
		_ = syscall.Unmount(dir, syscall.MNT_DETACH)
	}
	s.disks = nil
}

const filler = "filler"

// fillDisks leaves no byte free.
func (s *station) fillDisks() error {
	for _, dir := range s.disks {
		f, err := os.Create(filepath.Join(dir, filler))
		if err != nil {
			return err
		}
		block := make([]byte, 64<<10)
		for size := len(block); size > 0; {
			if _, err := f.Write(block[:size]); err != nil {
				size /= 2
			}
		}
		_ = f.Close()
	}
	return nil
}

func (s *station) freeDisks() error {
	for _, dir := range s.disks {
		if err := os.Remove(filepath.Join(dir, filler)); err != nil {
			return err
		}
	}
	return nil
}

// readOnly makes the disks read-only, or writable again. The kernel does that only where
// no file is open for writing: so agent and keyring end before, and the keyring is
// started again.
func (s *station) readOnly(ctx context.Context, on bool) error {
	if err := s.killAgent(ctx); err != nil {
		return err
	}
	s.session.StopKeyring()
	flags := uintptr(syscall.MS_REMOUNT | syscall.MS_BIND)
	if on {
		flags |= syscall.MS_RDONLY
	}
	for _, dir := range s.disks {
		err := stage.Await(ctx, "a disk without a writer", func() bool { return syscall.Mount(dir, dir, "", flags, "") == nil })
		if err != nil {
			return err
		}
	}
	return s.session.StartKeyring(ctx)
}

// setClock sets the launcher's clock, by so much from the machine's.
func (s *station) setClock(by time.Duration) error {
	return stage.SetClock(s.clockFile, by)
}

// buildClocked builds the launcher of the workstations whose clock is set.
func (w *world) buildClocked(ctx context.Context) error {
	if w.o.Cheap {
		return nil
	}
	dir := filepath.Join(w.dir, "clocked")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	programs, err := stage.NewPrograms(dir)
	if err != nil {
		return err
	}
	launcher, err := programs.ClockedLauncher(ctx, dir)
	if err != nil {
		w.cannot("clock set: " + err.Error())
		return nil
	}
	w.clocked = programs
	return programs.Build(ctx, launcher, programs.Opener())
}

// spoilOpener makes the mutant of the opener.
func (w *world) spoilOpener() error {
	if w.o.Mutant != OpensTwice {
		return nil
	}
	own := w.ordinary.Path("xdg-open")
	once := filepath.Join(w.dir, "opener")
	if err := os.Rename(own, once); err != nil {
		return err
	}
	return os.WriteFile(own, []byte("#!/bin/sh\n"+once+" \"$1\"\n"+once+" \"$1\"\n"), 0o700)
}
