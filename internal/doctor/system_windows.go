package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// free asks for the bytes that this user can still fill, quotas included.
func free(folder string) (uint64, error) {
	path, err := windows.UTF16PtrFromString(folder)
	if err != nil {
		return 0, err
	}
	var available uint64
	if err := windows.GetDiskFreeSpaceEx(path, &available, nil, nil); err != nil {
		return 0, err
	}
	return available, nil
}

// windowProgram: the program shows its window itself.
func windowProgram(string) string { return "" }

// webViewKeys are where the runtime of WebView2 says that it is installed (Microsoft,
// "Distribute your app and the WebView2 Runtime": the value pv, for the computer and
// for the user).
var webViewKeys = [...]struct {
	root registry.Key
	path string
}{
	{registry.LOCAL_MACHINE, `SOFTWARE\WOW6432Node\Microsoft\EdgeUpdate\Clients\{F3017226-FE2A-4295-8BDF-00C3A9A7E4C5}`},
	{registry.LOCAL_MACHINE, `SOFTWARE\Microsoft\EdgeUpdate\Clients\{F3017226-FE2A-4295-8BDF-00C3A9A7E4C5}`},
	{registry.CURRENT_USER, `Software\Microsoft\EdgeUpdate\Clients\{F3017226-FE2A-4295-8BDF-00C3A9A7E4C5}`},
}

// webView reads the newest version from the registry, so that the console's program
// needs no loader of WebView2.
func webView() (WebView, error) {
	found := WebView{Needed: true}
	for _, place := range webViewKeys {
		k, err := registry.OpenKey(place.root, place.path, registry.QUERY_VALUE|registry.WOW64_64KEY)
		if err != nil {
			continue
		}
		version, _, err := k.GetStringValue("pv")
		_ = k.Close()
		if err == nil && version != "" && version != "0.0.0.0" && (found.Version == "" || olderThan(found.Version, version)) {
			found.Version = version
		}
	}
	return found, nil
}

// trayClass is the class of the task bar's window, in which the notification area is
// (Microsoft, "Taskbar": TaskbarCreated).
const trayClass = "Shell_TrayWnd"

// trayHost: the notification area is part of the shell, which a service's session, a
// session of one program and a kiosk do not have.
func trayHost(context.Context) TrayState { return trayOf(trayClass) }

func trayOf(class string) TrayState {
	name, err := windows.UTF16PtrFromString(class)
	if err != nil {
		return TrayNoSession
	}
	window, _, _ := windows.NewLazySystemDLL("user32.dll").NewProc("FindWindowW").Call(uintptr(unsafe.Pointer(name)), 0)
	if window == 0 {
		return TrayNoSession
	}
	return TrayShown
}

func display() bool { return true }

// uninstallKeys are where installers list what is installed; a 32-bit one writes to
// the view that WOW64 redirects to.
var uninstallKeys = [...]struct {
	root registry.Key
	view uint32
}{
	{registry.LOCAL_MACHINE, registry.WOW64_64KEY}, {registry.LOCAL_MACHINE, registry.WOW64_32KEY}, {registry.CURRENT_USER, 0},
}

const uninstallPath = `Software\Microsoft\Windows\CurrentVersion\Uninstall`

// copies are the programs of our name on PATH and where installers say that they put
// them.
func copies(name string) []string {
	program := name + ".exe"
	folders := filepath.SplitList(os.Getenv("PATH"))
	for _, place := range uninstallKeys {
		folders = append(folders, installFolders(place.root, place.view)...)
	}
	for _, variable := range [...]string{"ProgramFiles", "ProgramW6432", "ProgramFiles(x86)"} {
		if folder := os.Getenv(variable); folder != "" {
			folders = append(folders, filepath.Join(folder, "Encounter Launcher"))
		}
	}
	if folder := os.Getenv("LocalAppData"); folder != "" {
		folders = append(folders, filepath.Join(folder, "Programs", "Encounter Launcher"))
	}
	var found []string
	for _, folder := range folders {
		if !filepath.IsAbs(folder) {
			continue
		}
		file := filepath.Join(folder, program)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			found = append(found, file)
		}
	}
	return found
}

