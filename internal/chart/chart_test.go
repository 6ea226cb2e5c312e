package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

// drawn is what a reader of the picture meets.
type drawn struct {
	texts, paths []string
	title, desc  string
	attrs        map[string]string
}

func read(t *testing.T, svg []byte) drawn {
	t.Helper()
	d := drawn{attrs: map[string]string{}}
	var inside string
	for dec := xml.NewDecoder(strings.NewReader(string(svg))); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return d
		}
		if err != nil {
			t.Fatalf("it is not XML: %v\n%s", err, svg)
		}
		switch e := token.(type) {
		case xml.StartElement:
			inside = e.Name.Local
			if !slices.Contains([]string{"svg", "title", "desc", "style", "rect", "text", "path"}, inside) {
				t.Errorf("there is an element %s", inside)
			}
			for _, a := range e.Attr {
				if inside == "svg" {
					d.attrs[a.Name.Local] = a.Value
				}
				if a.Name.Local == "d" {
					d.paths = append(d.paths, a.Value)
				}
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Errorf("an attribute holds no number: %s", a.Value)
				}
			}
		case xml.CharData:
			switch text := strings.TrimSpace(string(e)); {
			case text == "":
			case inside == "title":
				d.title = text
			case inside == "desc":
				d.desc = text
			case inside == "text":
				d.texts = append(d.texts, text)
			}
		}
	}
}

func lines() Lines {
	return Lines{
		Title: "Memory", Description: "Memory stays between 6 and 7 MB.", X: Axis{Name: "launches", Zero: true},
		Panels: []Panel{{
			Y:      Axis{Name: "memory", Unit: "MB", Zero: true},
			Series: []Series{{"PSS", []Point{{0, 6.2}, {50_000, 6.9}, {100_000, 6.8}}}, {"of it own", []Point{{0, 3}, {100_000, 3.1}}}},
			Bounds: []Bound{{"allowed", 10}},
		}},
	}
}

func TestAPictureSaysInWordsWhatItShows(t *testing.T) {
	svg, err := lines().SVG()
	if err != nil {
		t.Fatal(err)
	}
	d := read(t, svg)
	if d.title != "Memory" || d.desc != "Memory stays between 6 and 7 MB." || d.attrs["role"] != "img" || d.attrs["aria-labelledby"] != "title desc" {
		t.Errorf("%+v", d)
	}
	for _, want := range []string{"Memory", "PSS", "of it own", "memory (MB)", "launches", "allowed", "100,000", "10", "0"} {
		if !slices.Contains(d.texts, want) {
			t.Errorf("it does not say %q: %q", want, d.texts)
		}
	}
	if !strings.Contains(string(svg), "prefers-color-scheme:dark") {
		t.Error("it has one look only")
	}
}

func TestEveryPointIsWhereItsAxesSay(t *testing.T) {
	svg, err := lines().SVG()
	if err != nil {
		t.Fatal(err)
	}
	// From 0 to 100,000 across, from 0 to 10 upwards.
	const want = "M74.0 126.6L402.0 114.7L730.0 116.4"
	if d := read(t, svg); !slices.Contains(d.paths, want) {
		t.Errorf("no line %q: %q", want, d.paths)
	}
}

func TestHostileNamesAreInert(t *testing.T) {
	const name = "<script>x</script>\"'&\x00\u202e]]>"
	l := lines()
	l.Title, l.Description, l.Panels[0].Series[0].Name, l.Panels[0].Bounds[0].Name, l.X.Name = name, name, name, name, name
	svg, err := l.SVG()
	if err != nil {
		t.Fatal(err)
	}
	read(t, svg) // which refuses an element of another name
	svg, err = Bars{Title: name, Bars: []Bar{{Name: name, Value: 1, Text: name}}}.SVG()
	if err != nil {
		t.Fatal(err)
	}
	read(t, svg)
}

func TestWhatCannotBeDrawnIsRefused(t *testing.T) {
	change := func(f func(*Lines)) Lines {
		l := lines()
		f(&l)
		return l
	}
	for name, l := range map[string]Lines{
		"no panel":        {},
		"no point":        change(func(l *Lines) { l.Panels[0].Series = nil }),
		"no number":       change(func(l *Lines) { l.Panels[0].Series[0].Points[1].Y = math.NaN() }),
		"endless":         change(func(l *Lines) { l.Panels[0].Series[0].Points[1].X = math.Inf(1) }),
		"endless bound":   change(func(l *Lines) { l.Panels[0].Bounds[0].At = math.Inf(1) }),
		"too many series": change(func(l *Lines) { l.Panels[0].Series = make([]Series, mostSeries+1) }),
	} {
		if _, err := l.SVG(); err == nil {
			t.Errorf("%s: drawn", name)
		}
	}
	for name, b := range map[string]Bars{
		"no bar": {}, "no number": {Bars: []Bar{{Value: math.NaN()}}}, "negative": {Bars: []Bar{{Value: -1}}},
	} {
		if _, err := b.SVG(); err == nil {
			t.Errorf("%s: drawn", name)
		}
	}
}

func TestTicksAreRoundAndHoldEveryValue(t *testing.T) {
	for _, c := range []struct {
		values []float64
		zero   bool
		want   string
	}{
		{[]float64{3, 97_000}, true, "0 20,000 40,000 60,000 80,000 100,000"},
		{[]float64{0.02, 0.19}, true, "0.00 0.05 0.10 0.15 0.20"},
		{[]float64{6.1, 6.9}, false, "6.0 6.2 6.4 6.6 6.8 7.0"},
		{[]float64{0, 0}, true, "0.0 0.2 0.4 0.6 0.8 1.0"},
		{[]float64{5, 5}, false, "4.0 4.5 5.0 5.5 6.0"},
		{[]float64{-20, 30}, false, "-20 -10 0 10 20 30"},
	} {
		s := newSpan(c.zero)
		for _, v := range c.values {
			s.add(v)
		}
		axis := s.scale(0, 100)
		var got []string
		for _, tick := range axis.ticks {
			got = append(got, axis.format(tick))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v: %q, want %q", c.values, strings.Join(got, " "), c.want)
		}
		for _, v := range c.values {
			if at := axis.at(v); at < 0 || at > 100 {
				t.Errorf("%v is outside, at %v", v, at)
			}
		}
	}
}

func TestABarIsAsLongAsItsValueAndSaysIt(t *testing.T) {
	svg, err := Bars{Title: "Ratios", Axis: Axis{Name: "ratio to the peer", Unit: "×"}, Bars: []Bar{
		{Name: "hand-off", Value: 1.4, Text: "1.40× of 1.5×", Bound: 1.5}, {Name: "warm", Value: 2, Text: "2.00× of 1.1×", Bound: 1.1, Over: true},
	}}.SVG()
	if err != nil {
		t.Fatal(err)
	}
	d := read(t, svg)
	for _, want := range []string{"hand-off", "1.40× of 1.5×", "ratio to the peer (×)", "0.0", "2.0"} {
		if !slices.Contains(d.texts, want) {
			t.Errorf("it does not say %q: %q", want, d.texts)
		}
	}
	// The axis is 620 − 76.8 long and ends at 2.
	for _, want := range []string{`width="380.2"`, `class="over" x="76.8"`, `width="543.2"`} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("no %s in\n%s", want, svg)
		}
	}
}
