package policyfiles

import (
	"bytes"
	"fmt"
	"strings"

	"encounterlauncher/internal/policy"
)

const generated = "<!-- Generated from internal/policy/keys.go by “go generate ./internal/policyfiles”: change the table, not this page. -->"

// english are the words of the templates in English, which the pages name.
func english() words {
	w, _ := wordsOf(Languages[0]) // Files has reported what is wrong with it
	return w
}

// typeInWords is what a value of the key looks like.
func typeInWords(k policy.Key) string {
	values := ""
	if len(k.Allowed) > 0 {
		values = "`" + strings.Join(k.Allowed, "`, `") + "`"
	}
	switch k.Type {
	case policy.Choice:
		return "one of " + values
	case policy.List:
		if values != "" {
			return "list of texts out of " + values
		}
		return "list of texts"
	case policy.Number:
		return fmt.Sprintf("whole number from %d to %d", k.Min, k.Max)
	case policy.YesNo:
		return "yes or no"
	case policy.Object:
		return "JSON object"
	}
	return "text"
}

// jsonType is the type of the key in a policy file.
func jsonType(k policy.Key) string {
	switch k.Type {
	case policy.List:
		return "array of strings"
	case policy.Number:
		return "number"
	case policy.YesNo:
		return "`true` or `false`"
	case policy.Object:
		return "object"
	}
	return "string"
}

// registryType is the type of the key in the registry.
func registryType(k policy.Key) string {
	switch k.Type {
	case policy.YesNo:
		return "`REG_DWORD`, 1 or 0"
	case policy.Object:
		return "`REG_SZ` that holds the JSON text"
	}
	return "`" + k.Type.Registry() + "`"
}

// whoMaySet are the sources that may set a key, strongest first.
func whoMaySet(k policy.Key) string {
	who := []string{policy.SourceMachine}
	if k.Scope == policy.MachineAndUser {
		who = append(who, policy.SourceUser)
	}
	if k.PersonMayChoose {
		who = append(who, "the person, while no policy sets it")
	}
	return strings.Join(append(who, policy.SourceDefaults), ", ")
}

// whenWrong is what a value that cannot be used does.
func whenWrong(k policy.Key) string {
	switch {
	case k.OnError == policy.RefuseLaunches && k.Safest != null:
		return "refuses launches until it is mended; meanwhile `" + k.Safest + "` is in force"
	case k.OnError == policy.RefuseLaunches:
		return "refuses launches until it is mended"
	case k.Safest == null:
		return "is shown as a fault; the key counts as unset"
	}
	return "is shown as a fault; `" + k.Safest + "` is in force"
}

