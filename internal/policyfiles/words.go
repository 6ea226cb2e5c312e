package policyfiles

import (
	"bytes"
	"embed"
	"encoding/json"
	"strings"

	"encounterlauncher/internal/policy"
)

//go:embed words/*.json
var wordFiles embed.FS

// Languages are the cultures that the templates speak, by the names of the
// folders in which Windows looks for them; English, first, is the fallback.
var Languages = []string{"en-US", "fr-FR", "es-ES", "de-DE"}

// words are the texts of one language.
type words struct {
	// Words are the phrases that every setting uses, by name.
	Words map[string]string `json:"words"`
	// Topics are the names of the topics, by id.
	Topics map[string]string `json:"topics"`
	// Keys are the texts of each key.
	Keys map[string]keyWords `json:"keys"`
}

type keyWords struct {
	// Name is the name of the setting in the editor of Group Policy.
	Name string `json:"name"`
	// Says is policy.Key.Sentence in this language; empty in English, which has it
	// from the table.
	Says string `json:"says"`
	// Choices are the labels of the values of a choice.
	Choices map[string]string `json:"choices"`
}

func wordsOf(language string) (words, error) {
	var w words
	data, err := wordFiles.ReadFile("words/" + language + ".json")
	if err != nil {
		return words{}, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil {
		return words{}, err
	}
	return w, nil
}

// say is a phrase with its placeholders filled: say("bounds", "min", "0", …).
func (w words) say(name string, pairs ...string) string {
	for i, text := range pairs {
		if i%2 == 0 {
			pairs[i] = "{" + text + "}"
		}
	}
	return strings.NewReplacer(pairs...).Replace(w.Words[name])
}

// show is a value, given as JSON text, as people read it.
func (w words) show(k policy.Key, raw string) string {
	switch k.Type {
	case policy.YesNo:
		if raw == "true" {
			return w.Words["yes"]
		}
		return w.Words["no"]
	case policy.Choice:
		return w.Keys[k.Name].Choices[strings.Join(k.RegistryData(raw), "")]
	}
	return strings.Join(k.RegistryData(raw), ", ")
}

// explain is the whole text beside a setting in the editor of Group Policy.
func (w words) explain(k policy.Key) string {
	says := w.Keys[k.Name].Says
	if says == "" {
		says = k.Sentence
	}
	lines := []string{says, ""}
	switch k.Type {
	case policy.List:
		lines = append(lines, w.say("list"))
		if len(k.Allowed) > 0 {
			lines = append(lines, w.say("values", "values", strings.Join(k.Allowed, ", ")))
		}
	case policy.Number:
		lines = append(lines, w.say("bounds", "min", itoa(k.Min), "max", itoa(k.Max)))
	case policy.Object:
		lines = append(lines, w.say("object"))
	}
	if k.Default != null {
		lines = append(lines, w.say("default", "value", w.show(k, k.Default)))
	}
	if k.Required {
		lines = append(lines, w.say("required"))
	}
	switch {
	case k.OnError == policy.RefuseLaunches:
		lines = append(lines, w.say("refuses"))
	case k.Safest == null:
		lines = append(lines, w.say("unset"))
	default:
		lines = append(lines, w.say("safest", "value", w.show(k, k.Safest)))
	}
	if k.Scope == policy.Machine {
		lines = append(lines, w.say("machine"))
	}
	if k.PersonMayChoose {
		lines = append(lines, w.say("person"))
	}
	if k.Type == policy.YesNo {
		lines = append(lines, w.say("yesno"))
	} else {
		lines = append(lines, w.say("off"))
	}
	return strings.Join(lines, "\n")
}
