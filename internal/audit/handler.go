package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

const (
	handlerBase = "handler"
	handlerLock = "handler.lock"
	// handlerFloods holds what handlers have counted, from one process to the next.
	handlerFloods = "handler.flood"
	maxFloodBytes = 64 << 10
	lockPatience  = time.Second
	lockRetry     = 5 * time.Millisecond
)

// RecordOnce appends one line to the file that all link handlers share, for a
// process that ends at once and has no agent to tell. Refusals alike beyond five
// in ten seconds are counted in a file beside it, and become one line with their
// number by the next call after that, or by the next agent: a page that fires a
// thousand bad links leaves six lines. sink and now may be nil. It waits for
// other handlers at most a second. Errors are as of Log.Record.
func RecordOnce(dir string, sink Sink, r Record, now func() time.Time) error {
	if now == nil {
		now = time.Now
	}
	return asProblem(underHandlerLock(dir, func() error {
		at := now()
		counted := readFloods(dir)
		write, due := counted.admit(at, r)
		return writeHandler(dir, sink, at, counted, due, func(c *chain) error {
			if !write {
				return nil
			}
			return c.append(at, lineOf(r))
		})
	}))
}

// flushHandler writes what handlers counted and nobody wrote.
func flushHandler(dir string, sink Sink, now time.Time) error {
	if _, err := os.Lstat(filepath.Join(dir, handlerFloods)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return underHandlerLock(dir, func() error {
		counted := readFloods(dir)
		due := counted.take(func(b *burst) bool { return !now.Before(b.end()) || now.Before(b.Start) })
		if len(due) == 0 {
			return nil
		}
		return writeHandler(dir, sink, now, counted, due, func(*chain) error { return nil })
	})
}

func writeHandler(dir string, sink Sink, now time.Time, counted floods, due []burst, then func(*chain) error) error {
	c := newChain(dir, handlerBase, sink)
	defer c.close()
	if err := c.open(now); err != nil {
		return err
	}
	var failed []error
	for _, b := range due {
		err := c.append(now, summaryOf(b))
		if err != nil && !errors.Is(err, ErrSink) {
			counted.putBack(b)
		}
		failed = append(failed, err)
	}
	failed = append(failed, then(c), writeFloods(dir, counted))
	return errors.Join(failed...)
}

func underHandlerLock(dir string, do func() error) error {
	if err := paths.EnsurePrivateDir(dir); err != nil {
		return err
	}
	file, err := paths.OpenFile(filepath.Join(dir, handlerLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("opening the handlers' lock: %w", err)
	}
	defer file.Close() // which gives the lock back
	for waited := time.Duration(0); ; waited += lockRetry {
		locked, err := tryLock(file)
		if err != nil {
			return fmt.Errorf("taking the handlers' lock: %w", err)
		}
		if locked {
			return do()
		}
		if waited >= lockPatience {
			return errors.New("another handler did not finish in time")
		}
		time.Sleep(lockRetry)
	}
}

// readFloods returns nothing for a file that is not there or is none: the count
// is a convenience, and the lines are what is kept.
func readFloods(dir string) floods {
	counted := floods{}
	file, err := paths.OpenFile(filepath.Join(dir, handlerFloods), os.O_RDONLY, 0)
	if err != nil {
		return counted
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFloodBytes))
	var bursts []burst
	if err != nil || json.Unmarshal(text, &bursts) != nil || len(bursts) > maxBursts {
		return counted
	}
	for _, b := range bursts {
		// Nothing from this file gets into a line that a record could not bring.
		clean := lineOf(Record{Outcome: Refused, Code: problem.Code(b.Code), Person: b.Person})
		if b.Pending < 0 || b.Written < 0 || len(clean.Withheld) > 0 {
			continue
		}
		counted[keyOf(clean)] = &b
	}
	return counted
}

func writeFloods(dir string, counted floods) error {
	bursts := make([]burst, 0, len(counted))
	for _, b := range counted {
		bursts = append(bursts, *b)
	}
	text, err := json.Marshal(bursts)
	if err != nil {
		return errors.New("the count cannot be encoded")
	}
	path := filepath.Join(dir, handlerFloods)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return fmt.Errorf("writing the count: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("writing the count: %w", err)
	}
	return nil
}
