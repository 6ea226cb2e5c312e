//go:build linux

package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The names of programs in Programs.Bin.
const (
	LauncherName  = "encounter-launcher"
	WindowName    = "encounter-launcher-window"
	BackendName   = "org-backend"
	SimulatorName = "nabla-sim"
)

// Programs are the programs of one run. Several sessions may share them, and with
// them one machine policy.
type Programs struct {
	// Module is the folder of go.mod.
	Module string
	// Machine is the machine root that the launcher is linked with: its policy is
	// below it.
	Machine string
	// Bin holds the programs and nothing else: as the first entry of PATH it
	// provides xdg-open.
	Bin string
}

// NewPrograms names the places of programs below a folder, and finds the module that
// the working folder is in. It builds nothing.
func NewPrograms(dir string) (Programs, error) {
	module, err := os.Getwd()
	if err != nil {
		return Programs{}, err
	}
	for {
		if _, err := os.Stat(filepath.Join(module, "go.mod")); err == nil {
			break
		}
		up := filepath.Dir(module)
		if up == module {
			return Programs{}, errors.New("the working folder is in no module")
		}
		module = up
	}
	p := Programs{Module: module, Machine: filepath.Join(dir, "machine"), Bin: filepath.Join(dir, "bin")}
	return p, errors.Join(os.MkdirAll(p.Machine, 0o755), os.MkdirAll(p.Bin, 0o755))
}

// Path is the file of a program.
func (p Programs) Path(name string) string { return filepath.Join(p.Bin, name) }

// Build is one program to compile.
type Build struct {
	// Name is the file's in Programs.Bin, Source the package's from the module.
	Name, Source string
	// LDFlags follow -s -w; Tags are separated by commas.
	LDFlags, Tags string
	// Window is set for programs with a webview: cgo, and linked as the window is
	// released.
	Window bool
	// Overlay is a file as go build's -overlay wants it; empty for none.
	Overlay string
}

// Launcher is the launcher as it is released, apart from the place where it looks for
// the machine's policy.
func (p Programs) Launcher() Build {
	return Build{Name: LauncherName, Source: ".", LDFlags: p.launcherFlags()}
}

// WindowProgram is the launcher's window as it is released, apart from that place. The
// page must have been built (make frontend).
func (p Programs) WindowProgram() Build {
	return Build{Name: WindowName, Source: ".", LDFlags: p.launcherFlags(), Tags: "desktop,production,webkit2_41", Window: true}
}

func (p Programs) launcherFlags() string {
	return "-X main.version=stage -X encounterlauncher/internal/paths.machineRoot=" + p.Machine
}

// Opener is the xdg-open of sessions, which records what it is given.
func (p Programs) Opener() Build { return Build{Name: "xdg-open", Source: "./internal/stage/opener"} }

// Backend is org-backend as it is released.
func (p Programs) Backend() Build {
	return Build{Name: BackendName, Source: "./internal/cmd/org-backend", LDFlags: "-X main.version=stage"}
}

// Simulator is nabla-sim.
func (p Programs) Simulator() Build {
	return Build{Name: SimulatorName, Source: "./internal/cmd/nabla-sim"}
}

// Build compiles programs, one after the other, as releases are compiled.
func (p Programs) Build(ctx context.Context, builds ...Build) error {
	for _, b := range builds {
		mode, cgo, ldflags := "exe", "0", strings.TrimSpace("-s -w "+b.LDFlags)
		if b.Window {
			mode, cgo, ldflags = "pie", "1", ldflags+" -bindnow"
		}
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildmode="+mode, "-ldflags", ldflags, "-tags", b.Tags, "-o", p.Path(b.Name), b.Source)
		if b.Overlay != "" {
			cmd.Args = slices.Insert(cmd.Args, 2, "-overlay", b.Overlay)
		}
		cmd.Dir, cmd.Env = p.Module, append(os.Environ(), "CGO_ENABLED="+cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", b.Name, err, out)
		}
	}
	return nil
}

// WritePolicy writes the machine policy that every launcher of these programs obeys,
// in place of the one before. Keys and values are those of docs/it.md.
func (p Programs) WritePolicy(keys map[string]any) error {
	dir := filepath.Join(p.Machine, "etc", "encounter-launcher")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(keys, "", "  ")
	if err != nil {
		return err
	}
	// An agent that runs reads it again: it must never see half of it.
	file := filepath.Join(dir, "policy.json")
	if err := os.WriteFile(file+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
