package canary

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
)

const (
	testName  = "Zöë O'Quorvath-Ünal"
	testDay   = "1883-11-27"
	testToken = "kQ3x9Vb2Lr7TzP0dWm5YhJc8NfGs1EaUoX4"
)

func testMarks() *Marks {
	m := &Marks{}
	m.Add(PatientName, testName)
	m.Add(BirthDate, testDay)
	m.Add(Handle, testToken)
	return m
}

// looked returns what a search of some bytes finds.
func looked(m *Marks, data []byte) map[Kind]string {
	s := NewSearcher(m)
	s.Search(UserFiles, "a file", data)
	found := map[Kind]string{}
	for _, f := range s.finds {
		found[f.Kind] = f.Form
	}
	return found
}

// noise is what a mark may stand in: nothing of it is one.
func noise(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestAMarkIsFoundInEveryWayOfWritingIt(t *testing.T) {
	utf := func(text string) []byte {
		var b []byte
		for _, u := range utf16.Encode([]rune(text)) {
			b = append(b, byte(u), byte(u>>8))
		}
		return b
	}
	zipped := func(name string, data []byte) []byte {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		w, _ := z.Create(name)
		_, _ = w.Write(data)
		_ = z.Close()
		return b.Bytes()
	}
	gzipped := func(data []byte) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(data)
		_ = z.Close()
		return b.Bytes()
	}
	tarred := func(name string, data []byte) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		_ = w.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o600})
		_, _ = w.Write(data)
		_ = w.Close()
		return b.Bytes()
	}
	deflated := func(data []byte) []byte {
		var b bytes.Buffer
		z := zlib.NewWriter(&b)
		_, _ = z.Write(data)
		_ = z.Close()
		return b.Bytes()
	}
	inJSON := func(text string) []byte {
		b, _ := json.Marshal(map[string]string{"a": text})
		return b
	}
	ways := map[string]func(string) []byte{
		"plain":               func(s string) []byte { return []byte(s) },
		"a query":             func(s string) []byte { return []byte(url.Values{"a": {s}}.Encode()) },
		"a path":              func(s string) []byte { return []byte((&url.URL{Path: "/" + s + "/x"}).String()) },
		"every byte percent":  func(s string) []byte { return []byte(each(s, "%%%02x")) },
		"hex":                 func(s string) []byte { return []byte(hex.EncodeToString([]byte(s))) },
		"upper hex":           func(s string) []byte { return fmt.Appendf(nil, "%X", s) },
		"hex of fmt":          func(s string) []byte { return fmt.Appendf(nil, "% x", s) },
		"bytes of fmt":        func(s string) []byte { return fmt.Append(nil, []byte(s)) },
		"Go syntax of bytes":  func(s string) []byte { return fmt.Appendf(nil, "%#v", []byte(s)) },
		"quoted":              func(s string) []byte { return fmt.Appendf(nil, "%q", s) },
		"quoted for ASCII":    func(s string) []byte { return fmt.Appendf(nil, "%+q", s) },
		"quoted twice":        func(s string) []byte { return fmt.Appendf(nil, "%q", fmt.Sprintf("%q", s)) },
		"JSON":                inJSON,
		"JSON with escapes":   func(s string) []byte { return []byte(strconv.QuoteToASCII(s)) },
		"UTF-16":              utf,
		"base64":              func(s string) []byte { return []byte(base64.StdEncoding.EncodeToString([]byte(s))) },
		"base64, second byte": func(s string) []byte { return []byte(base64.StdEncoding.EncodeToString([]byte("a" + s + "bb"))) },
		"base64, third byte":  func(s string) []byte { return []byte(base64.URLEncoding.EncodeToString([]byte("ab" + s + "c"))) },
		"JSON in base64":      func(s string) []byte { return []byte(base64.RawURLEncoding.EncodeToString(inJSON(s))) },
		"base64 in base64": func(s string) []byte {
			return []byte(base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString([]byte("abcd" + s)))))
		},
		"gzip":              func(s string) []byte { return gzipped([]byte(s)) },
		"gzip after others": func(s string) []byte { return append(noise(300), gzipped([]byte(s))...) },
		"zlib":              func(s string) []byte { return deflated([]byte(s)) },
		"a zip":             func(s string) []byte { return zipped("a", []byte(s)) },
		"a name in a zip":   func(s string) []byte { return zipped(s, nil) },
		"a tar in gzip":     func(s string) []byte { return gzipped(tarred("a", []byte(s))) },
		"a name in a tar":   func(s string) []byte { return tarred(s, nil) },
		"gzip in base64":    func(s string) []byte { return []byte(base64.StdEncoding.EncodeToString(gzipped([]byte(s)))) },
		"a zip in a zip":    func(s string) []byte { return zipped("a", zipped("b", []byte("… "+s))) },
	}
	for way, write := range ways {
		for kind, text := range map[Kind]string{PatientName: testName, BirthDate: testDay, Handle: testToken} {
			for _, around := range []int{0, 1, 7, 4096} {
				if strings.Contains(way, "zip") && way != "gzip after others" && around > 0 {
					continue // an archive is a whole file
				}
				data := slices.Concat(noise(around), []byte(" "), write(text), []byte(" "), noise(around))
				if strings.Contains(way, "zip") || strings.Contains(way, "tar") {
					data = write(text)
				}
				if _, ok := looked(testMarks(), data)[kind]; !ok {
					t.Errorf("%s, %d bytes around it: the %s is not found", way, around, kind)
				}
			}
		}
	}
}

