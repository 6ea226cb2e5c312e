//go:build unix

package orgstore

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgstore/natstest"
)

func TestTheFolderIsOursAlone(t *testing.T) {
	dir := t.TempDir()
	cfg := orgconfig.NATS{Folder: filepath.Join(dir, "store"), SealKeyFiles: []string{natstest.SealKey(t, dir, "a")}}
	c, err := Connect(cfg)
	if err != nil {
		t.Fatal(err)
	}
	filed(t, c, "one")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(cfg.Folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(cfg.Folder, 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := Connect(cfg); err == nil || !strings.Contains(err.Error(), "nats.folder: others may look into it") {
		t.Errorf("%v", err)
	}
}

func TestAFileWithASecretThatOthersMayReadIsRefusedByItsKey(t *testing.T) {
	cluster := natstest.Start(t, 1)
	good := cluster.Config
	for key, file := range map[string]string{"nats.credentials_file": good.CredentialsFile, "nats.key_file": good.KeyFile, "nats.seal_key_files": good.SealKeyFiles[0]} {
		if err := os.Chmod(file, 0o604); err != nil {
			t.Fatal(err)
		}
		if err := Check(good); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Check(good); err != nil {
		t.Error(err)
	}
}
