package policy

import (
	"encoding/json"
	"strings"
)

// Where the registry holds what IT sets, below HKEY_LOCAL_MACHINE and, for the
// policies, HKEY_CURRENT_USER.
const (
	PoliciesKey = `Software\Policies\EncounterLauncher`
	DefaultsKey = `Software\EncounterLauncher`
)

// Registry is the registry's name of the type.
func (t Type) Registry() string {
	switch t {
	case Number, YesNo:
		return "REG_DWORD"
	case List:
		return "REG_MULTI_SZ"
	}
	return "REG_SZ"
}

// WindowsExample is a good value for Windows as JSON text.
func (k Key) WindowsExample() string {
	if k.Windows != "" {
		return k.Windows
	}
	return k.Example
}

// RegistryData is a value of the key, given as JSON text, as the registry holds
// it: one text for each string of a REG_MULTI_SZ, and one text, in decimal for a
// REG_DWORD, for every other type. It is nil when the text is not JSON of the
// key's type.
func (k Key) RegistryData(raw string) []string {
	switch k.Type {
	case List:
		var items []string
		if json.Unmarshal([]byte(raw), &items) != nil {
			return nil
		}
		return items
	case YesNo:
		switch raw {
		case "true":
			return []string{"1"}
		case "false":
			return []string{"0"}
		}
		return nil
	case Number, Object:
		return []string{raw}
	}
	var text string
	if json.Unmarshal([]byte(raw), &text) != nil {
		return nil
	}
	return []string{text}
}

// RegAdd is the line for a command prompt that sets the key to a value, given as
// JSON text, below a registry key such as HKLM\Software\Policies\EncounterLauncher.
func (k Key) RegAdd(path, raw string) string {
	data := strings.Join(k.RegistryData(raw), `\0`)
	if k.Type.Registry() != "REG_DWORD" {
		data = `"` + strings.ReplaceAll(data, `"`, `\"`) + `"`
	}
	return `reg add ` + path + ` /v ` + k.Name + ` /t ` + k.Type.Registry() + ` /d ` + data + ` /f`
}

// JSONMember is the member that sets the key to a value, given as JSON text, in
// policy.json and defaults.json.
func (k Key) JSONMember(raw string) string { return quote(k.Name) + ": " + raw }
