// Package paths knows where everything of the launcher lives on this machine:
// per-user folders, per-machine folders, and the flavour of this build.
//
// Two variables, that of ground and the one here, are set when the program is linked
// and by nothing else. No
// environment variable, flag, link or policy can turn a release into a demo or
// move the machine's folders. (The user's own folders follow the XDG base
// directory specification, as every program of that user does.)
//
// It creates the user's folders with mode 0700 and never touches a machine one.
package paths

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/adrg/xdg"

	"encounterlauncher/internal/ground"
)

// machineRoot is empty in a release. In tests it prefixes every machine folder, and
// the owner of that folder stands for root. Set with -ldflags
// "-X encounterlauncher/internal/paths.machineRoot=…".
var machineRoot string

// Demo is the flavour that the sandbox starts.
const Demo = "demo"

// Layout is the set of places of one flavour. It is a value: reading it does no
// I/O and creates nothing.
type Layout struct {
	// Name is the name of program, folders, keyring service and link scheme:
	// "encounter-launcher", or "encounter-launcher-demo".
	Name string
	// Flavour is empty in a release.
	Flavour string

	stateHome, configHome, dataHome string
	machineRoot                     string
	// sessionless keeps the runtime folder inside the state folder.
	sessionless bool
}

// Current returns the layout of this build.
func Current() Layout { return Of(ground.Flavour()) }

// Of returns the layout of a flavour; the sandbox asks for that of the launcher
// which it starts. The machine root is always that of this build.
func Of(flavour string) Layout {
	return Layout{
		Name: ground.Name(flavour), Flavour: flavour,
		stateHome: xdg.StateHome, configHome: xdg.ConfigHome, dataHome: xdg.DataHome,
		machineRoot: machineRoot,
	}
}

// Under returns a layout whose user and machine folders all lie below root, the
// runtime folder included, and in which the owner of root stands for root. root
// is absolute. Tests and the sandbox's play use it; a release program never
// calls it.
func Under(root, flavour string) Layout {
	l := Of(flavour)
	l.stateHome = filepath.Join(root, "state")
	l.configHome = filepath.Join(root, "config")
	l.dataHome = filepath.Join(root, "data")
	l.machineRoot = root
	l.sessionless = true
	return l
}

// IsDemo reports whether this is the sandbox's flavour, the only one that may
// speak http to 127.0.0.1.
func (l Layout) IsDemo() bool { return l.Flavour == Demo }

// Scheme is the link scheme, in lower case.
func (l Layout) Scheme() string { return l.Name }

// KeyringService is the service name of every item in the OS keyring.
func (l Layout) KeyringService() string { return l.Name }

// StateDir holds what the agent keeps for this user: audit, sealed recents,
// log, locks. It is shared by all sessions of the user on this machine.
func (l Layout) StateDir() string { return filepath.Join(l.stateHome, l.stateName()) }

// AuditDir holds the audit files of this user's agents.
func (l Layout) AuditDir() string { return filepath.Join(l.StateDir(), "audit") }

// RecentsDir holds one sealed file for each person who signed in.
func (l Layout) RecentsDir() string { return filepath.Join(l.StateDir(), "recents") }

// LogFile is the agent's log.
func (l Layout) LogFile() string { return filepath.Join(l.StateDir(), "agent.log") }

// UserLockFile is the lock that guards what several sessions of one user share:
// the rotation of the refresh token and the recents.
func (l Layout) UserLockFile() string { return filepath.Join(l.StateDir(), "user.lock") }

// DataHome is the user's XDG data folder, shared with every program; ours to
// change are only files of our name below it.
func (l Layout) DataHome() string { return l.dataHome }

// ConfigHome is the user's XDG configuration folder, shared with every program.
func (l Layout) ConfigHome() string { return l.configHome }

// SettingsFile holds the person's own choices, where policy allows a choice.
func (l Layout) SettingsFile() string {
	return filepath.Join(l.configHome, l.stateName(), "settings.json")
}

