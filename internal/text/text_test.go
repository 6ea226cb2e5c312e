package text

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"encounterlauncher/internal/problem"
)

//go:generate go test -run TestTheWindowReadsTheSameWords -update

var update = flag.Bool("update", false, "write the window's catalogue anew")

const windowFile = "../../frontend/src/words/en.json"

func TestTheWindowReadsTheSameWords(t *testing.T) {
	if *update {
		if err := os.MkdirAll(filepath.Dir(windowFile), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(windowFile, Export(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(windowFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, Export()) {
		t.Errorf("%s differs from the catalogue: run go generate ./internal/text", windowFile)
	}
}

func TestTheExportHoldsEveryWordAndEveryProblemOnce(t *testing.T) {
	keys, words := ordered(t, Export())
	want := len(entries) + 2*len(problem.Rows())
	if len(keys) != want || len(words) != want {
		t.Errorf("%d keys, %d of them distinct, want %d", len(keys), len(words), want)
	}
	for _, row := range problem.Rows() {
		if words[row.SentenceKey()] != row.Sentence || words[row.NextStepKey()] != row.NextStep {
			t.Errorf("%s is not what the table of problems says", row.Code)
		}
	}
	if !bytes.Equal(Export(), Export()) {
		t.Error("two exports differ")
	}
}

// ordered reads a flat JSON object and keeps the order and repetitions of keys.
func ordered(t *testing.T, data []byte) ([]string, map[string]string) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(data))
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	var keys []string
	words := map[string]string{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		var word string
		if err := dec.Decode(&word); err != nil {
			t.Fatalf("%v: %v", key, err)
		}
		keys = append(keys, key.(string))
		words[key.(string)] = word
	}
	return keys, words
}

func TestEveryCatalogueHasExactlyTheWordsInTheOrderOfTheCode(t *testing.T) {
	paths, err := fs.Glob(files, "words/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no catalogues: %v", err)
	}
	var want []string
	for _, e := range entries {
		want = append(want, e.key)
	}
	for _, path := range paths {
		data, err := fs.ReadFile(files, path)
		if err != nil {
			t.Fatal(err)
		}
		keys, words := ordered(t, data)
		own := slices.DeleteFunc(keys, func(k string) bool { return strings.HasPrefix(k, "problem.") })
		if !slices.Equal(own, want) {
			t.Errorf("%s: keys %q, want %q", path, own, want)
		}
		for _, e := range entries {
			got := placeholders(words[e.key])
			if want := slices.Sorted(slices.Values(e.placeholders)); !slices.Equal(got, want) {
				t.Errorf("%s: %s has the placeholders %q, want %q", path, e.key, got, want)
			}
		}
	}
}

func placeholders(word string) []string {
	var names []string
	for _, part := range strings.Split(word, "{")[1:] {
		name, _, _ := strings.Cut(part, "}")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestWordsArePlainAndCalm(t *testing.T) {
	_, words := ordered(t, Export())
	for key, word := range words {
		if word == "" || word != strings.TrimSpace(word) {
			t.Errorf("%s: %q is empty or padded", key, word)
		}
		if strings.ContainsAny(word, "!<>&%\n\t") || strings.Contains(word, "://") {
			t.Errorf("%s: %q shouts, or holds markup or an address", key, word)
		}
		if strings.Count(word, "{") != strings.Count(word, "}") {
			t.Errorf("%s: %q has a torn placeholder", key, word)
		}
		for _, r := range word {
			if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
				t.Errorf("%s: %q holds an invisible character", key, word)
			}
		}
		if first := []rune(word)[0]; unicode.IsLower(first) && !strings.HasPrefix(key, "time.") {
			t.Errorf("%s: %q does not begin as a sentence does", key, word)
		}
	}
}

func TestEveryWordThatTheProgramAsksForExistsAndGetsItsPlaceholders(t *testing.T) {
	want := map[string][]string{}
	for _, e := range entries {
		want[e.key] = slices.Sorted(slices.Values(e.placeholders))
	}
	asked := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); !ok || sel.Sel.Name != "Word" {
				return true
			}
			key, ok := literal(call.Args[0])
			if !ok {
				return true
			}
			asked++
			names, exists := want[key]
			if !exists {
				t.Errorf("%s: there is no word %q", fset.Position(call.Pos()), key)
				return true
			}
			if call.Ellipsis.IsValid() {
				return true
			}
			var given []string
			for i := 1; i < len(call.Args); i += 2 {
				if name, ok := literal(call.Args[i]); ok {
					given = append(given, name)
				}
			}
			slices.Sort(given)
			if !slices.Equal(given, names) {
				t.Errorf("%s: %s is given %q, wants %q", fset.Position(call.Pos()), key, given, names)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if asked == 0 {
		t.Error("no word was found in any source: the search is broken")
	}
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

func TestALanguageWithoutACatalogueSpeaksEnglish(t *testing.T) {
	for _, tag := range []string{"", "en", "en-GB", "EN_us", "C", "xx", "fr-CA", "../words/en", "en\x00", "é", strings.Repeat("a", 1<<16)} {
		c := For(tag)
		if c.Language() != English && !strings.HasPrefix(tag, c.Language()) {
			t.Errorf("%.20q gives %q", tag, c.Language())
		}
		if c.Word("tray.quit") == "tray.quit" {
			t.Errorf("%.20q has no words", tag)
		}
	}
	if For("en-GB").Word("tray.quit") != "Quit" {
		t.Error("English is not English")
	}
	if (Catalogue{}).Sentence(problem.LinkInvalid) == "" || (Catalogue{}).Language() != English {
		t.Error("the zero catalogue says nothing")
	}
}

func TestAnUnknownCodeSaysThatSomethingWentWrong(t *testing.T) {
	c := For(English)
	if c.Sentence("no_such_code") != c.Sentence(problem.Internal) || c.NextStep("no_such_code") != c.NextStep(problem.Internal) {
		t.Error("an unknown code has words of its own")
	}
	for _, row := range problem.Rows() {
		if c.Sentence(row.Code) != row.Sentence || c.NextStep(row.Code) != row.NextStep {
			t.Errorf("%s differs from its row", row.Code)
		}
	}
}

func TestAValueInAPlaceholderIsNeverReadAsAPlaceholder(t *testing.T) {
	c := For(English)
	for got, want := range map[string]string{
		c.Word("tray.signed_in_as", "person", "a {person} {x} } {"):           "Signed in as a {person} {x} } {",
		c.Word("tray.open_recent", "label", "{time}", "time", "14:05"):        "14:05 · {time}",
		c.Word("tray.signed_in_as"):                                           "Signed in as {person}",
		c.Word("tray.signed_in_as", "other", "x"):                             "Signed in as {person}",
		c.Word("tray.signed_in_as", "person"):                                 "Signed in as {person}",
		c.Word("no.such_word", "person", "x"):                                 "no.such_word",
		c.Word("notice.body", "sentence", "One.", "next_step", "Two."):        "One. Two.",
		(Catalogue{words: map[string]string{"k": "a {b"}}).Word("k", "b", ""): "a {b",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAMomentIsAsShortAsItStaysClear(t *testing.T) {
	zone := time.FixedZone("", 3600)
	now := time.Date(2026, time.November, 23, 9, 30, 0, 0, zone) // a Monday
	at := func(y int, m time.Month, d, h, min int) time.Time { return time.Date(y, m, d, h, min, 0, 0, zone) }
	c := For(English)
	for moment, want := range map[time.Time]string{
		at(2026, time.November, 23, 0, 0):                           "00:00",
		at(2026, time.November, 23, 14, 5):                          "14:05",
		at(2026, time.November, 22, 23, 59):                         "yesterday 23:59",
		at(2026, time.November, 21, 8, 1):                           "Saturday 08:01",
		at(2026, time.November, 17, 8, 1):                           "Tuesday 08:01",
		at(2026, time.November, 16, 8, 1):                           "16 Nov 08:01",
		at(2026, time.January, 3, 8, 1):                             "3 Jan 08:01",
		at(2025, time.December, 31, 8, 1):                           "31 Dec 2025",
		at(2026, time.November, 25, 8, 1):                           "25 Nov 08:01",
		time.Date(2026, time.November, 22, 23, 30, 0, 0, time.UTC):  "00:30",
		time.Date(2026, time.November, 22, 22, 59, 59, 0, time.UTC): "yesterday 23:59",
	} {
		if got := c.When(moment, now); got != want {
			t.Errorf("%v: got %q, want %q", moment, got, want)
		}
	}
}

func TestADayWithAChangeOfSummerTimeIsStillOneDay(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	c := For(English)
	now := time.Date(2026, time.March, 30, 0, 10, 0, 0, zone)
	if got := c.When(time.Date(2026, time.March, 29, 0, 5, 0, 0, zone), now); got != "yesterday 00:05" {
		t.Errorf("got %q", got)
	}
}

func TestWeekdaysAndMonthsAreInTheirPlaces(t *testing.T) {
	c := For(English)
	for d := time.Sunday; d <= time.Saturday; d++ {
		if c.Word(weekdays[d]) != d.String() {
			t.Errorf("%v is called %q", d, c.Word(weekdays[d]))
		}
	}
	for m := time.January; m <= time.December; m++ {
		if !strings.HasPrefix(m.String(), c.Word(months[m-time.January])) {
			t.Errorf("%v is called %q", m, c.Word(months[m-time.January]))
		}
	}
}