func installFolders(root registry.Key, view uint32) []string {
	list, err := registry.OpenKey(root, uninstallPath, registry.ENUMERATE_SUB_KEYS|registry.QUERY_VALUE|view)
	if err != nil {
		return nil
	}
	defer list.Close()
	names, err := list.ReadSubKeyNames(-1)
	if err != nil {
		return nil
	}
	var folders []string
	for _, name := range names {
		k, err := registry.OpenKey(list, name, registry.QUERY_VALUE|view)
		if err != nil {
			continue
		}
		title, _, _ := k.GetStringValue("DisplayName")
		folder, _, _ := k.GetStringValue("InstallLocation")
		_ = k.Close()
		if strings.HasPrefix(title, "Encounter Launcher") && folder != "" {
			folders = append(folders, strings.Trim(folder, `"`))
		}
	}
	return folders
}

// browserKeys are where the browsers read policies below Software\Policies.
var browserKeys = [...]struct{ browser, path string }{
	{"Chrome", `Google\Chrome`}, {"Edge", `Microsoft\Edge`}, {"Chromium", `Chromium`}, {"Firefox", `Mozilla\Firefox`},
}

func browserPolicies(string) []browserPolicy {
	var all []browserPolicy
	for _, b := range browserKeys {
		p := browserPolicy{browser: b.browser}
		found := false
		// The machine's policy wins over the user's, as the browsers have it.
		for _, root := range [...]registry.Key{registry.CURRENT_USER, registry.LOCAL_MACHINE} {
			k, err := registry.OpenKey(root, `Software\Policies\`+b.path, registry.QUERY_VALUE|registry.WOW64_64KEY)
			if err != nil {
				p.unreadable = p.unreadable || err != registry.ErrNotExist
				found = found || err != registry.ErrNotExist
				continue
			}
			found = true
			p.jsonValue(k, "AutoLaunchProtocolsFromOrigins", &p.autoLaunch)
			p.jsonValue(k, "Handlers", &p.handlers)
			p.blocked = append(p.blocked, listBelow(k, "URLBlocklist")...)
			p.allowed = append(p.allowed, listBelow(k, "URLAllowlist")...)
			_ = k.Close()
		}
		if found {
			all = append(all, p)
		}
	}
	return all
}

// jsonValue reads a value that holds JSON: a text, or, as Firefox has it, several lines.
func (p *browserPolicy) jsonValue(k registry.Key, name string, into *json.RawMessage) {
	text, _, err := k.GetStringValue(name)
	if err == registry.ErrUnexpectedType {
		var lines []string
		if lines, _, err = k.GetStringsValue(name); err == nil {
			text = strings.Join(lines, "\n")
		}
	}
	switch {
	case err == registry.ErrNotExist:
	case err != nil:
		p.unreadable = true
	default:
		*into = json.RawMessage(text)
	}
}

// listBelow reads a list as the browsers have it: a key with the values 1, 2, …
func listBelow(k registry.Key, name string) []string {
	list, err := registry.OpenKey(k, name, registry.QUERY_VALUE)
	if err != nil {
		return nil
	}
	defer list.Close()
	names, err := list.ReadValueNames(-1)
	if err != nil {
		return nil
	}
	var values []string
	for _, name := range names {
		if value, _, err := list.GetStringValue(name); err == nil {
			values = append(values, value)
		}
	}
	return values
}

const systemName = "windows"

// release is the version of Windows with its build, which an old manifest cannot hide.
func release() string {
	v := windows.RtlGetVersion()
	return fmt.Sprintf("%d.%d.%d", v.MajorVersion, v.MinorVersion, v.BuildNumber)
}

// desktop: there is one, and its session is local or remote.
func desktop() (name, session string) {
	if s := os.Getenv("SESSIONNAME"); strings.HasPrefix(s, "RDP-") || strings.HasPrefix(s, "ICA-") {
		return "windows", "remote"
	}
	return "windows", "local"
}
