package main

import (
	"fmt"
	"strings"
	"time"
)

// page is a manual page in the making, in the language of man(7).
type page struct {
	strings.Builder
	begun bool // the section has a paragraph already
}

// newPage begins the page of a name in a section. The date is the day on which the
// package was made.
func newPage(name, section, version string, day time.Time, about string) *page {
	p := new(page)
	p.line(`.TH %s %s %s "Encounter Launcher %s"`, strings.ToUpper(escape(name)), section, day.UTC().Format("2006-01-02"), escape(version))
	p.line(".nh\n.ad l") // commands and keys are not to be broken up or spread out
	p.section("Name")
	p.line(`%s \- %s`, escape(name), escape(about))
	return p
}

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *page) section(title string) {
	p.line(".SH %s", strings.ToUpper(escape(title)))
	p.begun = false
}

func (p *page) subsection(title string) { p.line(".SS %s", escape(title)) }

// say writes paragraphs as people write them: an empty line ends one, lines that
// begin with two spaces stay as they are.
func (p *page) say(text string) {
	for paragraph := range strings.SplitSeq(strings.Trim(text, "\n"), "\n\n") {
		if strings.HasPrefix(paragraph, "  ") {
			p.verbatim(paragraph)
			continue
		}
		if p.begun {
			p.line(".PP")
		}
		p.text(paragraph)
		p.begun = true
	}
}

// text writes one paragraph without its beginning.
func (p *page) text(paragraph string) { p.line("%s", guard(escape(paragraph))) }

// item writes a term and what it means.
func (p *page) item(term, text string) {
	p.line(".TP\n%s", bold(term))
	p.text(text)
}

// verbatim writes lines as they are, set in a little.
func (p *page) verbatim(text string) {
	p.line(".PP\n.RS 4\n.nf")
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		p.line("%s", guard(escape(strings.TrimPrefix(line, "  "))))
	}
	p.line(".fi\n.RE")
}

func bold(text string) string   { return `\fB` + escape(text) + `\fR` }
func italic(text string) string { return `\fI` + escape(text) + `\fR` }

var escapes = strings.NewReplacer(
	`\`, `\e`, "-", `\-`, "“", `\(lq`, "”", `\(rq`, "’", `\(cq`, "'", `\(aq`, "…", `.\|.\|.`, "–", `\(en`, "·", `\(pc`,
	"`", `\(ga`, "^", `\(ha`, "~", `\(ti`, "→", `\(->`,
)

// escape writes text so that roff shows it as it is.
func escape(text string) string { return escapes.Replace(text) }

// guard keeps a line of text that begins with a dot from being taken for a request.
func guard(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
