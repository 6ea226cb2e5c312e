//go:build attackers && linux

package attackers

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	ehrSecret      = "the-secret-of-the-ehr-server-0123456789"
	callbackSecret = "the-secret-shared-with-nabla-0123456789"
)

func TestAnotherUserReachesNothingOfARunningBackend(t *testing.T) {
	// Whoever runs a service is an ordinary user too.
	service, dir := clinician, place(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	seal := make([]byte, 32)
	_, _ = rand.Read(seal)
	etc := service.folder(t, filepath.Join(dir, "etc"), 0o755)
	for name, text := range map[string]string{
		"nabla.pem": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"ehr":       ehrSecret, "callback": callbackSecret, "seal": base64.StdEncoding.EncodeToString(seal),
	} {
		service.file(t, filepath.Join(etc, name), text+"\n", 0o600)
	}
	lib, run := service.folder(t, filepath.Join(dir, "lib"), 0o755), service.folder(t, filepath.Join(dir, "run"), 0o755)
	socket := filepath.Join(run, "admin.sock")
	config := service.file(t, filepath.Join(etc, "config.yaml"), `listen: 127.0.0.1:0
admin_socket: `+socket+`
public_url: https://backend.hospital.example/launcher
issuer: https://idp.hospital.example
audience: org-backend
launcher_client_id: encounter-launcher
ehrs:
  - {name: ehr, secret_file: ehr}
nabla:
  region: eu
  client_id: 6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11
  key_files: [nabla.pem]
callbacks: {secret_files: [callback]}
deliver: {folder: `+filepath.Join(lib, "exports")+`}
nats: {folder: `+filepath.Join(lib, "queue")+`, seal_key_files: [seal]}
audit: {file: `+filepath.Join(lib, "audit", "audit.jsonl")+`}
`, 0o644)

	env := []string{"PATH=/usr/bin:/bin", "HOME=" + lib}
	program := filepath.Join(bin, "org-backend")
	cmd := service.command(env, program, "serve", "--config", config)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	running(t, cmd)
	addresses := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(said); lines.Scan(); {
			var line struct{ Msg, Address string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
				addresses <- "http://" + line.Address
			}
		}
	}()
	var at string
	select {
	case at = <-addresses:
	case <-time.After(patience):
		t.Fatal("the backend does not listen")
	}

	do := func(path, body string, header map[string]string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		for name, value := range header {
			r.Header.Set(name, value)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode >= 300 {
			t.Fatalf("%s: %d %s", path, answer.StatusCode, text)
		}
	}
	do("/launcher/launches", `{"provider_email":"ada@hospital.example","external_provider_id":"D-1","external_patient_id":"P-1","external_encounter_id":"E-1","structured_context":{"patient_demographics":{"name":"Ada Example","birth_date":"1960-01-01","gender":"female","pronouns":null}}}`,
		map[string]string{"Authorization": "Bearer " + ehrSecret})
	note := `{"request_uuid":"r-1","type":"PATIENT_INSTRUCTIONS_EXPORT","data":{"external_patient_id":"P-1","external_encounter_id":"E-1","external_provider_id":"D-17","patient_instructions":{"instructions":"Rest."}}}`
	stamp := time.Now().UTC().Format(time.RFC3339)
	mac := hmac.New(sha256.New, []byte(callbackSecret))
	mac.Write([]byte(stamp + note))
	do("/launcher/nabla/callbacks", note, map[string]string{"X-Nabla-Connect-Timestamp": stamp, "X-Nabla-Connect-Signature": hex.EncodeToString(mac.Sum(nil))})
	until(t, "the export", func() bool {
		files, _ := filepath.Glob(filepath.Join(lib, "exports", "[^.]*"))
		return len(files) > 0
	})

	t.Run("files", func(t *testing.T) {
		written := slices.Concat(below(t, filepath.Join(lib, "exports"), filepath.Join(lib, "queue"), filepath.Join(lib, "audit")), []string{socket, socket + ".lock"})
		for _, path := range written {
			info, err := os.Lstat(path)
			if err != nil {
				continue // the queue's files come and go
			}
			if mode := info.Mode().Perm(); mode&0o077 != 0 && !strings.Contains(path, "/queue/") || info.Mode().Type() == fs.ModeSymlink {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
		}
		if len(written) < 15 {
			t.Errorf("only %v was looked at", written)
		}
		for _, name := range []string{"nabla.pem", "ehr", "callback", "seal"} {
			written = append(written, filepath.Join(etc, name))
		}
		if could := tries[[]string](t, attacker, lines(written), "look"); len(could) > 0 {
			t.Errorf("another user could %s", strings.Join(could, ", "))
		}
		t.Logf("%d files and folders", len(written))
	})

	t.Run("admin socket", func(t *testing.T) {
		if a := tries[answer](t, attacker, nil, "connect", socket); !strings.Contains(a.Dialled, "permission denied") {
			t.Errorf("connecting: %+v", a)
		}
		if err := os.Chmod(socket, 0o666); err != nil {
			t.Fatal(err)
		}
		if a := tries[answer](t, attacker, nil, "connect", socket); a.Dialled != "" || a.Said != "" {
			t.Errorf("with the socket open: %+v", a)
		}
		if out, err := attacker.command(env, program, "deliveries", "list", "--config", config).CombinedOutput(); err == nil {
			t.Errorf("another user has listed the deliveries: %s", out)
		}
		if out, err := service.command(env, program, "deliveries", "list", "--config", config).CombinedOutput(); err != nil {
			t.Errorf("the service's own user: %v, %s", err, out)
		}
	})

	t.Run("process", func(t *testing.T) {
		if could := tries[[]string](t, attacker, nil, "process", strconv.Itoa(cmd.Process.Pid)); len(could) > 0 {
			t.Errorf("another user could use %s", strings.Join(could, ", "))
		}
		if _, err := os.Stat("/proc/" + strconv.Itoa(cmd.Process.Pid)); err != nil {
			t.Error("the backend has ended")
		}
		const inode, state, listening = 9, 3, "0A"
		listeners := 0
		for _, table := range []string{"tcp", "tcp6"} {
			for _, fields := range tableOf(t, cmd.Process.Pid, table) {
				if len(fields) > inode && fields[state] == listening && owns(t, cmd.Process.Pid, fields[inode]) {
					listeners++
				}
			}
		}
		if listeners != 1 {
			t.Errorf("it listens on %d ports, not on one: NATS inside has none", listeners)
		}
	})

	t.Run("a folder of another's", func(t *testing.T) {
		theirs := attacker.folder(t, filepath.Join(dir, "theirs"), 0o755)
		text, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		for what, changed := range map[string]string{
			"admin_socket: its folder belongs to another user": strings.Replace(string(text), socket, filepath.Join(theirs, "admin.sock"), 1),
			"its folder belongs to another user; chown it":     strings.NewReplacer(filepath.Join(lib, "audit"), theirs, "admin_socket: "+socket+"\n", "").Replace(string(text)),
		} {
			// Root could write there, and would be given another's file.
			changed = strings.ReplaceAll(changed, lib, place(t)) // what else it needs is root's own
			file := root.file(t, filepath.Join(etc, "other.yaml"), changed, 0o644)
			own := root.command(env, program, "serve", "--config", file)
			out, err := own.CombinedOutput()
			if err == nil || !strings.Contains(string(out), what) {
				t.Errorf("%v, %s", err, out)
			}
		}
	})
}

// owns reports whether a process has a socket.
func owns(t *testing.T, pid int, inode string) bool {
	t.Helper()
	links, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(links, func(link string) bool {
		to, err := os.Readlink(link)
		return err == nil && to == "socket:["+inode+"]"
	})
}
