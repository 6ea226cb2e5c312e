// Package text is the one catalogue of words: sentences for problems by code,
// and every other word that tray, window and notices show, by key and language.
// The window reads the same words from a file that Export makes.
//
// It never decides what is said, only how; it never formats markup, and it
// never looks inside a value that it puts into a placeholder. Words of the
// command line live with the command line.
package text

import (
	"bytes"
	"embed"
	"encoding/json"
	"strings"

	"encounterlauncher/internal/problem"
)

// English is the language that every text exists in, and what any other falls
// back to.
const English = "en"

//go:embed words/*.json
var files embed.FS

// Catalogue is the words of one language. It is never changed after For made
// it, so it is safe to share between goroutines. The zero value knows the
// sentences of problems in English and shows a key for every other word.
type Catalogue struct {
	language string
	words    map[string]string
}

// For returns the catalogue for a BCP 47 tag such as "fr-CA". A language that
// has no catalogue, an empty tag and nonsense give English. It reads words that
// are part of the program, so it cannot fail; it costs a fraction of a
// millisecond, so callers keep the result.
func For(language string) Catalogue {
	// Only the primary subtag matters while no two catalogues share one; a
	// matcher over all of CLDR would cost every start more than it gives.
	primary, _, _ := strings.Cut(strings.ReplaceAll(language, "_", "-"), "-")
	primary = strings.ToLower(primary)
	for _, name := range []string{primary, English} {
		if !plainTag(name) {
			continue
		}
		if words, err := read(name); err == nil {
			return Catalogue{language: name, words: words}
		}
	}
	return Catalogue{language: English}
}

func plainTag(s string) bool {
	for i := range len(s) {
		if s[i] < 'a' || s[i] > 'z' {
			return false
		}
	}
	return len(s) == 2 || len(s) == 3
}

func read(language string) (map[string]string, error) {
	data, err := files.ReadFile("words/" + language + ".json")
	if err != nil {
		return nil, err
	}
	var words map[string]string
	if err := json.Unmarshal(data, &words); err != nil {
		return nil, err
	}
	return words, nil
}

// Language is the tag of the catalogue that For found, such as "en".
func (c Catalogue) Language() string {
	if c.language == "" {
		return English
	}
	return c.language
}

// Sentence says what happened. A code that is not on the list says what
// problem.Internal says.
func (c Catalogue) Sentence(code problem.Code) string {
	row := (&problem.Problem{Code: code}).Row()
	if s, ok := c.words[row.SentenceKey()]; ok {
		return s
	}
	return row.Sentence
}

// NextStep says what the reader can do now. A code that is not on the list says
// what problem.Internal says.
func (c Catalogue) NextStep(code problem.Code) string {
	row := (&problem.Problem{Code: code}).Row()
	if s, ok := c.words[row.NextStepKey()]; ok {
		return s
	}
	return row.NextStep
}

// Word returns the word of a key with its placeholders filled. args are pairs of
// a placeholder's name and its value, in any order. A value is put in as it is
// and never searched for placeholders. A key that does not exist is returned
// itself, so that a mistake is seen and not hidden; a placeholder without a
// value stays as written for the same reason.
func (c Catalogue) Word(key string, args ...string) string {
	word, ok := c.words[key]
	if !ok {
		return key
	}
	if len(args) == 0 || !strings.Contains(word, "{") {
		return word
	}
	var out strings.Builder
	for {
		before, rest, ok := strings.Cut(word, "{")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok {
			out.WriteString("{" + rest)
			return out.String()
		}
		if value, ok := argument(args, name); ok {
			out.WriteString(value)
		} else {
			out.WriteString("{" + name + "}")
		}
		word = after
	}
}

func argument(args []string, name string) (string, bool) {
	for i := 0; i+1 < len(args); i += 2 {
		if args[i] == name {
			return args[i+1], true
		}
	}
	return "", false
}

// Export returns the English catalogue as the window imports it: one JSON
// object from key to text, first the words in their fixed order, then the
// sentence and the next step of each problem in the order of the codes. The
// same program always returns the same bytes.
func Export() []byte {
	c := For(English)
	var out bytes.Buffer
	out.WriteString("{\n")
	line := func(key, value string, last bool) {
		out.WriteString("  ")
		out.Write(quoted(key))
		out.WriteString(": ")
		out.Write(quoted(value))
		if !last {
			out.WriteByte(',')
		}
		out.WriteByte('\n')
	}
	for _, e := range entries {
		line(e.key, c.words[e.key], false)
	}
	rows := problem.Rows()
	for i, row := range rows {
		line(row.SentenceKey(), c.Sentence(row.Code), false)
		line(row.NextStepKey(), c.NextStep(row.Code), i == len(rows)-1)
	}
	out.WriteString("}\n")
	return out.Bytes()
}

func quoted(s string) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes, and a Buffer never fails
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
