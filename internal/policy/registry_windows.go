package policy

import (
	"encoding/json"
	"errors"
	"strings"

	"golang.org/x/sys/windows/registry"
)

// hive is a root of the registry and its usual short name.
type hive struct {
	root registry.Key
	name string
}

var (
	localMachine = hive{registry.LOCAL_MACHINE, "HKLM"}
	currentUser  = hive{registry.CURRENT_USER, "HKCU"}
)

// readRegistry reads one key of the registry as JSON by the types of the table.
// ofInstaller reads what an installer can write: it leaves out empty texts and
// lists, one for every property that nobody gave, and takes one text for a list of
// hosts.
func readRegistry(source string, h hive, path string, ofInstaller bool) reading {
	r := reading{source: source, path: h.name + `\` + path}
	k, err := registry.OpenKey(h.root, path, registry.QUERY_VALUE|registry.WOW64_64KEY)
	if errors.Is(err, registry.ErrNotExist) {
		return r
	}
	if err != nil {
		r.unreadable = "it cannot be opened: give Users read access to the registry key"
		return r
	}
	defer k.Close()
	names, err := k.ReadValueNames(-1)
	if err != nil {
		r.unreadable = "its values cannot be listed: give Users read access to the registry key"
		return r
	}
	keys := table()
	for _, name := range names {
		if name == "" {
			continue
		}
		e := entry{key: name, raw: json.RawMessage(nothing)}
		if row := rowNamed(keys, name); row != nil {
			e.key = row.Name
			var unset bool
			if ofInstaller && row.Name == "EncounterURLHosts" {
				e.raw, unset, e.wrong = installedHosts(k, name)
			} else {
				e.raw, unset, e.wrong = registryValue(k, name, row.Type)
			}
			if unset && ofInstaller {
				continue
			}
		}
		r.entries = append(r.entries, e)
	}
	return r
}

// rowNamed finds a row as the registry does: upper and lower case are the same.
func rowNamed(keys []Key, name string) *Key {
	for i := range keys {
		if strings.EqualFold(keys[i].Name, name) {
			return &keys[i]
		}
	}
	return nil
}

// installedHosts splits one text at each semicolon, which no host can hold: Windows
// Installer neither writes a list of several lines from a property nor reads one back
// to keep it. Spaces and empty hosts stay, and are refused as in any list. A list
// that an administrator has written is read as everywhere.
func installedHosts(k registry.Key, name string) (raw json.RawMessage, unset bool, wrong string) {
	text, kind, err := k.GetStringValue(name)
	if err != nil || kind != registry.SZ {
		if raw, unset, wrong = registryValue(k, name, List); wrong == "must be a REG_MULTI_SZ" {
			wrong = "must be a REG_SZ with ; between the hosts, or a REG_MULTI_SZ"
		}
		return raw, unset, wrong
	}
	return fromHosts(text)
}

func registryValue(k registry.Key, name string, t Type) (raw json.RawMessage, unset bool, wrong string) {
	switch t {
	case Number, YesNo:
		n, kind, err := k.GetIntegerValue(name)
		if err != nil || kind != registry.DWORD {
			return nil, false, "must be a REG_DWORD"
		}
		return fromNumber(n, t)
	case List:
		items, kind, err := k.GetStringsValue(name)
		if err != nil || kind != registry.MULTI_SZ {
			return nil, false, "must be a REG_MULTI_SZ"
		}
		return fromList(items)
	}
	text, kind, err := k.GetStringValue(name)
	// REG_EXPAND_SZ is refused: what it means depends on the person's environment.
	if err != nil || kind != registry.SZ {
		return nil, false, "must be a REG_SZ"
	}
	return fromText(text, t)
}
