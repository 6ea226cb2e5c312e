package systemdlls

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestNoLibraryIsLoadedFromBesideTheProgramFromTheCurrentFolderOrFromPath(t *testing.T) {
	if !done {
		t.Fatal("the system has not taken it")
	}
	system := filepath.Join(os.Getenv("SystemRoot"), "system32")
	// A library that nothing has loaded yet, under a name that the system has not.
	text, err := os.ReadFile(filepath.Join(system, "bcryptprimitives.dll"))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	current, onPath := t.TempDir(), t.TempDir()
	for name, dir := range map[string]string{"planted-beside.dll": filepath.Dir(self), "planted-current.dll": current, "planted-path.dll": onPath} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(file) })
	}
	t.Chdir(current)
	t.Setenv("PATH", onPath+";"+os.Getenv("PATH"))
	for name, dir := range map[string]string{"planted-beside.dll": filepath.Dir(self), "planted-current.dll": current, "planted-path.dll": onPath} {
		if h, err := syscall.LoadLibrary(name); err == nil {
			_ = syscall.FreeLibrary(h)
			t.Errorf("%s was loaded", name)
		}
		// Whoever names a folder gets it: it is a library.
		h, err := syscall.LoadLibrary(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%s proves nothing: %v", name, err)
			continue
		}
		_ = syscall.FreeLibrary(h)
	}
	if h, err := syscall.LoadLibrary("version.dll"); err != nil {
		t.Errorf("the system's own: %v", err)
	} else {
		_ = syscall.FreeLibrary(h)
	}
}
