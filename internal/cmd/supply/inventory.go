package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
)

// part is something of others that an artefact contains.
type part struct {
	// kind is golang or npm: the type of its package URL.
	kind string
	name string
	// version is as its ecosystem writes it: with a v for a module of Go.
	version string
	// sum is the module's as go.sum has it (h1:…), or npm's integrity (sha512-…); empty
	// for Go's own library.
	sum string
	// needs are the names of other parts of the same artefact that it uses.
	needs []string
	// texts are its licences and notices.
	texts []text
	// licence is the SPDX expression for all its texts together.
	licence string
}

// id is unique among the parts of an artefact: the package URL without qualifiers.
func (p part) id() string {
	name := p.name
	if p.kind == "npm" {
		name = strings.Replace(name, "@", "%40", 1)
	}
	return "pkg:" + p.kind + "/" + name + "@" + strings.ReplaceAll(p.version, "+", "%2B")
}

// program is a finished program of ours and what it contains.
type program struct {
	path     string
	platform string
	settings []debug.BuildSetting
	parts    []part
}

// tree is a clone of the repository, where licences and lock files are found.
type tree struct {
	root  string
	rules rules
	// pages are what the window's pages contain, once somebody has asked.
	pages []part
}

// standard is how Go's own library is called among the parts, as advisories call it.
const standard = "std"

// listed is a package as the go command lists it.
type listed struct {
	ImportPath, Dir string
	Standard        bool
	Imports         []string
	EmbedFiles      []string
	Module          *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path, Version string }
	}
}

// read returns a program with its parts: modules by what the linker has written into
// the file, their licences from the folders of the packages that were compiled.
func (t *tree) read(path string) (program, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return program{}, fmt.Errorf("%s is no program of Go: %w", filepath.Base(path), err)
	}
	p := program{path: path, settings: info.Settings, platform: setting(info, "GOOS") + "-" + setting(info, "GOARCH")}
	packages, err := t.packages(info)
	if err != nil {
		return program{}, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	byModule := map[string][]listed{}
	moduleOf := map[string]string{}
	withPages := false
	for _, l := range packages {
		switch {
		case l.Standard:
			moduleOf[l.ImportPath] = standard
		case l.Module == nil:
			return program{}, fmt.Errorf("nobody knows whose %s is", l.ImportPath)
		case l.Module.Main:
			withPages = withPages || slices.ContainsFunc(l.EmbedFiles, func(f string) bool { return strings.HasPrefix(f, "frontend/dist/") })
		case l.Module.Replace != nil:
			return program{}, fmt.Errorf("%s is replaced by another module", l.Module.Path)
		default:
			moduleOf[l.ImportPath] = l.Module.Path
			byModule[l.Module.Path] = append(byModule[l.Module.Path], l)
		}
	}

	goRoot, err := t.output(nil, "go", "env", "GOROOT")
	if err != nil {
		return program{}, err
	}
	std := part{kind: "golang", name: standard, version: strings.TrimPrefix(info.GoVersion, "go")}
	if std.texts, err = textsBetween(strings.TrimSpace(goRoot), nil); err != nil {
		return program{}, err
	}
	p.parts = append(p.parts, std)
	for _, dep := range info.Deps {
		of := byModule[dep.Path]
		if len(of) == 0 || of[0].Module.Version != dep.Version {
			return program{}, fmt.Errorf("%s was built from another state of the tree: it has %s %s", filepath.Base(path), dep.Path, dep.Version)
		}
		m := part{kind: "golang", name: dep.Path, version: dep.Version, sum: dep.Sum}
		var folders []string
		for _, l := range of {
			folders = append(folders, l.Dir)
			for _, imported := range l.Imports {
				if to := moduleOf[imported]; to != "" && to != dep.Path {
					m.needs = append(m.needs, to)
				}
			}
		}
		slices.Sort(m.needs)
		m.needs = slices.Compact(m.needs)
		if m.texts, err = textsBetween(of[0].Module.Dir, folders); err != nil {
			return program{}, err
		}
		delete(byModule, dep.Path)
		p.parts = append(p.parts, m)
	}
	for module := range byModule {
		return program{}, fmt.Errorf("%s was built from another state of the tree: it has no %s", filepath.Base(path), module)
	}
	if withPages {
		pages, err := t.bundled()
		if err != nil {
			return program{}, err
		}
		for _, page := range pages {
			page.texts = slices.Clone(page.texts) // judging shortens them
			p.parts = append(p.parts, page)
		}
	}
	for i := range p.parts {
		if err := t.rules.judge(&p.parts[i]); err != nil {
			return program{}, err
		}
	}
	return p, nil
}