func TestAPartOfAMarkIsFoundAndAChanceLikenessIsNot(t *testing.T) {
	for from := range len(testToken) - 2*part {
		if _, ok := looked(testMarks(), []byte("x"+testToken[from:from+part+6]+"y"))[Handle]; !ok {
			t.Errorf("%d characters from %d are not found", part+6, from)
		}
	}
	if found := looked(testMarks(), []byte(testToken[:part-1]+"#")); len(found) > 0 {
		t.Errorf("%d characters are taken for the mark: %v", part-1, found)
	}
	if found := looked(testMarks(), noise(8<<20)); len(found) > 0 {
		t.Errorf("noise is taken for a mark: %v", found)
	}
}

func TestADateIsFoundAsPeopleWriteIt(t *testing.T) {
	for _, written := range []string{"18831127", "27.11.1883", "27/11/1883", "11/27/1883"} {
		if _, ok := looked(testMarks(), []byte("born "+written))[BirthDate]; !ok {
			t.Errorf("%s is not found", written)
		}
	}
}

func TestOfAJWTTheHeaderIsNoMarkAndTheSignatureIs(t *testing.T) {
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":"k1","typ":"JWT"}`))
	m := &Marks{}
	m.Add(AccessToken, header+".eyJzdWIiOiJhZGEifQ."+testToken)
	if found := looked(m, []byte(header)); len(found) > 0 {
		t.Error("the header is taken for the token")
	}
	if _, ok := looked(m, []byte(testToken[5:]))[AccessToken]; !ok {
		t.Error("the signature is not found")
	}
}

func TestWhatIsShorterThanChanceIsNoMark(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("seven bytes were taken")
		}
	}()
	(&Marks{}).Add(Handle, "1234567")
}

func TestAFindOutsideTheListFailsAndOneOnItIsToldWithItsReason(t *testing.T) {
	s := NewSearcher(testMarks())
	for _, p := range Places() {
		s.Search(p.Name, "somewhere", []byte("nothing"))
	}
	s.Search(OpenerArgv, "xdg-open", []byte(testToken))
	count := map[Kind]int{}
	for _, k := range Kinds() {
		count[k] = 1
	}
	row := Allowance{OpenerArgv, []Kind{Handle}, "a reason"}
	if r := judge(s, count, []Allowance{row}, true); !r.Good() || len(r.Met) != 1 || r.Met[0].Reason != "a reason" {
		t.Errorf("what is allowed: %+v", r)
	}
	if r := judge(s, count, nil, true); r.Good() || len(r.Finds) != 1 {
		t.Errorf("what is not allowed: %+v", r)
	}
	if r := judge(s, count, []Allowance{{OpenerEnv, []Kind{Handle}, "another place"}}, true); len(r.Finds) != 1 {
		t.Errorf("what is allowed elsewhere: %+v", r)
	}
	if r := judge(s, count, []Allowance{{OpenerArgv, []Kind{OneTimeURL}, "another kind"}}, true); len(r.Finds) != 1 {
		t.Errorf("what is allowed for another kind: %+v", r)
	}
}

func TestARunThatShowsNothingIsNoGoodRun(t *testing.T) {
	count := map[Kind]int{}
	for _, k := range Kinds() {
		count[k] = 1
	}
	full := func() *Searcher {
		s := NewSearcher(testMarks())
		for _, p := range Places() {
			s.Search(p.Name, "somewhere", []byte("nothing"))
		}
		return s
	}
	if r := judge(full(), count, nil, true); !r.Good() {
		t.Fatalf("a good run: %+v", r)
	}
	if r := judge(NewSearcher(testMarks()), count, nil, true); r.Good() || len(r.Wrong) != len(Places()) {
		t.Errorf("places that nobody looked at: %d told", len(r.Wrong))
	}
	if r := judge(full(), map[Kind]int{}, nil, true); r.Good() || len(r.Wrong) != len(Kinds()) {
		t.Errorf("kinds that never flowed: %d told", len(r.Wrong))
	}
	if r := judge(full(), count, []Allowance{{OpenerArgv, []Kind{Handle}, "stale"}}, true); r.Good() {
		t.Error("a row that nothing needs is not told")
	}
}

func TestAFindNeverShowsTheMark(t *testing.T) {
	s := NewSearcher(testMarks())
	s.Search(UserFiles, "a file", []byte(testToken+testName))
	for _, f := range s.finds {
		if text := fmt.Sprintf("%v %+v", *f, *f); strings.Contains(text, testToken[:part]) || strings.Contains(text, testName) {
			t.Errorf("it shows the mark: %s", text)
		}
	}
}

func TestEveryPlaceAndKindHasARowAndEveryAllowanceNamesThem(t *testing.T) {
	places := map[PlaceName]bool{}
	for _, p := range Places() {
		if places[p.Name] || p.How == "" {
			t.Errorf("%s is there twice, or nothing says how it is read", p.Name)
		}
		places[p.Name] = true
	}
	for _, a := range Allowed() {
		if !places[a.Place] || len(a.Kinds) == 0 || len(a.Reason) < 40 {
			t.Errorf("the row of %s has no place, kind or reason", a.Place)
		}
		for _, k := range a.Kinds {
			if !slices.Contains(Kinds(), k) {
				t.Errorf("%s allows a kind that is not on the list: %s", a.Place, k)
			}
		}
	}
}

func BenchmarkSearch(b *testing.B) {
	m := &Marks{}
	r := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		m.Add(Handle, fmt.Sprintf("%x%x%x", r.Uint64(), r.Uint64(), r.Uint64()))
	}
	x := m.index()
	data := noise(16 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		x.in(data, func(form) {})
	}
}
