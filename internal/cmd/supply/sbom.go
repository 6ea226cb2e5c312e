package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/uuid"
)

// specification is the version of CycloneDX that is written (ECMA-424, first edition).
const specification = cdx.SpecVersion1_6

// The names of our own properties.
const (
	propertySum        = "encounter-launcher:go:sum" // as in go.sum
	propertyBuild      = "encounter-launcher:go:build"
	propertyGo         = "encounter-launcher:go:version"
	propertyDepends    = "encounter-launcher:package:depends" // needed and not contained
	propertyRecommends = "encounter-launcher:package:recommends"
	propertyInside     = "encounter-launcher:package:path"
	propertyLicence    = "encounter-launcher:licence"
)

// writeBills writes the bill of every artefact and checks what it has written.
func writeBills(w io.Writer, t *tree, version string, at time.Time, into string, paths []string) error {
	for _, path := range paths {
		data, platform, err := billOf(t, path, version, at)
		if err != nil {
			return err
		}
		to := path + ".cdx.json"
		if into != "" {
			to = filepath.Join(into, platform, filepath.Base(path)+".cdx.json")
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			return err
		}
		if err := verify(t.root, path, to); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(to), err)
		}
		var bom cdx.BOM
		if err := cdx.NewBOMDecoder(bytes.NewReader(data), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
			return err
		}
		fmt.Fprintf(w, "%-72s %3d components, %d bytes\n", to, len(*bom.Components), len(data))
	}
	return nil
}

// billOf returns the bill of a program or a package. The same artefact, version and
// moment make the same bytes.
func billOf(t *tree, path, version string, at time.Time) ([]byte, string, error) {
	sum, err := sumOf(path)
	if err != nil {
		return nil, "", err
	}
	name := filepath.Base(path)
	subject := cdx.Component{
		BOMRef: name, Type: cdx.ComponentTypeApplication, Name: name, Version: version, Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sum}},
		// Which licence it has is its owner's to say, and has not been said.
		Properties: &[]cdx.Property{{Name: propertyLicence, Value: "none is given: as agreed with the owner"}},
	}
	bom := cdx.NewBOM()
	bom.SerialNumber = uuid.NewSHA1(uuid.NameSpaceURL, []byte("sha256:"+sum)).URN()
	bom.Metadata = &cdx.Metadata{
		Timestamp: at.Format(time.RFC3339), Lifecycles: &[]cdx.Lifecycle{{Phase: cdx.LifecyclePhasePostBuild}},
		Tools: &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, Name: "encounterlauncher/internal/cmd/supply"}}},
	}
	var programs []program
	var own []cdx.Component
	links := map[string][]string{}
	platform := "packages"
	if kind := packageKind(path); kind == "" {
		p, err := t.read(path)
		if err != nil {
			return nil, "", err
		}
		programs, platform = []program{p}, p.platform
		*subject.Properties = append(*subject.Properties, builtBy(p)...)
		links[name] = used(p)
	} else {
		inside, err := openPackage(kind, path)
		if err != nil {
			return nil, "", err
		}
		defer inside.close()
		*subject.Properties = append(*subject.Properties, inside.properties...)
		for _, f := range inside.files {
			c, p, err := t.packed(f)
			if err != nil {
				return nil, "", err
			}
			own = append(own, c)
			links[name] = append(links[name], c.BOMRef)
			if p != nil {
				programs = append(programs, *p)
				links[c.BOMRef] = used(*p)
			}
		}
		if len(programs) == 0 {
			return nil, "", fmt.Errorf("%s contains no program", name)
		}
	}
	bom.Metadata.Component = &subject

	parts := together(programs)
	byName := map[string]string{}
	for _, p := range parts {
		byName[p.name] = p.id()
	}
	components := own
	for _, p := range parts {
		c, err := p.component()
		if err != nil {
			return nil, "", err
		}
		components = append(components, c)
		links[c.BOMRef] = nil
		for _, need := range p.needs {
			if to := byName[need]; to != "" {
				links[c.BOMRef] = append(links[c.BOMRef], to)
			}
		}
	}
	bom.Components = &components
	bom.Dependencies = graph(links)
	var out bytes.Buffer
	if err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, specification); err != nil {
		return nil, "", fmt.Errorf("writing the bill of %s: %w", name, err)
	}
	return out.Bytes(), platform, nil
}

// packed is a file of a package as a component, and as a program where it is one.
func (t *tree) packed(f packedFile) (cdx.Component, *program, error) {
	sum, err := sumOf(f.at)
	if err != nil {
		return cdx.Component{}, nil, err
	}
	c := cdx.Component{
		BOMRef: "file:" + f.name, Type: cdx.ComponentTypeFile, Name: f.name,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sum}},
	}
	if !isProgram(f.at) {
		return c, nil, nil
	}
	p, err := t.read(f.at)
	if err != nil {
		return cdx.Component{}, nil, err
	}
	properties := builtBy(p)
	c.Type, c.Properties = cdx.ComponentTypeApplication, &properties
	return c, &p, nil
}

func builtBy(p program) []cdx.Property {
	properties := []cdx.Property{}
	for _, s := range p.settings {
		properties = append(properties, cdx.Property{Name: propertyBuild, Value: s.Key + "=" + s.Value})
	}
	for _, of := range p.parts {
		if of.name == standard {
			properties = append(properties, cdx.Property{Name: propertyGo, Value: "go" + of.version})
		}
	}
	return properties
}

func used(p program) (ids []string) {
	for _, of := range p.parts {
		ids = append(ids, of.id())
	}
	return ids
}

// component is a part as CycloneDX has it.
func (p part) component() (cdx.Component, error) {
	c := cdx.Component{
		BOMRef: p.id(), Type: cdx.ComponentTypeLibrary, Name: p.name, Version: p.version, PackageURL: p.id(), Scope: cdx.ScopeRequired,
		Licenses: &cdx.Licenses{{Expression: p.licence}},
	}
	if len(identifiers(p.licence)) == 1 {
		c.Licenses = &cdx.Licenses{{License: &cdx.License{ID: p.licence, Acknowledgement: cdx.LicenseAcknowledgementConcluded}}}
	}
	if p.sum == "" {
		return c, nil
	}
	algorithm, encoded := cdx.HashAlgoSHA256, strings.TrimPrefix(p.sum, "h1:")
	if rest, ok := strings.CutPrefix(p.sum, "sha512-"); ok {
		algorithm, encoded = cdx.HashAlgoSHA512, rest
	} else {
		// It is the hash of a list of hashes of files (golang.org/x/mod/sumdb/dirhash), so
		// it is also given as go.sum has it.
		c.Properties = &[]cdx.Property{{Name: propertySum, Value: p.sum}}
	}
	sum, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return cdx.Component{}, fmt.Errorf("the sum of %s cannot be read: %w", p.name, err)
	}
	c.Hashes = &[]cdx.Hash{{Algorithm: algorithm, Value: hex.EncodeToString(sum)}}
	return c, nil
}

// graph is what uses what, in order.
func graph(links map[string][]string) *[]cdx.Dependency {
	var all []cdx.Dependency
	for ref, to := range links {
		slices.Sort(to)
		to = slices.Compact(to)
		d := cdx.Dependency{Ref: ref}
		if len(to) > 0 {
			d.Dependencies = &to
		}
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b cdx.Dependency) int { return strings.Compare(a.Ref, b.Ref) })
	return &all
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
