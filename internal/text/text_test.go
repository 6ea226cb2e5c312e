package text

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
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

// windowFile is where the window keeps the words of a language.
func windowFile(language string) string { return "../../frontend/src/words/" + language + ".json" }

func TestTheWindowReadsTheSameWords(t *testing.T) {
	for _, language := range languages {
		if *update {
			if err := os.WriteFile(windowFile(language), Export(language), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(windowFile(language))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, Export(language)) {
			t.Errorf("%s differs from the catalogue: run go generate ./internal/text", windowFile(language))
		}
		if !bytes.Equal(Export(language), Export(language)) {
			t.Errorf("%s: two exports differ", language)
		}
	}
}

func TestTheEnglishExportSaysWhatTheTableOfProblemsSays(t *testing.T) {
	keys, words := ordered(t, Export(English))
	want := len(entries) + 2*len(problem.Rows())
	if len(keys) != want || len(words) != want {
		t.Errorf("%d keys, %d of them distinct, want %d", len(keys), len(words), want)
	}
	for _, row := range problem.Rows() {
		if words[row.SentenceKey()] != row.Sentence || words[row.NextStepKey()] != row.NextStep {
			t.Errorf("%s is not what the table of problems says", row.Code)
		}
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

func TestThereIsACatalogueForEveryLanguageAndNoOther(t *testing.T) {
	paths, err := fs.Glob(files, "words/*.json")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, language := range languages {
		want = append(want, "words/"+language+".json")
	}
	if slices.Sort(want); !slices.Equal(paths, want) {
		t.Errorf("the catalogues are %q, want %q", paths, want)
	}
}

// This is the test that names what a translator has to do.
func TestEveryCatalogueHasExactlyTheWordsInTheOrderOfTheCode(t *testing.T) {
	for _, language := range languages {
		var want []string
		for _, e := range every() {
			want = append(want, e.key)
		}
		// English problems stand in the table of problems, for whoever has no catalogue.
		if language != English {
			for _, row := range problem.Rows() {
				want = append(want, row.SentenceKey(), row.NextStepKey())
			}
			for _, fact := range facts {
				want = append(want, factKey+fact)
			}
		}
		data, err := fs.ReadFile(files, "words/"+language+".json")
		if err != nil {
			t.Fatal(err)
		}
		keys, words := ordered(t, data)
		var missing, unknown []string
		for _, key := range want {
			if !slices.Contains(keys, key) {
				missing = append(missing, key+"  (English: "+strconv.Quote(For(English).any(key))+")")
			} else if strings.TrimSpace(words[key]) == "" && !slices.Contains(mayBeEmpty, key) {
				t.Errorf("%s.json: %s is empty", language, key)
			}
		}
		for _, key := range keys {
			if !slices.Contains(want, key) {
				unknown = append(unknown, key)
			}
		}
		switch {
		case len(missing) > 0 || len(unknown) > 0:
			t.Errorf("%s.json\n lacks:\n  %s\n has, though keys.go does not:\n  %s", language, strings.Join(missing, "\n  "), strings.Join(unknown, "\n  "))
		case !slices.Equal(keys, want):
			for i := range want {
				if i >= len(keys) || keys[i] != want[i] {
					t.Errorf("%s.json is not in the order of keys.go, from %s on", language, want[i])
					break
				}
			}
			if len(keys) > len(want) {
				t.Errorf("%s.json holds a key twice", language)
			}
		}
		for _, e := range every() {
			got := placeholders(words[e.key])
			if want := slices.Sorted(slices.Values(e.placeholders)); words[e.key] != "" && !slices.Equal(got, want) {
				t.Errorf("%s.json: %s has the placeholders %q, want %q", language, e.key, got, want)
			}
		}
		for _, row := range problem.Rows() {
			for _, key := range []string{row.SentenceKey(), row.NextStepKey()} {
				if len(placeholders(words[key])) > 0 {
					t.Errorf("%s.json: %s has a placeholder", language, key)
				}
			}
		}
		for _, fact := range facts {
			if language == English {
				continue
			}
			// A translation leaves {why} out: it is English, and for the log.
			want := slices.DeleteFunc(placeholders(fact), func(name string) bool { return name == "why" })
			if word := words[factKey+fact]; !slices.Equal(placeholders(word), want) || !strings.HasSuffix(word, ".") || word == fact {
				t.Errorf("%s.json: %s%s is %q", language, factKey, fact, word)
			}
		}
	}
}

// any is the word of a key, also of a problem's.
func (c Catalogue) any(key string) string {
	for _, row := range problem.Rows() {
		switch key {
		case row.SentenceKey():
			return c.Sentence(row.Code)
		case row.NextStepKey():
			return c.NextStep(row.Code)
		}
	}
	return c.words[key]
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

// mayBeEmpty are lists and not words.
var mayBeEmpty = []string{"time.twelve_hour_regions", "time.month_first_regions"}

// every is every word: those of the window, and those of findings.
func every() []entry { return slices.Concat(entries[:], findings[:]) }

// exported are the words that the window gets, and those of findings beside them.
func exported(t *testing.T, language string) map[string]string {
	t.Helper()
	_, words := ordered(t, Export(language))
	for _, e := range findings {
		words[e.key] = For(language).words[e.key]
	}
	return words
}

func TestWordsArePlainAndCalm(t *testing.T) {
	for _, language := range languages {
		words := exported(t, language)
		for key, word := range words {
			if word == "" && slices.Contains(mayBeEmpty, key) {
				continue
			}
			if word == "" || word != strings.TrimSpace(word) || strings.Contains(word, "  ") {
				t.Errorf("%s: %s: %q is empty or padded", language, key, word)
				continue
			}
			if strings.ContainsAny(word, "!<>&%\n\t") || strings.Contains(word, "://") {
				t.Errorf("%s: %s: %q shouts, or holds markup or an address", language, key, word)
			}
			if strings.Count(word, "{") != strings.Count(word, "}") {
				t.Errorf("%s: %s: %q has a torn placeholder", language, key, word)
			}
			for _, r := range word {
				if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.IsSpace(r) && r != ' ' && r != '\u00a0' {
					t.Errorf("%s: %s: %q holds an invisible character", language, key, word)
				}
			}
			if first := []rune(word)[0]; unicode.IsLower(first) && !strings.HasPrefix(key, "time.") {
				t.Errorf("%s: %s: %q does not begin as a sentence does", language, key, word)
			}
			if english := For(English).any(key); strings.HasSuffix(english, ".") != strings.HasSuffix(word, ".") && !strings.HasPrefix(key, "time.") {
				t.Errorf("%s: %s: only one of %q and %q is a sentence with a full stop", language, key, english, word)
			}
		}
	}
}

// Each language has one apostrophe and one pair of quotation marks, and French a
// no-break space before a high mark and inside its quotation marks.
func TestQuotesAndApostrophesAreThoseOfTheLanguage(t *testing.T) {
	wrong := map[string]*regexp.Regexp{
		"en": regexp.MustCompile(`["‘’„«»]|'[^a-z]`),
		"fr": regexp.MustCompile(`["'‘“”„]| [:;?»]|[^\x{a0}][;?»]|[^\x{a0}}]:|«[^\x{a0}]`),
		"es": regexp.MustCompile(`["'‘’“”„]|« | »|\s[:;?]|^[^¿]*\?`),
		"de": regexp.MustCompile(`["'‘’”«»]|\s[:;?]`),
	}
	for _, language := range languages {
		words := exported(t, language)
		for _, fact := range facts {
			words[factKey+fact] = For(language).Fact(fact)
		}
		for key, word := range words {
			if found := wrong[language].FindString(word); found != "" {
				t.Errorf("%s: %s: %q in %q is not how the language writes", language, key, found, word)
			}
		}
	}
}

// Each of these is the same word in both languages. A word that is not here and
// equals the English one was forgotten.
var sameAsEnglish = map[string]string{
	"app.name":             "fr es de: the product's name",
	"tray.tooltip":         "fr es de: the product's name",
	"tray.tooltip_working": "es de: the product's name and a placeholder",
	"notice.title":         "fr es de: the product's name",
	"tray.open_recent":     "fr es de: nothing but placeholders",
	"notice.body":          "fr es de: nothing but placeholders",
	"about.version":        "fr de: the same word",
	"nav.label":            "fr: the same word",
	"settings.no":          "es: the same word",
	"diagnostics.versions": "fr: the same word",
	"time.today":           "fr es de: nothing but placeholders",
	"time.this_year":       "es de: nothing but placeholders",
	"time.earlier":         "fr es de: nothing but placeholders",
	"time.date":            "fr es: nothing but placeholders",
	"time.date_year":       "fr es: nothing but placeholders",
	"time.clock":           "fr es de: nothing but placeholders",
	"time.clock_twelve":    "fr es de: nothing but placeholders",
	"time.am":              "fr de: the same word",
	"time.pm":              "fr de: the same word",
}

func TestNoWordIsLeftInEnglish(t *testing.T) {
	english, met := For(English), map[string]bool{}
	for _, language := range languages[1:] {
		words := exported(t, language)
		for key, word := range words {
			if word != english.any(key) {
				continue
			}
			met[key] = true
			if tongues, _, _ := strings.Cut(sameAsEnglish[key], ":"); !slices.Contains(strings.Fields(tongues), language) {
				t.Errorf("%s: %s is English: %q", language, key, word)
			}
		}
	}
	for key := range sameAsEnglish {
		if !met[key] {
			t.Errorf("%s is on the list of words that are the same as in English, and is not", key)
		}
	}
}

// untold are the rooms whose facts no tray, notice, window or sign-in page shows.
var untold = map[string]string{
	"autostart":     "removing it is for the command line; the agent only logs it",
	"browserpolicy": "what an origin looks like is for IT, on the command line",
	"cli":           "the command line speaks English",
	"control":       "refuses the system's account, which has no window",
	"fhir":          "a server's answers, for integrators",
	"intake":        "the form of a link is for integrators",
	"launch":        "the form of a link is for integrators",
	"nabla":         "a server's answers, for integrators",
	"orgaudit":      "a server's answers, for integrators",
	"orgserver":     "a server's answers, for integrators",
	"orgstore":      "a server's answers, for integrators",
	"scheme":        "but the one below, what an installer does",
}

// toldAnyhow are facts of those rooms that a person is shown all the same.
var toldAnyhow = []string{"Who receives links from the EHR could not be found out."}

// forIT are facts that are only left out: policy's own names of a wrong value, a
// value that the window never offers, and a file that only “policy check” reads.
var forIT = []string{
	"The file cannot be read: {}.",
	"There is no such file.",
	"ProxyMode pac cannot be used on this computer.",
	"ProxyMode is none of system, direct, manual and pac.",
	"{} {}.",
}

// A room may add a fact that only IT or an integrator reads; a fact that is not on
// the list is left out in the other languages.
func TestEveryFactThatAClinicianCanBeShownIsTranslated(t *testing.T) {
	rooms := map[string][]*ast.File{}
	fset := token.NewFileSet()
	for _, s := range sources(t) {
		if !strings.HasSuffix(s.path, ".go") {
			continue
		}
		file, err := parser.ParseFile(fset, s.path, s.text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		rooms[filepath.Dir(s.path)] = append(rooms[filepath.Dir(s.path)], file)
	}
	var known []string
	for _, fact := range facts {
		known = append(known, unnamed.ReplaceAllString(fact, "{}"))
	}
	written := map[string]bool{}
	shunned := map[string]bool{}
	for dir, files := range rooms {
		room := filepath.Base(dir)
		for _, f := range factsOf(files) {
			at := fset.Position(f.at)
			if f.text == "" {
				t.Errorf("%s: the search cannot follow where this fact is written", at)
				continue
			}
			written[f.text] = true
			if untold[room] != "" && !slices.Contains(toldAnyhow, f.text) {
				shunned[room] = true
				continue
			}
			covered := slices.Contains(known, f.text) || !strings.Contains(f.text, "{}") && For("fr").Fact(f.text) != ""
			if !covered && !slices.Contains(forIT, f.text) {
				t.Errorf("%s: the fact %q is not in keys.go, so nobody sees it but in English", at, f.text)
			}
		}
	}
	for room := range untold {
		if !shunned[room] {
			t.Errorf("%s has no facts that are not told: take it off the list", room)
		}
	}
	for _, fact := range slices.Concat(toldAnyhow, forIT) {
		if !written[fact] {
			t.Errorf("nobody writes the fact %q any more", fact)
		}
	}
	for i, fact := range known {
		// The name of a policy key that begins a fact stands in the literal.
		ends := func(text string) bool { return strings.HasSuffix(text, strings.TrimPrefix(fact, "{}")) }
		if !written[fact] && !(strings.HasPrefix(fact, "{}") && slices.ContainsFunc(slices.Collect(maps.Keys(written)), ends)) {
			t.Errorf("nobody writes the fact %q any more", facts[i])
		}
	}
}

var unnamed = regexp.MustCompile(`\{[^}]*\}`)

func TestTheSearchForFactsFollowsThemToWhereTheyAreWritten(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", `package x
func a() error { return problem.With(
	problem.Internal,
	"A.", nil) }
func b(fact string) error { return problem.With(problem.Internal, fact, nil) }
func c() error { return b("C " + name() + ".") }
func d() error { e := func(why string) error { return problem.With(problem.Internal, why, nil) }; return e("D.") }
func f() error { const said = "F."; return b(said) }
func g() error { said := ""; said = "G."; return b(said) }
func h(n int) (int, string) { if n > 1 { return n, "H." }; return n, "" }
func i() error { n, said := h(1); return problem.With(n, said, nil) }
func j() error { return problem.Restore("", "", "J.") }
func k(p *problem.Problem) error { return problem.Restore("", "", p.Fact) }
func l() error { return problem.With(problem.Internal, unheard(), nil) }
func m() error { return &problem.Problem{Code: problem.Internal, Fact: "M."} }
func n() error { return problem.With(problem.Internal, o(), nil) }
func o() string { return "O." }
`, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range factsOf([]*ast.File{file}) {
		got = append(got, f.text)
	}
	slices.Sort(got)
	if want := []string{"", "A.", "C {}.", "D.", "F.", "G.", "H.", "J.", "M.", "O."}; !slices.Equal(slices.Compact(got), want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// aFact is a fact as a source writes it, with {} for what is not a literal. An
// empty text is a fact whose text could not be found.
type aFact struct {
	at   token.Pos
	text string
}

// factsOf finds every fact that one package gives to a problem: written in the
// call, or passed on through a name, a parameter or a result of the same package.
func factsOf(files []*ast.File) []aFact {
	var all []aFact
	var follow func(e ast.Expr, in []ast.Node)
	// callers follows an argument of every call of a function of the package.
	callers := func(name string, index int) {
		for _, file := range files {
			inspect(file, func(n ast.Node, in []ast.Node) {
				if call, ok := n.(*ast.CallExpr); ok && index < len(call.Args) && calledName(call) == name {
					follow(call.Args[index], in)
				}
			})
		}
	}
	// results follows one result of every return of a function of the package.
	results := func(name string, index int) (found bool) {
		for _, file := range files {
			for _, decl := range file.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				if !ok || fn.Name.Name != name || fn.Body == nil {
					continue
				}
				inspect(fn, func(n ast.Node, in []ast.Node) {
					if back, ok := n.(*ast.ReturnStmt); ok && index < len(back.Results) {
						found = true
						follow(back.Results[index], in)
					}
				})
			}
		}
		return found
	}
	follow = func(e ast.Expr, in []ast.Node) {
		if text, ok := pattern(e); ok {
			if text != "" {
				all = append(all, aFact{e.Pos(), text})
			}
			return
		}
		if sel, ok := e.(*ast.SelectorExpr); ok && sel.Sel.Name == "Fact" {
			return // passed on from a problem that has been found where it was made
		}
		if call, ok := e.(*ast.CallExpr); ok && results(calledName(call), 0) {
			return
		}
		id, ok := e.(*ast.Ident)
		found := false
		for i := len(in) - 1; ok && !found && i >= 0; i-- {
			var params *ast.FieldList
			name := ""
			switch fn := in[i].(type) {
			case *ast.FuncDecl:
				params, name = fn.Type.Params, fn.Name.Name
			case *ast.FuncLit:
				params = fn.Type.Params
				if i > 0 {
					if set, ok := in[i-1].(*ast.AssignStmt); ok && len(set.Lhs) == 1 {
						name = set.Lhs[0].(*ast.Ident).Name
					}
				}
			default:
				continue
			}
			inspect(in[i], func(n ast.Node, within []ast.Node) {
				var left []ast.Expr
				var right []ast.Expr
				switch n := n.(type) {
				case *ast.AssignStmt:
					left, right = n.Lhs, n.Rhs
				case *ast.ValueSpec:
					for _, name := range n.Names {
						left = append(left, name)
					}
					right = n.Values
				}
				for at, l := range left {
					if set, ok := l.(*ast.Ident); !ok || set.Name != id.Name || len(right) == 0 {
						continue
					}
					if len(right) == len(left) {
						found = true
						if right[at] != e {
							follow(right[at], slices.Concat(in[:i], within))
						}
					} else if call, ok := right[0].(*ast.CallExpr); ok {
						found = results(calledName(call), at) || found
					}
				}
			})
			at := 0
			for _, field := range params.List {
				for _, p := range field.Names {
					if p.Name == id.Name && name != "" {
						found = true
						callers(name, at)
					}
					at++
				}
			}
		}
		if !found {
			all = append(all, aFact{at: e.Pos()})
		}
	}
	for _, file := range files {
		inspect(file, func(n ast.Node, in []ast.Node) {
			switch n := n.(type) {
			case *ast.CallExpr:
				sel, ok := n.Fun.(*ast.SelectorExpr)
				if !ok {
					return
				}
				from, ok := sel.X.(*ast.Ident)
				switch {
				case !ok || from.Name != "problem":
				case sel.Sel.Name == "With":
					follow(n.Args[1], in)
				case sel.Sel.Name == "Restore":
					follow(n.Args[2], in)
				}
			case *ast.CompositeLit:
				sel, ok := n.Type.(*ast.SelectorExpr)
				if !ok || sel.Sel.Name != "Problem" {
					return
				}
				if from, ok := sel.X.(*ast.Ident); !ok || from.Name != "problem" {
					return
				}
				for _, element := range n.Elts {
					if pair, ok := element.(*ast.KeyValueExpr); ok && pair.Key.(*ast.Ident).Name == "Fact" {
						follow(pair.Value, in)
					}
				}
			}
		})
	}
	return all
}

// pattern is a text that is written here, with {} for what is put into it.
func pattern(e ast.Expr) (string, bool) {
	if text, ok := literal(e); ok {
		return text, true
	}
	sum, ok := e.(*ast.BinaryExpr)
	if !ok || sum.Op != token.ADD {
		return "", false
	}
	var both [2]string
	for i, part := range []ast.Expr{sum.X, sum.Y} {
		if both[i], ok = pattern(part); !ok {
			both[i] = "{}"
		}
	}
	return both[0] + both[1], true
}

// inspect visits every node with the nodes that it stands in, the outermost first
// and itself last.
func inspect(root ast.Node, visit func(n ast.Node, in []ast.Node)) {
	var in []ast.Node
	ast.Inspect(root, func(n ast.Node) bool {
		if n == nil {
			in = in[:len(in)-1]
			return true
		}
		in = append(in, n)
		visit(n, slices.Clone(in))
		return true
	})
}

// calledName is the name of the function or method that is called.
func calledName(call *ast.CallExpr) string {
	switch fn := call.Fun.(type) {
	case *ast.Ident:
		return fn.Name
	case *ast.SelectorExpr:
		return fn.Sel.Name
	}
	return ""
}

func TestAFactIsToldInTheLanguageOrNotAtAll(t *testing.T) {
	for english, want := range map[string]string{
		"":                             "",
		"It did not answer in time.":   "Er hat nicht rechtzeitig geantwortet.",
		"Not set: BackendURL, {keys}.": "Nicht festgelegt: BackendURL, {keys}.",
		"ExtraCAFile cannot be used.":  "ExtraCAFile kann nicht verwendet werden.",
		"Your settings file cannot be used: it is no JSON. Mend or remove it, then choose again.": "Ihre Einstellungsdatei kann nicht verwendet werden. Korrigieren oder entfernen Sie sie und wählen Sie dann erneut.",
		"It holds a key twice.": "",
	} {
		if got := For("de").Fact(english); got != want {
			t.Errorf("%q: got %q, want %q", english, got, want)
		}
		if got := For(English).Fact(english); got != english {
			t.Errorf("English changes %q to %q", english, got)
		}
	}
	p := problem.With(problem.OrgUnreachable, "It did not answer in time.", nil)
	for language, want := range map[string]string{
		"en": p.Error(), "de": "Der Server Ihrer Einrichtung ist nicht erreichbar. Er hat nicht rechtzeitig geantwortet.",
	} {
		if got := For(language).Told(p); got != want {
			t.Errorf("%s: got %q, want %q", language, got, want)
		}
	}
}

// source is one file of the program, tests apart: Go or the window.
type source struct{ path, text string }

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{"node_modules", "testdata", "testing", "dist", "wailsjs", "out", ".git"}, d.Name()) {
			return filepath.SkipDir
		}
		name := filepath.ToSlash(path)
		window := strings.HasPrefix(name, "../../frontend/src/") && (strings.HasSuffix(name, ".svelte") || strings.HasSuffix(name, ".ts") && !strings.HasSuffix(name, ".test.ts"))
		program := strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && !strings.HasSuffix(name, "/text/keys.go")
		if !window && !program {
			return nil
		}
		data, err := os.ReadFile(path)
		all = append(all, source{name, string(data)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A key is used when it stands in a source as a whole, or when a source puts it
// together from a literal prefix that ends with a dot or an underscore and
// another literal, as in "stage." + string(view.Opened).
func TestNoWordIsUnused(t *testing.T) {
	quoted := regexp.MustCompile("[\"'`]([A-Za-z0-9_.]+)(?:[\"'`]|\\$\\{)")
	literals := map[string]bool{}
	for _, s := range sources(t) {
		for _, found := range quoted.FindAllStringSubmatch(s.text, -1) {
			literals[found[1]] = true
		}
	}
	used := func(key string) bool {
		if literals[key] {
			return true
		}
		for i := range len(key) - 1 {
			if (key[i] == '.' || key[i] == '_') && literals[key[:i+1]] && literals[key[i+1:]] {
				return true
			}
		}
		return false
	}
	var unused []string
	for _, e := range entries {
		if !used(e.key) && !used(strings.TrimSuffix(e.key, "_month_first")) {
			unused = append(unused, e.key)
		}
	}
	if len(unused) > 0 {
		t.Errorf("neither Go nor the window uses:\n  %s", strings.Join(unused, "\n  "))
	}
	if used("no.such_key") {
		t.Error("the search finds what is not there")
	}
}

func TestTheWindowAsksForWordsThatExistAndFillsTheirPlaceholders(t *testing.T) {
	say := regexp.MustCompile(`\.say\(\s*'([a-z0-9_.]+)'`)
	name := regexp.MustCompile(`(\w+)\s*[:,}]`)
	want := map[string][]string{}
	for _, e := range entries {
		want[e.key] = e.placeholders
	}
	asked := 0
	for _, s := range sources(t) {
		if !strings.HasPrefix(s.path, "../../frontend/") {
			continue
		}
		for _, at := range say.FindAllStringSubmatchIndex(s.text, -1) {
			asked++
			key := s.text[at[2]:at[3]]
			names, exists := want[key]
			if !exists {
				t.Errorf("%s: there is no word %q", s.path, key)
				continue
			}
			given := map[string]bool{}
			for _, found := range name.FindAllStringSubmatch(arguments(s.text[at[1]:]), -1) {
				given[found[1]] = true
			}
			for _, placeholder := range names {
				if !given[placeholder] {
					t.Errorf("%s: %s is not given its placeholder %q", s.path, key, placeholder)
				}
			}
			if len(names) == 0 && len(given) > 0 {
				t.Errorf("%s: %s has no placeholders, and is given some", s.path, key)
			}
		}
	}
	if asked == 0 {
		t.Error("no word was found in the window: the search is broken")
	}
}

// arguments returns what stands before the parenthesis that ends a call.
func arguments(text string) string {
	depth := 1
	for i, r := range text {
		switch r {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return text[:i]
			}
		}
	}
	return text
}

func TestEveryWordThatTheProgramAsksForExistsAndGetsItsPlaceholders(t *testing.T) {
	want := map[string][]string{}
	for _, e := range every() {
		want[e.key] = slices.Sorted(slices.Values(e.placeholders))
	}
	asked := 0
	for _, s := range sources(t) {
		if !strings.HasSuffix(s.path, ".go") {
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, s.path, s.text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
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
	for _, tag := range []string{"", "en", "en-GB", "EN_us", "C", "xx", "frr", "../words/fr", "fr\x00", "é", strings.Repeat("a", 1<<16)} {
		c := For(tag)
		if c.Language() != English {
			t.Errorf("%.20q gives %q", tag, c.Language())
		}
		if c.Word("tray.quit") == "tray.quit" {
			t.Errorf("%.20q has no words", tag)
		}
	}
	if For("en-GB").Word("tray.quit") != "Quit" || For("fr-CA").Word("tray.quit") != "Quitter" || For("DE_at").Word("tray.quit") != "Beenden" {
		t.Error("a language with a region is not the language")
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

// The window's words.test.ts reads the same file: tray and window write a moment
// alike.
func TestTheTwinInTheWindowWritesTheSameMoments(t *testing.T) {
	data, err := os.ReadFile("testdata/times.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Now   string
		Cases []struct{ Locale, At, Text string }
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	const form = "2006-01-02T15:04:05"
	now, err := time.Parse(form, file.Now)
	if err != nil || len(file.Cases) == 0 {
		t.Fatal(err, len(file.Cases))
	}
	for _, c := range file.Cases {
		at, err := time.Parse(form, c.At)
		if err != nil {
			t.Fatal(err)
		}
		if got := For(c.Locale).When(at, now); got != c.Text {
			t.Errorf("%s %s: got %q, want %q", c.Locale, c.At, got, c.Text)
		}
	}
	spoken := map[string]bool{}
	for _, c := range file.Cases {
		spoken[For(c.Locale).Language()] = true
	}
	if len(spoken) != len(languages) {
		t.Errorf("the file speaks %v", spoken)
	}
}

func TestALocaleOfAnotherLanguageDoesNotChangeHowTimesAreWritten(t *testing.T) {
	at := time.Date(2026, time.November, 3, 14, 5, 0, 0, time.UTC)
	for tag, want := range map[string]string{
		"en-US": "2:05\u00a0PM", "en_US": "2:05\u00a0PM", "en-us": "2:05\u00a0PM", "en-Latn-US": "2:05\u00a0PM", "en-US-u-hc-h23": "2:05\u00a0PM",
		"fr-US": "14:05", "es-MX": "14:05", "en": "14:05", "": "14:05", "en-u-US": "14:05", "en-": "14:05", "-US": "14:05", "en-US\x00": "14:05",
	} {
		if got := For("en").In(tag).Clock(at); got != want {
			t.Errorf("%q: got %q, want %q", tag, got, want)
		}
	}
	if got := For("en-US").In("en-GB").Clock(at); got != "14:05" {
		t.Errorf("the locale before stays: %q", got)
	}
	for hour, want := range map[int]string{0: "12:05\u00a0AM", 1: "1:05\u00a0AM", 11: "11:05\u00a0AM", 12: "12:05\u00a0PM", 23: "11:05\u00a0PM"} {
		if got := For("en-US").Clock(time.Date(2026, time.November, 3, hour, 5, 0, 0, time.UTC)); got != want {
			t.Errorf("%d o'clock: got %q, want %q", hour, got, want)
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
		at(2026, time.November, 16, 8, 1):                           "16 Nov, 08:01",
		at(2026, time.January, 3, 8, 1):                             "3 Jan, 08:01",
		at(2025, time.December, 31, 8, 1):                           "31 Dec 2025",
		at(2026, time.November, 25, 8, 1):                           "25 Nov, 08:01",
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
