package policy

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

// Load reads every source now and returns the policy in force. It cannot fail:
// whatever is wrong stands in Findings, and LaunchProblem says whether launches
// may go on.
func Load(l paths.Layout) Snapshot {
	return resolve(read(l), rules{demo: l.IsDemo(), pac: hasPAC, store: hasStore})
}

// CheckFile says what this version would make of a file as the machine policy of
// this system, if it lay where that lies and belonged to whom it must: a look
// before a rollout. Nothing else is read, and nothing is put in force. The source
// of what it finds is SourceFile; nothing in the answer holds the path.
//
// The error is request_invalid, with a fact, when there is no such file or it cannot be
// read; what is wrong in the file stands in Findings.
func CheckFile(l paths.Layout, path string) (Snapshot, error) {
	r := reading{source: SourceFile}
	data, why := readFile(path, nil, openPlain)
	switch {
	case why != "":
		return Snapshot{}, problem.With(problem.RequestInvalid, "The file cannot be read: "+why+".", errors.New("a policy file that cannot be read"))
	case data == nil:
		return Snapshot{}, problem.With(problem.RequestInvalid, "There is no such file.", errors.New("a policy file that is not there"))
	}
	r.fill(data, "")
	return resolve([]reading{r}, rules{demo: l.IsDemo(), pac: hasPAC, store: hasStore}), nil
}

// readFiles reads the sources of a system, or a flavour, without a registry.
func readFiles(l paths.Layout) []reading {
	return []reading{
		machineFile(l, SourceMachine, l.MachinePolicyFile()),
		personFile(SourcePerson, l.SettingsFile()),
		machineFile(l, SourceDefaults, l.InstallerDefaultsFile()),
	}
}

// resolve makes the snapshot from what the sources say, strongest first. It is
// the whole of precedence.
func resolve(readings []reading, r rules) Snapshot {
	var s Snapshot
	keys := table()
	// One list of findings for each source, and one for what concerns several.
	findings := make([][]Finding, len(readings)+1)
	brokenRefuses := make([]bool, len(readings))
	unusable := map[string]bool{}
	sourceOf := map[string]string{}

	for i := range keys {
		k := &keys[i]
		v := Value{Key: k.Name, Type: string(k.Type), Default: k.Default, Locked: !k.PersonMayChoose, Rejected: []Rejected{}}
		decided := false
		// decide puts a value in force unless a stronger source did.
		decide := func(text, source, path string) {
			v.Effective, v.Source, v.Path = text, source, path
			sourceOf[k.Name] = source
			decided = true
		}
		// fail is decide for a source that cannot be used: no weaker one takes over.
		fail := func(from reading, why string) {
			v.Rejected = append(v.Rejected, Rejected{Source: from.source, Path: from.path, Sentence: why})
			if !decided {
				unusable[k.Name] = true
				if from.source == SourceMachine || from.source == SourceUser {
					v.Locked = true
				}
				k.put(&s, k.mustParse(k.Safest, r))
				decide(k.Safest, SourceSafest, "")
			}
		}
		for j, from := range readings {
			if from.source == SourcePerson && !k.PersonMayChoose {
				if _, ok := from.find(k.Name); ok {
					why := k.Name + " in the " + from.source + " is not used, because only the organisation sets it: remove it."
					findings[j] = append(findings[j], Finding{Key: k.Name, Source: from.source, Sentence: why})
					v.Rejected = append(v.Rejected, Rejected{Source: from.source, Path: from.path, Sentence: why})
				}
				continue
			}
			if from.source == SourceUser && k.Scope == Machine {
				if _, ok := from.find(k.Name); ok {
					why := k.Name + " in the " + from.source + " is not used, because it describes the computer: set it in the machine policy."
					findings[j] = append(findings[j], Finding{Key: k.Name, Source: from.source, Sentence: why})
					v.Rejected = append(v.Rejected, Rejected{Source: from.source, Path: from.path, Sentence: why})
				}
				continue
			}
			if from.unreadable != "" {
				if !decided && k.OnError == RefuseLaunches {
					brokenRefuses[j] = true
				}
				fail(from, from.sentence())
				continue
			}
			e, ok := from.find(k.Name)
			if !ok {
				continue
			}
			parsed, why := value{}, e.wrong
			if why == "" {
				parsed, why = k.parse(e.raw, r)
			}
			if why != "" {
				f := k.finding(from.source, why, decided)
				findings[j] = append(findings[j], f)
				fail(from, f.Sentence)
				continue
			}
			if !decided {
				k.put(&s, parsed)
				if from.source == SourceMachine || from.source == SourceUser {
					v.Locked = true
				}
				decide(k.json(parsed), from.source, from.path)
			}
		}
		if !decided {
			k.put(&s, k.mustParse(k.Default, r))
			decide(k.Default, SourceBuiltIn, "")
			if k.Required {
				findings[len(readings)] = append(findings[len(readings)], Finding{
					Key: k.Name, Source: SourceMachine, Code: problem.PolicyMissing, RefusesLaunches: true,
					Sentence: k.Name + " is not set: set it in the machine policy.",
				})
			}
		}
		s.Values = append(s.Values, v)
	}

	across := func(key, why string) {
		findings[len(readings)] = append(findings[len(readings)], Finding{
			Key: key, Source: sourceOf[key], Code: problem.PolicyInvalid, RefusesLaunches: true,
			Sentence: key + " in the " + sourceOf[key] + " " + why + ". No encounter opens until then.",
		})
	}
	switch {
	case s.ProxyMode == "manual" && s.ProxyURL == "" && !unusable["ProxyURL"]:
		across("ProxyMode", "is manual, and ProxyURL is not set: set it, or choose another mode")
	case s.ProxyMode == "pac" && s.ProxyPACURL == "" && !unusable["ProxyPACURL"]:
		across("ProxyMode", "is pac, and ProxyPACURL is not set: set it, or choose another mode")
	}
	switch {
	case r.store && s.ClientCertificateFile != "":
		across("ClientCertificateFile", "is not for this system: put the certificate into its store and set ClientCertificateThumbprint instead")
	case r.store && s.ClientKeyFile != "":
		across("ClientKeyFile", "is not for this system: put the certificate into its store and set ClientCertificateThumbprint instead")
	case !r.store && s.ClientCertificateThumbprint != "":
		across("ClientCertificateThumbprint", "is not for this system, which has no store of certificates: set ClientCertificateFile and ClientKeyFile instead")
	case s.ClientCertificateFile != "" && s.ClientKeyFile == "" && !unusable["ClientKeyFile"]:
		across("ClientCertificateFile", "is set, and ClientKeyFile is not: set it too")
	case s.ClientKeyFile != "" && s.ClientCertificateFile == "" && !unusable["ClientCertificateFile"]:
		across("ClientKeyFile", "is set, and ClientCertificateFile is not: set it too")
	}
	if s.OIDCAudience != "" && s.OIDCAudience == s.OIDCClientID {
		across("OIDCAudience", "is the client id: give the backend a name of its own at the issuer")
	}

	for j, from := range readings {
		if from.unreadable != "" {
			f := Finding{Source: from.source, Sentence: from.sentence()}
			if brokenRefuses[j] {
				f.Code, f.RefusesLaunches = problem.PolicyInvalid, true
				f.Sentence += " No encounter opens until then."
			}
			s.Findings = append(s.Findings, f)
		}
		s.Findings = append(s.Findings, findings[j]...)
		for _, e := range from.entries {
			if !slices.ContainsFunc(keys, func(k Key) bool { return k.Name == e.key }) {
				s.Findings = append(s.Findings, unknown(keys, e.key, from.source))
			}
		}
	}
	s.Findings = append(s.Findings, findings[len(readings)]...)
	return s
}

