package libraries

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestALibraryThatLiesBesideTheProgramOrInTheCallersFolderIsNotLoaded(t *testing.T) {
	const notFound = syscall.Errno(126) // ERROR_MOD_NOT_FOUND
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	t.Chdir(folder)
	for name, at := range map[string]string{"planted-beside.dll": filepath.Dir(program), "planted-here.dll": folder} {
		file := filepath.Join(at, name)
		if err := os.WriteFile(file, []byte("MZ, and no library"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(file) })
		// One that was found would be refused as what it is.
		if _, err := syscall.LoadLibrary(name); !errors.Is(err, notFound) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := syscall.LoadLibrary(file); err == nil || errors.Is(err, notFound) {
			t.Errorf("by its whole path %s was not looked at: %v", name, err)
		}
	}
	if _, err := syscall.LoadLibrary("winhttp.dll"); err != nil {
		t.Errorf("a library of the system's: %v", err)
	}
}
