package doctor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	// librariesTime bounds asking the loader, mostLoaded what it may say.
	librariesTime = 3 * time.Second
	mostLoaded    = 256 << 10
)

// missingLibraries are the libraries that a program needs and that are not on this
// computer. The loader of glibc is asked to list them (ld.so(8),
// LD_TRACE_LOADED_OBJECTS) and not the program, which would start if it were linked
// without a loader. Of a program with another loader, or that is none, nothing is known.
func missingLibraries(ctx context.Context, program string) ([]string, error) {
	loader, err := loaderOf(program)
	// Others do not know the variable, and would start the program.
	if err != nil || !strings.HasPrefix(filepath.Base(loader), "ld-linux") {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, librariesTime)
	defer cancel()
	ask := exec.CommandContext(ctx, loader, program)
	ask.Env = append(os.Environ(), "LC_ALL=C", "LD_TRACE_LOADED_OBJECTS=1")
	ask.WaitDelay = time.Second
	out, err := ask.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := ask.Start(); err != nil {
		return nil, errors.New("the system's loader does not start")
	}
	text, _ := io.ReadAll(io.LimitReader(out, mostLoaded))
	_, _ = io.Copy(io.Discard, out) // it must not wait for a reader
	err = ask.Wait()
	var missing []string
	for line := range strings.Lines(string(text)) {
		if name, found := strings.CutSuffix(strings.TrimSpace(line), " => not found"); found {
			missing = append(missing, name)
		}
	}
	if ctx.Err() != nil {
		return nil, errors.New("the system's loader did not answer in time")
	}
	if err != nil && len(missing) == 0 {
		return nil, fmt.Errorf("the system's loader refuses the window's program: %w", err)
	}
	return missing, nil
}

// loaderOf is the loader that a program names (System V ABI, "Program Interpreter"), of
// a little-endian one of 64 bits, which every computer is that this program is built
// for; empty for any other file.
func loaderOf(program string) (string, error) {
	f, err := os.Open(program)
	if err != nil {
		return "", pathless(err)
	}
	defer f.Close()
	var header [64]byte
	if _, err := io.ReadFull(f, header[:]); err != nil || string(header[:6]) != "\x7fELF\x02\x01" {
		return "", nil
	}
	const interpreter, entrySize = 3, 56
	table, entries := int64(binary.LittleEndian.Uint64(header[32:])), binary.LittleEndian.Uint16(header[56:])
	for i := range int64(entries) {
		var entry [entrySize]byte
		if _, err := f.ReadAt(entry[:], table+i*entrySize); err != nil {
			return "", nil
		}
		if binary.LittleEndian.Uint32(entry[:]) != interpreter {
			continue
		}
		path := make([]byte, min(binary.LittleEndian.Uint64(entry[32:]), 4096))
		if _, err := f.ReadAt(path, int64(binary.LittleEndian.Uint64(entry[8:]))); err != nil {
			return "", nil
		}
		if loader := strings.TrimRight(string(path), "\x00"); filepath.IsAbs(loader) {
			return loader, nil
		}
	}
	return "", nil
}
