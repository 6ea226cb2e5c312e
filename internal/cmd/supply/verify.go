package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// verify says whether a bill is valid, is that of this artefact, and has everything
// that the go command finds in it. It asks the go command and not what wrote the bill.
func verify(root, artefact, bill string) error {
	data, err := os.ReadFile(bill)
	if err != nil {
		return err
	}
	if err := valid(root, data); err != nil {
		return err
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(data), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		return err
	}
	sum, err := sumOf(artefact)
	if err != nil {
		return err
	}
	if bom.Metadata == nil || bom.Metadata.Component == nil || !hasHash(*bom.Metadata.Component, sum) {
		return fmt.Errorf("it is not that of %s, whose SHA-256 is %s", filepath.Base(artefact), sum)
	}
	if bom.Components == nil {
		return errors.New("it has no component")
	}
	if kind := packageKind(artefact); kind != "" {
		inside, err := openPackage(kind, artefact)
		if err != nil {
			return err
		}
		defer inside.close()
		for _, f := range inside.files {
			sum, err := sumOf(f.at)
			if err != nil {
				return err
			}
			if c := find(bom, "file:"+f.name); c == nil || !hasHash(*c, sum) {
				return fmt.Errorf("it lacks the file %s, or has another", f.name)
			}
			if isProgram(f.at) {
				if err := complete(root, bom, f.at); err != nil {
					return fmt.Errorf("%s: %w", f.name, err)
				}
			}
		}
		return nil
	}
	return complete(root, bom, artefact)
}

// complete says whether everything that `go version -m` tells of a program is in the
// bill, with version, sum and licence.
func complete(root string, bom cdx.BOM, path string) error {
	full, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	out, err := (&tree{root: root}).output(nil, "go", "version", "-m", full)
	if err != nil {
		return err
	}
	modules := 0
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if f[0] != "dep" || len(f) < 4 {
			continue
		}
		modules++
		c := find(bom, part{kind: "golang", name: f[1], version: f[2]}.id())
		switch {
		case c == nil || c.Name != f[1] || c.Version != f[2]:
			return fmt.Errorf("it lacks %s %s", f[1], f[2])
		case c.Properties == nil || !hasProperty(*c, propertySum, f[3]):
			return fmt.Errorf("its %s has not the sum %s", f[1], f[3])
		case c.Licenses == nil || len(*c.Licenses) == 0:
			return fmt.Errorf("its %s has no licence", f[1])
		}
	}
	_, goVersion, _ := strings.Cut(strings.SplitN(out, "\n", 2)[0], ": go")
	if find(bom, part{kind: "golang", name: standard, version: goVersion}.id()) == nil {
		return fmt.Errorf("it lacks Go's own library %s", goVersion)
	}
	if modules == 0 {
		return errors.New("the program says of no module")
	}
	return nil
}

func find(bom cdx.BOM, ref string) *cdx.Component {
	for i, c := range *bom.Components {
		if c.BOMRef == ref {
			return &(*bom.Components)[i]
		}
	}
	return nil
}

func hasHash(c cdx.Component, sum string) bool {
	if c.Hashes == nil {
		return false
	}
	for _, h := range *c.Hashes {
		if h.Algorithm == cdx.HashAlgoSHA256 && h.Value == sum {
			return true
		}
	}
	return false
}

func hasProperty(c cdx.Component, name, value string) bool {
	for _, p := range *c.Properties {
		if p.Name == name && p.Value == value {
			return true
		}
	}
	return false
}

// valid holds a bill against the schema of CycloneDX 1.6, which the module that writes
// it brings along.
func valid(root string, data []byte) error {
	folder, err := (&tree{root: root}).output(nil, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go")
	if err != nil {
		return err
	}
	compiler := jsonschema.NewCompiler()
	for name, file := range map[string]string{"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json", "jsf-0.82.schema.json": "jsf-0.82.schemax.json"} {
		schema, err := os.ReadFile(filepath.Join(strings.TrimSpace(folder), "schema", file))
		if err != nil {
			return err
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
		if err != nil {
			return err
		}
		if err := compiler.AddResource("http://cyclonedx.org/schema/"+name, document); err != nil {
			return err
		}
	}
	schema, err := compiler.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		return fmt.Errorf("reading the schema: %w", err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	if err := schema.Validate(document); err != nil {
		return fmt.Errorf("it is no CycloneDX %s: %w", specification, err)
	}
	return nil
}