// adminPolicies is the page that has everything about every key.
func adminPolicies(keys []policy.Key) []byte {
	var b bytes.Buffer
	w := english()
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Policy keys\n\n%s\n", generated)
	p("Every key by which IT governs Encounter Launcher: %d of them. No key ever holds a secret, and a value that cannot be used never falls through to", len(keys))
	p("a weaker source. Changes take effect without a restart.\n")
	p("| source, strongest first | Windows | Linux |\n|---|---|---|")
	p("| machine policy | `HKLM\\%s` | `/etc/encounter-launcher/policy.json` |", policy.PoliciesKey)
	p("| user policy | `HKCU\\%s` | – |", policy.PoliciesKey)
	p("| the person's choice, where the key allows one | `%%LocalAppData%%\\EncounterLauncher\\settings.json` | `~/.config/encounter-launcher/settings.json` |")
	p("| installer defaults | `HKLM\\%s` | `/usr/share/encounter-launcher/defaults.json` |", policy.DefaultsKey)
	p("| built-in default | in the program | in the program |\n")
	p("- **Group Policy**: copy the content of [`build/policy/admx`](../build/policy/admx) into the central store (`\\\\<domain>\\SYSVOL\\<domain>\\Policies\\PolicyDefinitions`) or into")
	p("  `C:\\Windows\\PolicyDefinitions`. The settings are under *Administrative Templates › Encounter Launcher*, in English, French, Spanish and German.")
	p("- **Intune and other device management**: [intune.md](intune.md).")
	p("- **Linux**: [`build/policy/policy.schema.json`](../build/policy/policy.schema.json) lets an editor check `policy.json` while it is written.")
	p("- **Before a rollout**: `encounter-launcher policy check FILE` says what this version would refuse in a policy file (0 nothing, 1 something).")
	p("- **On a workstation**: `encounter-launcher policy` shows what is in force, from where, and what was rejected and why; `encounter-launcher policy KEY` explains one key.\n")
	p("The `reg add` lines are for a command prompt that runs as administrator (in PowerShell a `\\\"` is read differently: take the lines of [intune.md](intune.md)). In the registry")
	p("upper and lower case of a name are the same; in JSON they are not. A `REG_EXPAND_SZ` is refused.\n")
	p("## By topic\n")
	p("| topic | keys |\n|---|---|")
	for _, t := range topics() {
		var links []string
		for _, name := range t.keys {
			links = append(links, "["+name+"](#"+strings.ToLower(name)+")")
		}
		p("| %s | %s |", t.heading, strings.Join(links, ", "))
	}
	for _, t := range topics() {
		p("\n## %s", t.heading)
		for _, name := range t.keys {
			k := keyNamed(keys, name)
			if k == nil {
				continue
			}
			p("\n### %s\n\n%s\n", k.Name, k.Sentence)
			p("| | |\n|---|---|")
			places := []string{"`HKLM\\" + policy.PoliciesKey + "\\" + k.Name + "`"}
			if k.Scope == policy.MachineAndUser {
				places = append(places, "`HKCU\\"+policy.PoliciesKey+"\\"+k.Name+"`")
			}
			if k.Only != "" {
				p("| only on | %s |", k.Only)
			}
			if k.Only != policy.Linux {
				p("| registry | %s: %s |", strings.Join(places, ", "), registryType(*k))
				p("| Group Policy | *%s › %s* |", w.Topics[t.id], w.Keys[k.Name].Name)
			}
			if k.Only != policy.Windows {
				p("| JSON | `/%s` in `policy.json` and `defaults.json`: %s |", k.Name, jsonType(*k))
			}
			p("| type | %s |", typeInWords(*k))
			if k.Default == null {
				p("| default | – |")
			} else {
				p("| default | `%s` |", k.Default)
			}
			required := ""
			if k.Required {
				required = "; launches wait until one of them has"
			}
			p("| who may set it | %s%s |", whoMaySet(*k), required)
			p("| a wrong value | %s |", whenWrong(*k))
			p("| since | %s |", k.Since)
			if k.Only != policy.Linux {
				p("\n```bat\n%s\n```", k.RegAdd(`HKLM\`+policy.PoliciesKey, k.WindowsExample()))
			}
			if k.Only != policy.Windows {
				p("\n```json\n{ %s }\n```", k.JSONMember(k.Example))
			}
		}
	}
	return b.Bytes()
}

// omaURI is the address of a setting after ingestion: name of the application,
// kind, and the categories from the top, joined by “~”.
func omaURI(k policy.Key) string {
	return "./Device/Vendor/MSFT/Policy/Config/" + root + "~Policy~" + root + "~" + topicOf(k.Name) + "/" + k.Name
}

// omaData is the value that sets a key, given as JSON text.
func omaData(k policy.Key, raw string) string {
	data := k.RegistryData(raw)
	if k.Type == policy.YesNo {
		if raw == "true" {
			return "<enabled/>"
		}
		return "<disabled/>"
	}
	for i := range data {
		data[i] = xmlText.Replace(data[i])
	}
	return `<enabled/><data id="` + k.Name + `" value="` + strings.Join(data, "&#xF000;") + `"/>`
}

// powerShell is the line that sets a key, given as JSON text, in the registry.
func powerShell(k policy.Key, raw string) string {
	quoted := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	kind, data := "String", k.RegistryData(raw)
	switch k.Type.Registry() {
	case "REG_DWORD":
		kind = "DWord"
	case "REG_MULTI_SZ":
		kind = "MultiString"
		for i := range data {
			data[i] = quoted(data[i])
		}
	default:
		data = []string{quoted(strings.Join(data, ""))}
	}
	return "New-ItemProperty -Path $key -Name " + k.Name + " -PropertyType " + kind + " -Value " + strings.Join(data, ",") + " -Force"
}

// intune is the page for device management.
func intune(keys []policy.Key) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Policy by Intune and other device management\n\n%s\n", generated)
	p("What each key means stands in [admin-policies.md](admin-policies.md). There are two ways; take one of them, because two that set the same value take turns.\n")
	p("## By the templates\n")
	p("*Devices › Configuration › Import ADMX* takes [`EncounterLauncher.admx`](../build/policy/admx/EncounterLauncher.admx) and its")
	p("[`en-US/EncounterLauncher.adml`](../build/policy/admx/en-US/EncounterLauncher.adml), after which the settings are chosen by name. With a custom profile, first:\n")
	p("| OMA-URI | data type | value |\n|---|---|---|")
	p("| `./Device/Vendor/MSFT/Policy/ConfigOperations/ADMXInstall/%s/Policy/%sAdmx` | String | the whole text of `EncounterLauncher.admx` |\n", root, root)
	p("then a row for each key, data type String. Write `./User/` in the place of `./Device/` for the user policy. `<disabled/>` unsets a key, or means no where it is a matter of yes")
	p("or no. Items of a list are separated by `&#xF000;`.\n")
	p("| key | OMA-URI | value, for example | also `./User/` |\n|---|---|---|---|")
	for _, k := range inOrder(keys) {
		user := "yes"
		if k.Scope == policy.Machine {
			user = "no"
		}
		p("| [%s](admin-policies.md#%s) | `%s` | `%s` | %s |", k.Name, strings.ToLower(k.Name), omaURI(k), omaData(k, k.WindowsExample()), user)
	}
	p("\n## By the registry\n")
	p("As a platform script, or as the remediation of a pair of scripts, running as SYSTEM. It may run in the 32-bit PowerShell: this part of the registry is the same for both.")
	p("Keep the lines that are wanted, with values of your own; the program takes them up by itself.\n")
	p("```powershell\n$key = 'HKLM:\\%s'\nif (-not (Test-Path $key)) { New-Item -Path $key -Force | Out-Null }", policy.PoliciesKey)
	for _, k := range inOrder(keys) {
		p("%s", powerShell(k, k.WindowsExample()))
	}
	p("```\n")
	p("The script that detects whether this has been done compares what matters most:\n")
	p("```powershell\n$key = 'HKLM:\\%s'\nif ((Get-ItemProperty -Path $key -ErrorAction SilentlyContinue).BackendURL -eq %s) { exit 0 } else { exit 1 }\n```",
		policy.PoliciesKey, "'https://encounters.hospital.example/api'")
	return b.Bytes()
}