func (r reading) find(key string) (entry, bool) {
	for _, e := range r.entries {
		if e.key == key {
			return e, true
		}
	}
	return entry{}, false
}

// sentence is about a source that cannot be read as a whole.
func (r reading) sentence() string {
	where := ""
	// The person's own path holds the name of the account.
	if r.source != SourcePerson && r.path != "" {
		where = " (" + r.path + ")"
	}
	return "The " + r.source + where + " cannot be used: " + r.unreadable + "."
}

// finding is about one value that cannot be used. overridden says that a
// stronger source has decided already.
func (k *Key) finding(source, why string, overridden bool) Finding {
	f := Finding{Key: k.Name, Source: source, Sentence: k.Name + " in the " + source + " " + why + ". "}
	switch {
	case overridden:
		f.Sentence += "Correct it; a stronger source is in force."
	case k.OnError == RefuseLaunches:
		f.Code, f.RefusesLaunches = problem.PolicyInvalid, true
		f.Sentence += "Correct it; no encounter opens until then."
	default:
		f.Sentence += "Correct it; the safest value is in force until then."
	}
	return f
}

// mustParse reads Default and Safest, which a test proves to be good.
func (k *Key) mustParse(text string, r rules) value {
	if text == nothing {
		return value{}
	}
	v, _ := k.parse(json.RawMessage(text), r)
	return v
}

func unknown(keys []Key, key, source string) Finding {
	f := Finding{Key: key, Source: source}
	if len(key) > 64 || key == "" || strings.ContainsFunc(key, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' && r != '.' && r != '$'
	}) {
		f.Key = ""
		f.Sentence = "The " + source + " has a key that this version does not know and whose name cannot be shown: remove it."
		return f
	}
	f.Sentence = key + " in the " + source + " is not a key that this version knows: remove it or correct its name."
	for i := range keys {
		if strings.EqualFold(keys[i].Name, key) {
			f.Sentence = key + " in the " + source + " is not a key that this version knows: write it " + keys[i].Name + "."
		}
	}
	return f
}