func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// packages lists what is compiled into a program, built as that one was.
func (t *tree) packages(info *debug.BuildInfo) ([]listed, error) {
	env := []string{"GOOS=" + setting(info, "GOOS"), "GOARCH=" + setting(info, "GOARCH"), "CGO_ENABLED=" + setting(info, "CGO_ENABLED")}
	out, err := t.output(env, "go", "list", "-deps", "-tags="+setting(info, "-tags"), "-json=ImportPath,Dir,Standard,Imports,EmbedFiles,Module", info.Path)
	if err != nil {
		return nil, err
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(out)); ; {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading what go list says: %w", err)
		}
		all = append(all, l)
	}
}

// bundled are the npm packages of which something is in the window's pages, by what
// the bundler itself put there.
func (t *tree) bundled() ([]part, error) {
	if t.pages != nil {
		return t.pages, nil
	}
	out, err := t.output(nil, "node", "build/supply/bundle.mjs")
	if err != nil {
		return nil, err
	}
	var found []struct{ Name, Version, Licence, Folder string }
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		return nil, fmt.Errorf("reading what is in the pages: %w", err)
	}
	sums, err := lockedSums(filepath.Join(t.root, "frontend", "package-lock.json"))
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		p := part{kind: "npm", name: f.Name, version: f.Version, sum: sums[f.Name+"@"+f.Version]}
		if p.sum == "" {
			return nil, fmt.Errorf("%s %s of the pages is not in the lock file", f.Name, f.Version)
		}
		if p.texts, err = textsBetween(f.Folder, nil); err != nil {
			return nil, err
		}
		t.pages = append(t.pages, p)
	}
	if len(t.pages) == 0 {
		return nil, errors.New("the pages contain no package, which cannot be")
	}
	return t.pages, nil
}

// lockedSums returns the integrity of every package in a lock file of npm, by name@version.
func lockedSums(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var lock struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	if err := json.Unmarshal(data, &lock); err != nil {
		return nil, fmt.Errorf("reading the lock file: %w", err)
	}
	sums := map[string]string{}
	for folder, p := range lock.Packages {
		if at := strings.LastIndex(folder, "node_modules/"); at >= 0 {
			sums[folder[at+len("node_modules/"):]+"@"+p.Version] = p.Integrity
		}
	}
	return sums, nil
}

// partsOf returns what the programs contain together, each part once, in the order of
// their names.
func (t *tree) partsOf(paths []string) ([]part, error) {
	var programs []program
	for _, path := range paths {
		p, err := t.read(path)
		if err != nil {
			return nil, err
		}
		programs = append(programs, p)
	}
	return together(programs), nil
}

func together(programs []program) []part {
	byID := map[string]part{}
	for _, p := range programs {
		for _, of := range p.parts {
			if had, ok := byID[of.id()]; ok {
				// One program links packages of a module that another does not.
				of.needs = append(slices.Clone(of.needs), had.needs...)
				of.texts = append(slices.Clone(of.texts), had.texts...)
				of.licence = expression(of.licence, had.licence)
			}
			slices.Sort(of.needs)
			of.needs = slices.Compact(of.needs)
			slices.SortFunc(of.texts, func(a, b text) int { return strings.Compare(a.file, b.file) })
			of.texts = slices.CompactFunc(of.texts, func(a, b text) bool { return a.file == b.file })
			byID[of.id()] = of
		}
	}
	var all []part
	for _, p := range byID {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b part) int { return strings.Compare(a.id(), b.id()) })
	return all
}

// output runs a tool in the tree and returns what it prints. Its error says what the
// tool said.
func (t *tree) output(env []string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = t.root
	cmd.Env = append(os.Environ(), env...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, args[0], err, said.String())
	}
	return string(out), nil
}
