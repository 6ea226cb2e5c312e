//go:build linux

package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
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

func (s *station) remount(flags uintptr) error {
	for _, dir := range s.disks {
		// A file that is open for writing holds the disk: a mount of the same folder can
		// still be made read-only, as the home of an account that was frozen.
		if err := syscall.Mount(dir, dir, "", syscall.MS_REMOUNT|syscall.MS_BIND|flags, ""); err != nil {
			return fmt.Errorf("making a disk read-only: %w", err)
		}
	}
	return nil
}

// setClock sets the launcher's clock, by so much from the machine's.
func (s *station) setClock(by time.Duration) error {
	return os.WriteFile(s.clockFile, []byte(strconv.FormatInt(int64(by), 10)), 0o600)
}

// clockVariable names the file that holds a launcher's clock.
const clockVariable = "STAGE_CLOCK"

func (w *world) buildClocked(context.Context) error { return nil }

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
