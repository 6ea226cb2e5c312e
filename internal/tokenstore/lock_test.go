package tokenstore

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// The variables by which the test binary runs as another process of the user.
const (
	roleVariable = "TOKENSTORE_TEST_ROLE"
	lockVariable = "TOKENSTORE_TEST_LOCK"
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "count":
		os.Exit(countUnderLock(os.Getenv(lockVariable), 300))
	case "hold":
		os.Exit(holdLock(os.Getenv(lockVariable)))
	case "secret":
		os.Exit(printSecret(os.Getenv(lockVariable)))
	}
	os.Exit(m.Run())
}

func process(role, lockFile string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, lockVariable+"="+lockFile)
	cmd.Stderr = os.Stderr
	return cmd
}

// countUnderLock adds one to a number in a file, in a way that loses counts
// unless it is alone.
func countUnderLock(lockFile string, times int) int {
	s := New(Memory(), testService, lockFile, time.Minute)
	for range times {
		unlock, err := s.Lock(context.Background())
		if err != nil {
			return 1
		}
		text, err := os.ReadFile(lockFile + ".count")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 1
		}
		n, _ := strconv.Atoi(string(text))
		if err := os.WriteFile(lockFile+".count", []byte(strconv.Itoa(n+1)), 0o600); err != nil {
			return 1
		}
		unlock()
	}
	return 0
}

func holdLock(lockFile string) int {
	if _, err := New(Memory(), testService, lockFile, time.Minute).Lock(context.Background()); err != nil {
		return 1
	}
	_, _ = os.Stdout.WriteString("held\n")
	_, _ = os.Stdin.Read(make([]byte, 1))
	return 0 // without giving it back
}

func printSecret(lockFile string) int {
	s := New(OS(), testService, lockFile, time.Minute)
	value, err := s.Secret(context.Background(), "raced", func() (secret.Text, error) {
		return secret.New("made by " + strconv.Itoa(os.Getpid())), nil
	})
	if err != nil {
		return 1
	}
	_, _ = os.Stdout.WriteString(value.Reveal())
	return 0
}

func TestTheLockKeepsProcessesAndStoresApart(t *testing.T) {
	lockFile := filepath.Join(t.TempDir(), "state", "user.lock")
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if err := process("count", lockFile).Run(); err != nil {
				t.Errorf("a process: %v", err)
			}
		})
		all.Go(func() {
			if countUnderLock(lockFile, 300) != 0 {
				t.Error("a store of this process failed")
			}
		})
	}
	all.Wait()
	text, err := os.ReadFile(lockFile + ".count")
	if err != nil || string(text) != "1200" {
		t.Errorf("counted %q, %v", text, err)
	}
	info, err := os.Stat(filepath.Dir(lockFile))
	if err != nil || !closedToOthers(info) {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
}

func TestAWaiterLeavesWhenItsContextEndsAndAGoneProcessGivesTheLockBack(t *testing.T) {
	lockFile := filepath.Join(t.TempDir(), "user.lock")
	holder := process("hold", lockFile)
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("%q, %v", line, err)
	}
	s := New(Memory(), testService, lockFile, time.Minute)
	ctx, cancel := context.WithCancel(context.Background())
	waited := make(chan error, 1)
	go func() { _, err := s.Lock(ctx); waited <- err }()
	cancel()
	if err := <-waited; problem.CodeOf(err) != problem.Cancelled {
		t.Errorf("cancelled: %v", err)
	}
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(short); problem.CodeOf(err) != problem.Internal {
		t.Errorf("out of time: %v", err)
	}
	go func() { unlock, err := s.Lock(context.Background()); unlock(); unlock(); waited <- err }()
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Errorf("after the holder was gone: %v", err)
	}
	if err := holder.Wait(); err != nil {
		t.Error(err)
	}
	unlock, err := s.Lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestALockThatCannotBeMadeIsAProblemWithoutThePath(t *testing.T) {
	base := t.TempDir()
	if err := os.WriteFile(filepath.Join(base, "dr-canary"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := New(Memory(), testService, filepath.Join(base, "dr-canary", "user.lock"), 0).Lock(context.Background())
	if problem.CodeOf(err) != problem.Internal || strings.Contains(problem.Of(err).LogValue().String(), "canary") {
		t.Errorf("got %v", problem.Of(err).LogValue())
	}
}

func TestASecretIsMadeOnceByManyStores(t *testing.T) {
	k := Memory()
	lockFile := filepath.Join(t.TempDir(), "user.lock")
	var mu sync.Mutex
	made := 0
	values := map[string]bool{}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			value, err := New(k, testService, lockFile, time.Minute).Secret(context.Background(), "recents", func() (secret.Text, error) {
				mu.Lock()
				defer mu.Unlock()
				made++
				return secret.New("number " + strconv.Itoa(made)), nil
			})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			values[value.Reveal()] = true
		})
	}
	all.Wait()
	if made != 1 || len(values) != 1 {
		t.Errorf("made %d, seen %v", made, values)
	}
}
