package assertion

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// putKey writes a new key where another program would: beside it, then over it.
func putKey(t *testing.T, file string) (kid string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	public, err := Key{Signer: key}.public(Nabla)
	if err != nil {
		t.Fatal(err)
	}
	return public.KeyID
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func published(t *testing.T, f *Files) []string {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(f.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, k := range set.Keys {
		if !k.IsPublic() {
			t.Error("a private key is published")
		}
		ids = append(ids, k.KeyID)
	}
	return ids
}

func signedBy(t *testing.T, f *Files) string {
	t.Helper()
	text, err := f.Assert("client", "audience", time.Unix(1_700_000_000, 0), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	return token.Headers[0].KeyID
}

func TestKeysRotateWithoutARestart(t *testing.T) {
	first, second := filepath.Join(t.TempDir(), "first.pem"), filepath.Join(t.TempDir(), "second.pem")
	a, b := putKey(t, first), putKey(t, second)
	f, err := OpenFiles(FilesConfig{Names: []string{first, second}, Algorithms: Nabla})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(published(t, f), " "); got != a+" "+b || signedBy(t, f) != a {
		t.Fatalf("published %s", got)
	}
	// The second becomes the first, and a new one is announced.
	if err := os.Rename(second, first); err != nil {
		t.Fatal(err)
	}
	c := putKey(t, second)
	if by := signedBy(t, f); by != b {
		t.Errorf("signed by %s", by)
	}
	if got := strings.Join(published(t, f), " "); got != b+" "+c {
		t.Errorf("published %s", got)
	}
}

func TestABrokenFileLeavesTheKeysOfBeforeInUseAndIsLoggedOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.pem")
	for name, change := range map[string]func(){
		"rubbish":        func() { put(t, file, "Kanarienvogel") },
		"half a file":    func() { put(t, file, "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49") },
		"gone":           func() { _ = os.Remove(file) },
		"a public key":   func() { put(t, file, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n") },
		"far too large":  func() { put(t, file, strings.Repeat("x", maxKeyBytes+1)) },
		"an empty file":  func() { put(t, file, "") },
		"a folder there": func() { _ = os.Remove(file); _ = os.Mkdir(file, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(file)
			kid := putKey(t, file)
			var log bytes.Buffer
			f, err := OpenFiles(FilesConfig{Names: []string{file}, Algorithms: Nabla, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			change()
			for range 3 {
				if by := signedBy(t, f); by != kid {
					t.Errorf("signed by %s", by)
				}
			}
			if n := strings.Count(log.String(), "level=WARN"); n != 1 || strings.Contains(log.String(), "Kanarienvogel") {
				t.Errorf("%d warnings: %s", n, log.String())
			}
			if err := f.Reload(); err == nil {
				t.Error("Reload did not tell")
			}
			_ = os.Remove(file)
			next := putKey(t, file)
			if by := signedBy(t, f); by != next {
				t.Error("a file that was mended is not used")
			}
		})
	}
}

func TestAFileThatCanBeUsedAfterAllIsUsedAlthoughItLooksTheSame(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.pem")
	before := putKey(t, file)
	refuse, reads := false, 0
	now := time.Unix(1_700_000_000, 0)
	var log bytes.Buffer
	f, err := OpenFiles(FilesConfig{
		Names: []string{file}, Algorithms: Nabla, Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return now },
		Read: func(name string) ([]byte, error) {
			reads++
			if refuse {
				return nil, errors.New("others may read it")
			}
			return os.ReadFile(name)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	refuse = true
	after := putKey(t, file)
	for range 100 {
		if by := signedBy(t, f); by != before {
			t.Errorf("signed by %s", by)
		}
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || reads != 2 {
		t.Errorf("%d warnings, %d times read", n, reads)
	}
	now = now.Add(againAfter)
	signedBy(t, f)
	refuse = false
	if by := signedBy(t, f); by != before || reads != 3 {
		t.Errorf("signed by %s, %d times read", by, reads)
	}
	now = now.Add(againAfter)
	if by := signedBy(t, f); by != after {
		t.Error("a file that can be used now is not")
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings", n)
	}
}

func TestTheFirstReadingMustSucceed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.pem")
	if _, err := OpenFiles(FilesConfig{Names: []string{file}, Algorithms: Nabla}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	putKey(t, file)
	refused := errors.New("others may read it")
	if _, err := OpenFiles(FilesConfig{Names: []string{file}, Algorithms: Nabla, Read: func(string) ([]byte, error) { return nil, refused }}); !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
	if _, err := OpenFiles(FilesConfig{Names: []string{file, file}, Algorithms: Nabla}); err == nil {
		t.Error("one key twice was taken")
	}
}

func TestKeysMayRotateUnderManyCallers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.pem")
	known := map[string]bool{putKey(t, file): true}
	f, err := OpenFiles(FilesConfig{Names: []string{file}, Algorithms: Nabla})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	used := map[string]bool{}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				kid := signedBy(t, f)
				mu.Lock()
				used[kid] = true
				mu.Unlock()
			}
		})
	}
	for range 5 {
		known[putKey(t, file)] = true
	}
	group.Wait()
	for kid := range used {
		if !known[kid] {
			t.Error("an assertion was signed by a key that there never was")
		}
	}
}
