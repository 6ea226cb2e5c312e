// Package chart draws figures as SVG: lines over a common axis, and bars beside a
// bound. A picture says in words what it shows (title and description), has units at
// its axes, tells its series apart without colour, and follows the reader's choice of
// light or dark.
//
// It never judges what it draws, never invents a point, and writes nothing by itself.
// Only tools link it.
package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Axis is what is counted in one direction.
type Axis struct {
	Name, Unit string
	// Zero has the axis begin at 0, so that lengths may be compared.
	Zero bool
}

func (a Axis) label() string {
	if a.Unit == "" {
		return a.Name
	}
	return a.Name + " (" + a.Unit + ")"
}

// Point is one sample.
type Point struct{ X, Y float64 }

// Series are samples of one thing, in the order of X.
type Series struct {
	Name   string
	Points []Point
}

// Bound is a value that is not to be exceeded, or not to be fallen short of.
type Bound struct {
	Name string
	At   float64
}

// Panel is one field of a picture: series that share a unit.
type Panel struct {
	Y      Axis
	Series []Series
	Bounds []Bound
}

// Lines are panels one below the other, over the same kind of X.
type Lines struct {
	// Title is what is seen in one line; Description says in sentences what can be read
	// from the picture, for those who do not see it.
	Title, Description string
	X                  Axis
	Panels             []Panel
}

// Bar is one value beside the one that it is compared to.
type Bar struct {
	Name string
	// Value is the bar's length; Text is what is written at its end.
	Value float64
	Text  string
	// Bound is where the bar may end; 0 for nowhere.
	Bound float64
	// Over is true where the bound is not kept.
	Over bool
}

// Bars are values of one unit, one below the other.
type Bars struct {
	Title, Description string
	Axis               Axis
	Bars               []Bar
}

// Sizes in pixels.
const (
	width     = 760.0
	fontSize  = 12.0
	perRune   = 6.6 // of a letter of that size, on the average
	left      = 74.0
	right     = 30.0
	headline  = 40.0
	legend    = 22.0
	panelHigh = 170.0
	axisHigh  = 40.0
	between   = 22.0
	barHigh   = 15.0
	barStep   = 25.0
)

// mostSeries is how many series a panel tells apart.
const mostSeries = 6

var (
	errNothing = errors.New("there is nothing to draw")
	errMany    = fmt.Errorf("a panel tells at most %d series apart", mostSeries)
	errValue   = errors.New("a value is not a number that can be drawn")
)

// style is the whole look. The colours are those of Okabe and Ito, which people who see
// colours differently tell apart, lighter where the ground is dark.
const style = `text{font:12px system-ui,"Segoe UI","DejaVu Sans",sans-serif;fill:#1b1f24}.t{font-size:15px;font-weight:600}.s{fill:#57606a}.e{text-anchor:end}.m{text-anchor:middle}` +
	`.p{fill:#fff}.g{stroke:#d8dee4;stroke-width:1}.a{stroke:#57606a;stroke-width:1}.b{stroke:#b3261e;stroke-width:1.5;stroke-dasharray:7 4}.bt{fill:#b3261e}` +
	`.l{fill:none;stroke-width:2;stroke-linejoin:round}.c0{stroke:#0072b2}.c1{stroke:#d55e00;stroke-dasharray:6 3}.c2{stroke:#007a5a;stroke-dasharray:2 3}.c3{stroke:#9c4d86;stroke-dasharray:9 3 2 3}.c4{stroke:#7a6000;stroke-dasharray:12 4}.c5{stroke:#57606a;stroke-dasharray:3 5}` +
	`.k{stroke:#1b1f24;stroke-width:2}.ok{fill:#0072b2}.over{fill:#d55e00}` +
	`@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9da7b1}.p{fill:#0d1117}.g{stroke:#30363d}.a{stroke:#9da7b1}.b{stroke:#ff8a80}.bt{fill:#ff8a80}` +
	`.c0{stroke:#58b4e9}.c1{stroke:#f09a4d}.c2{stroke:#35c79a}.c3{stroke:#d69ac3}.c4{stroke:#e0c341}.c5{stroke:#9da7b1}.k{stroke:#e6edf3}.ok{fill:#58b4e9}.over{fill:#f09a4d}}`