// SandboxDir is the sandbox's own folder (0700): its policy and its record of
// what it registered. Only the demo flavour has one.
func (l Layout) SandboxDir() string { return filepath.Join(l.StateDir(), "sandbox") }

// MachinePolicyFile is the strongest source of policy on systems without a
// registry. The demo flavour reads the sandbox's.
func (l Layout) MachinePolicyFile() string {
	if l.IsDemo() {
		return filepath.Join(l.SandboxDir(), "policy.json")
	}
	return l.machine(machinePolicyFile)
}

// InstallerDefaultsFile is what the installer of the package wrote. The demo
// flavour has none.
func (l Layout) InstallerDefaultsFile() string {
	if l.IsDemo() {
		return filepath.Join(l.SandboxDir(), "defaults.json")
	}
	return l.machine(installerDefaultsFile)
}

// MachineAutostartFile is where a package says that everybody's agent starts at
// logon (Desktop Application Autostart Specification); empty on systems that keep
// that in no file.
func (l Layout) MachineAutostartFile() string {
	if machineAutostartDir == "" {
		return ""
	}
	return l.machine(filepath.Join(machineAutostartDir, l.Name+".desktop"))
}

// SignedInMark is an empty file of the state folder: somebody has signed in under
// this account before.
func (l Layout) SignedInMark() string { return filepath.Join(l.StateDir(), "signed-in-before") }

// LinkMark is a file of the state folder: the path of the program to which the links
// of the EHR came when it was looked at last.
func (l Layout) LinkMark() string { return filepath.Join(l.StateDir(), "link-handler") }

// LinkTold is a file of the state folder: a digest of the handler to which the links of
// the EHR have gone, once the person was told of it.
func (l Layout) LinkTold() string { return filepath.Join(l.StateDir(), "link-told") }

func (l Layout) machine(path string) string {
	if l.machineRoot == "" {
		return path
	}
	return filepath.Join(l.machineRoot, path)
}

// EnsureStateDir creates the user's state folder with mode 0700 and returns it.
// A folder that exists but belongs to somebody else, or is open to others, is an
// error and is left as it is.
func (l Layout) EnsureStateDir() (string, error) {
	dir := l.StateDir()
	if err := ensurePrivateDir(dir); err != nil {
		return "", fmt.Errorf("state folder: %w", err)
	}
	return dir, nil
}

// EnsureRuntimeDir returns the folder of the control socket and the agent's
// lock, creating it with mode 0700: inside the session's runtime folder when
// that is ours and closed to others, else inside the state folder.
func (l Layout) EnsureRuntimeDir() (string, error) {
	if base, ok := sessionRuntimeBase(); ok && !l.sessionless {
		dir := filepath.Join(base, l.stateName())
		if err := ensurePrivateDir(dir); err == nil {
			return dir, nil
		}
	}
	if _, err := l.EnsureStateDir(); err != nil {
		return "", err
	}
	dir := filepath.Join(l.StateDir(), "run")
	if err := ensurePrivateDir(dir); err != nil {
		return "", fmt.Errorf("runtime folder: %w", err)
	}
	return dir, nil
}

// EnsurePrivateDir creates a folder of this user with mode 0700, parents
// included, and refuses one that is not ours or is open to others.
func EnsurePrivateDir(dir string) error { return ensurePrivateDir(dir) }

// OpenFile opens a file of this user's as os.OpenFile does, with the flags O_RDONLY,
// O_WRONLY, O_RDWR, O_APPEND and O_CREATE, and so that others may rename or remove
// it meanwhile, on Windows too. Errors are as of os.OpenFile.
func OpenFile(path string, flag int, mode fs.FileMode) (*os.File, error) {
	return openFile(path, flag, mode)
}

func ensurePrivateDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(dir), 0o700); err == nil {
			err = os.Mkdir(dir, 0o700)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("creating a private folder: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("looking at a private folder: %w", err)
	}
	if !info.IsDir() {
		return errors.New("a private folder is not a folder")
	}
	return checkPrivate(info)
}
