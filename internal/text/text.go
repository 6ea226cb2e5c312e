// Package text is the one catalogue of words: sentences for problems by code,
// and every other word that tray, window and notices show, by key and language.
// The window reads the same words from a file that Export makes.
//
// It also writes times as a region writes them, and finds out what language the
// system speaks.
//
// It never decides what is said, only how; it never formats markup, and it
// never looks inside a value that it puts into a placeholder. Words of the
// command line live with the command line.
package text

import (
	"bytes"
	"embed"
	"encoding/json"
	"slices"
	"strings"

	"encounterlauncher/internal/problem"
)

// English is the language that every text exists in, and what any other falls
// back to.
const English = "en"

//go:embed words/*.json
var files embed.FS

// languages are those with a catalogue.
var languages = [...]string{English, "fr", "es", "de"}

func spoken(language string) bool { return slices.Contains(languages[:], language) }

// Catalogue is the words of one language. It is never changed after it was made,
// so it is safe to share between goroutines. The zero value knows the sentences
// of problems in English and shows a key for every other word.
type Catalogue struct {
	language string
	words    map[string]string
	// twelve and monthFirst are how the region of In writes a clock and a date.
	twelve, monthFirst bool
}

// For returns the catalogue for a BCP 47 tag such as "fr-CA". A language that
// has no catalogue, an empty tag and nonsense give English. It reads words that
// are part of the program, so it cannot fail; it costs a fraction of a
// millisecond, so callers keep the result. Times are written as In says of the
// tag.
func For(tag string) Catalogue {
	// Only the primary subtag matters while no two catalogues share one; a
	// matcher over all of CLDR would cost every start more than it gives.
	language, _ := parts(strings.ReplaceAll(tag, "_", "-"))
	if !spoken(language) {
		language = English
	}
	return Catalogue{language: language, words: read(language)}.In(tag)
}

// In returns the same words with times and dates written as in the locale, a
// BCP 47 tag such as "en-US". A locale of another language, and one without a
// region, is written with 24 hours and the day before the month, which nobody
// misreads.
func (c Catalogue) In(locale string) Catalogue {
	language, region := parts(strings.ReplaceAll(locale, "_", "-"))
	known := language == c.Language() && region != ""
	c.twelve = known && slices.Contains(strings.Fields(c.words["time.twelve_hour_regions"]), region)
	c.monthFirst = known && slices.Contains(strings.Fields(c.words["time.month_first_regions"]), region)
	return c
}

func read(language string) map[string]string {
	data, err := files.ReadFile("words/" + language + ".json")
	if err != nil {
		return nil
	}
	var words map[string]string
	if err := json.Unmarshal(data, &words); err != nil {
		return nil
	}
	return words
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

// Fact returns the fact of a problem (problem.Problem.Fact), which the rooms write
// in English, in the language. One without a translation is left out rather than
// mixed into another language: the log has it.
func (c Catalogue) Fact(english string) string {
	if c.Language() == English {
		return english
	}
	if translated, ok := c.words[factKey+english]; ok {
		return translated
	}
	for _, fact := range facts {
		before, name, ok := strings.Cut(fact, "{")
		if !ok {
			continue
		}
		name, after, _ := strings.Cut(name, "}")
		value, ok := strings.CutPrefix(english, before)
		if !ok {
			continue
		}
		if value, ok = strings.CutSuffix(value, after); ok {
			return c.Word(factKey+fact, name, value)
		}
	}
	return ""
}

// factKey is before the key of every fact.
const factKey = "fact."

// Told is the sentence of a problem with its fact, when there is one in the
// language.
func (c Catalogue) Told(p *problem.Problem) string {
	sentence := c.Sentence(p.Code)
	if fact := c.Fact(p.Fact); fact != "" {
		sentence += " " + fact
	}
	return sentence
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

// Export returns the catalogue of a language as the window imports it: one JSON
// object from key to text, first the words in their fixed order without those of
// findings, which the agent tells in the person's language, then the sentence and the next step of each problem in the order of the codes. The
// same program always returns the same bytes.
func Export(language string) []byte {
	c := For(language)
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

// Keys returns the keys that begin with a prefix, in the order of the catalogue.
func Keys(prefix string) []string {
	var keys []string
	for _, list := range [...][]entry{entries[:], findings[:]} {
		for _, e := range list {
			if strings.HasPrefix(e.key, prefix) {
				keys = append(keys, e.key)
			}
		}
	}
	return keys
}

func quoted(s string) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes, and a Buffer never fails
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