// SVG draws the panels. It refuses a panel without points, more series than can be
// told apart, and values that are no numbers.
func (l Lines) SVG() ([]byte, error) {
	if len(l.Panels) == 0 {
		return nil, errNothing
	}
	across := newSpan(l.X.Zero)
	for _, p := range l.Panels {
		if len(p.Series) > mostSeries {
			return nil, errMany
		}
		n := 0
		for _, s := range p.Series {
			for _, at := range s.Points {
				if !drawable(at.X) || !drawable(at.Y) {
					return nil, errValue
				}
				across.add(at.X)
				n++
			}
		}
		if n == 0 {
			return nil, errNothing
		}
	}
	xs := across.scale(left, width-right)
	d := begin(l.Title, l.Description, headline+float64(len(l.Panels))*(legend+panelHigh+axisHigh+between))
	y := headline
	for _, p := range l.Panels {
		if err := d.panel(p, l.X, xs, y); err != nil {
			return nil, err
		}
		y += legend + panelHigh + axisHigh + between
	}
	return d.end(), nil
}

func (d *drawing) panel(p Panel, x Axis, xs scale, y float64) error {
	up := newSpan(p.Y.Zero)
	for _, s := range p.Series {
		for _, at := range s.Points {
			up.add(at.Y)
		}
	}
	for _, b := range p.Bounds {
		if !drawable(b.At) {
			return errValue
		}
		up.add(b.At)
	}
	top, bottom := y+legend, y+legend+panelHigh
	ys := up.scale(bottom, top)
	at := left
	for i, s := range p.Series {
		d.add(`<path class="l c%d" d="M%.1f %.1fh26"/>`, i, at, y+8)
		d.text("", at+32, y+12, s.Name)
		at += 32 + perRune*float64(utf8.RuneCountInString(s.Name)) + 18
	}
	for _, tick := range ys.ticks {
		d.add(`<path class="g" d="M%.1f %.1fH%.1f"/>`, left, ys.at(tick), width-right)
		d.text("s e", left-8, ys.at(tick)+4, ys.format(tick))
	}
	for _, tick := range xs.ticks {
		d.add(`<path class="a" d="M%.1f %.1fv5"/>`, xs.at(tick), bottom)
		d.text("s m", xs.at(tick), bottom+18, xs.format(tick))
	}
	d.add(`<path class="a" d="M%.1f %.1fH%.1f"/>`, left, bottom, width-right)
	d.text("m", (left+width-right)/2, bottom+34, x.label())
	d.add(`<text class="m" transform="translate(20 %.1f) rotate(-90)">%s</text>`, (top+bottom)/2, escape(p.Y.label()))
	for _, b := range p.Bounds {
		d.add(`<path class="b" d="M%.1f %.1fH%.1f"/>`, left, ys.at(b.At), width-right)
		d.text("bt e", width-right-4, ys.at(b.At)-5, b.Name)
	}
	for i, s := range p.Series {
		if len(s.Points) == 0 {
			continue
		}
		var path strings.Builder
		for j, at := range s.Points {
			verb := "L"
			if j == 0 {
				verb = "M"
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", verb, xs.at(at.X), ys.at(at.Y))
		}
		d.add(`<path class="l c%d" d="%s"/>`, i, path.String())
	}
	return nil
}

// SVG draws the bars. Their axis begins at 0 always, so that lengths are what they say;
// a negative value is refused.
func (b Bars) SVG() ([]byte, error) {
	if len(b.Bars) == 0 {
		return nil, errNothing
	}
	along, names := newSpan(true), 0
	for _, bar := range b.Bars {
		if !drawable(bar.Value) || !drawable(bar.Bound) || bar.Value < 0 || bar.Bound < 0 {
			return nil, errValue
		}
		along.add(bar.Value)
		along.add(bar.Bound)
		names = max(names, utf8.RuneCountInString(bar.Name))
	}
	from := min(24+perRune*float64(names), width*0.55)
	bottom := headline + barStep*float64(len(b.Bars)) + 4
	s := along.scale(from, width-right-110)
	d := begin(b.Title, b.Description, bottom+axisHigh+6)
	for _, tick := range s.ticks {
		d.add(`<path class="g" d="M%.1f %.1fV%.1f"/>`, s.at(tick), headline, bottom)
		d.text("s m", s.at(tick), bottom+16, s.format(tick))
	}
	d.text("m", (from+s.to)/2, bottom+33, b.Axis.label())
	for i, bar := range b.Bars {
		y, class := headline+barStep*float64(i)+5, "ok"
		if bar.Over {
			class = "over"
		}
		d.text("e", from-8, y+12, bar.Name)
		d.add(`<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, class, from, y, max(s.at(bar.Value)-from, 1), barHigh)
		end := s.at(bar.Value)
		if bar.Bound > 0 {
			d.add(`<path class="k" d="M%.1f %.1fv%.1f"/>`, s.at(bar.Bound), y-4, barHigh+8)
			end = max(end, s.at(bar.Bound))
		}
		d.text("", end+8, y+12, bar.Text)
	}
	d.add(`<path class="a" d="M%.1f %.1fV%.1f"/>`, from, headline, bottom)
	return d.end(), nil
}

// drawable is true for numbers whose distances are numbers too.
func drawable(v float64) bool { return math.Abs(v) < 1e15 } // false for what is no number

// drawing is a picture in the making.
type drawing struct{ bytes.Buffer }

func begin(title, description string, high float64) *drawing {
	d := new(drawing)
	d.add(`<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title desc" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f">`, width, high, width, high)
	d.add(`<title id="title">%s</title>`, escape(title))
	d.add(`<desc id="desc">%s</desc>`, escape(description))
	d.add(`<style>%s</style>`, style)
	d.add(`<rect class="p" width="%.0f" height="%.0f"/>`, width, high)
	d.text("t", 16, 24, title)
	return d
}

func (d *drawing) add(format string, args ...any) {
	fmt.Fprintf(&d.Buffer, format, args...)
	d.WriteByte('\n')
}

func (d *drawing) text(class string, x, y float64, text string) {
	if class != "" {
		class = ` class="` + class + `"`
	}
	d.add(`<text%s x="%.1f" y="%.1f">%s</text>`, class, x, y, escape(text))
}

func (d *drawing) end() []byte {
	d.add("</svg>")
	return d.Bytes()
}

// escape makes text inert in XML.
func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder takes everything
	return b.String()
}

// span is the range of values that an axis has to show.
type span struct{ low, high float64 }

func newSpan(zero bool) *span {
	if zero {
		return &span{0, 0}
	}
	return &span{math.Inf(1), math.Inf(-1)}
}

func (s *span) add(v float64) { s.low, s.high = min(s.low, v), max(s.high, v) }

// scale maps values to pixels.
type scale struct {
	low, high, from, to float64
	ticks               []float64
	decimals            int
}

// scale chooses steps of 1, 2 or 5 times a power of ten, five of them or so, and
// widens the range to whole steps.
func (s *span) scale(from, to float64) scale {
	low, high := s.low, s.high
	if low == high { // all the same: a step to either side, but not below a 0
		grain := max(math.Abs(low)*0.1, 1)
		if high += grain; low != 0 {
			low -= grain
		}
	}
	raw := (high - low) / 5
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * power
	for _, m := range []float64{1, 2, 5} {
		if raw <= m*power*1.000001 {
			step = m * power
			break
		}
	}
	first, last := math.Floor(low/step+1e-9), math.Ceil(high/step-1e-9)
	c := scale{low: first * step, high: last * step, from: from, to: to, decimals: max(0, int(-math.Floor(math.Log10(step)+1e-9)))}
	for i := first; i <= last; i++ {
		c.ticks = append(c.ticks, i*step)
	}
	return c
}

func (s scale) at(v float64) float64 { return s.from + (v-s.low)/(s.high-s.low)*(s.to-s.from) }

// format writes a tick with as many decimals as the step has, and thousands apart.
func (s scale) format(v float64) string {
	text := strconv.FormatFloat(math.Abs(v), 'f', s.decimals, 64)
	whole, rest, _ := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest != "" {
		whole += "." + rest
	}
	if v < 0 {
		return "-" + whole
	}
	return whole
}
