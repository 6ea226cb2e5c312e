package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// opened is a package that was taken apart into a folder of its own.
type opened struct {
	folder     string
	files      []packedFile
	properties []cdx.Property
}

// packedFile is a regular file of a package: name is what the package calls it, at is
// where it lies now.
type packedFile struct{ name, at string }

func (o opened) close() { os.RemoveAll(o.folder) }

// packageKind is the ending of a package's name, and empty for a program.
func packageKind(path string) string {
	switch kind := strings.TrimPrefix(filepath.Ext(path), "."); kind {
	case "deb", "rpm", "msi":
		return kind
	}
	return ""
}

// isProgram says whether a file is a program of Go.
func isProgram(path string) bool {
	_, err := buildinfo.ReadFile(path)
	return err == nil
}

// openPackage takes a package apart by the tools of its kind, which install nothing.
func openPackage(kind, path string) (o opened, err error) {
	if o.folder, err = os.MkdirTemp("", "supply-"); err != nil {
		return opened{}, err
	}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	switch kind {
	case "deb":
		err = run(exec.Command("dpkg-deb", "-x", path, o.folder))
	case "rpm":
		err = unpackRPM(path, o.folder)
	case "msi":
		err = run(exec.Command("msiextract", "-C", o.folder, path))
	}
	if err != nil {
		return opened{}, err
	}
	if err := filepath.WalkDir(o.folder, func(at string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(o.folder, at)
		o.files = append(o.files, packedFile{name: filepath.ToSlash(name), at: at})
		return err
	}); err != nil {
		return opened{}, err
	}
	slices.SortFunc(o.files, func(a, b packedFile) int { return strings.Compare(a.name, b.name) })
	o.properties, err = needed(kind, path)
	return o, err
}

func unpackRPM(path, folder string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	unpack, extract := exec.Command("rpm2archive", "-n", "-"), exec.Command("tar", "-x", "-C", folder)
	unpack.Stdin = file
	if extract.Stdin, err = unpack.StdoutPipe(); err != nil {
		return err
	}
	if err := unpack.Start(); err != nil {
		return fmt.Errorf("rpm2archive: %w", err)
	}
	if err := run(extract); err != nil {
		return err
	}
	return unpack.Wait()
}

// needed are the packages of a distribution that a package wants beside it and does
// not contain.
func needed(kind, path string) (properties []cdx.Property, err error) {
	add := func(name, value string) {
		if value = strings.TrimSpace(value); value != "" && !strings.HasPrefix(value, "rpmlib(") {
			properties = append(properties, cdx.Property{Name: name, Value: value})
		}
	}
	ask := map[string][]string{
		"deb depends": {"dpkg-deb", "-f", path, "Depends"}, "deb recommends": {"dpkg-deb", "-f", path, "Recommends"},
		"rpm depends": {"rpm", "-qp", "--nosignature", "--requires", path}, "rpm recommends": {"rpm", "-qp", "--nosignature", "--recommends", path},
	}
	for what, name := range map[string]string{"depends": propertyDepends, "recommends": propertyRecommends} {
		args := ask[kind+" "+what]
		if args == nil {
			continue
		}
		out, err := exec.Command(args[0], args[1:]...).Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", args[0], err)
		}
		for _, one := range strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' || r == ',' && kind == "deb" }) {
			add(name, one)
		}
	}
	slices.SortStableFunc(properties, func(a, b cdx.Property) int { return strings.Compare(a.Name+a.Value, b.Name+b.Value) })
	return properties, nil
}

func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, out)
	}
	return nil
}
