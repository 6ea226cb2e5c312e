//go:build unix

package orgserver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"encounterlauncher/internal/orgconfig"
)

func TestAFileThatDecidesWhomToBelieveIsRefusedWhereEverybodyCanWriteIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	readers := map[string]func() error{
		"configuration":  func() error { _, err := orgconfig.Load(file); return err },
		"ca_file":        func() error { _, err := orgconfig.ReadAuthorities(file); return err },
		"client_ca_file": func() error { _, err := clientCertificates(orgconfig.Config{ClientCAFile: file}); return err },
		"link_keys_file": func() error { _, err := newRequestKeys(file); return err },
		"mapping_file":   func() error { _, err := newIdentities(orgconfig.Config{MappingFile: file}); return err },
		"context_file":   func() error { _, err := newContextSource(file, nil); return err },
	}
	for mode, refused := range map[os.FileMode]bool{0o600: false, 0o644: false, 0o664: false, 0o646: true, 0o666: true} {
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		for key, read := range readers {
			err := read() // what stands in the file is none of them
			if got := err != nil && strings.Contains(err.Error(), "everybody can write the file"); got != refused {
				t.Errorf("%s, mode %04o: %v", key, mode, err)
			}
			if err == nil {
				t.Errorf("%s: nonsense was taken", key)
			}
		}
	}
}
