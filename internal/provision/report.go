package provision

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
)

// mostLines is how many lines a sentence names.
const mostLines = 10

// Summary says in one line how a run ended. conflicts is the name of the file that
// holds the refused lines; without one their numbers are named.
func (r Result) Summary(conflicts string) string {
	parts := []string{number(r.Created) + " of " + number(r.Total) + " provisioned"}
	add := func(n int, one, many string) {
		switch n {
		case 0:
		case 1:
			parts = append(parts, "1 "+one)
		default:
			parts = append(parts, number(n)+" "+many)
		}
	}
	where := func(lines []Line) string {
		if conflicts != "" {
			return " (see " + conflicts + ")"
		}
		return " (" + lineNumbers(lines) + ")"
	}
	add(r.Found, "was there", "were there")
	add(r.Before, "done before", "done before")
	if len(r.Conflicts) > 0 {
		add(len(r.Conflicts), "conflict"+where(r.Conflicts), "conflicts"+where(r.Conflicts))
	}
	if len(r.Refused) > 0 {
		add(len(r.Refused), "refused"+where(r.Refused), "refused"+where(r.Refused))
	}
	add(r.NotTried, "not tried", "not tried")
	return strings.Join(parts, ", ")
}

// Rehearsal says what a run over these lines would send.
func Rehearsal(lines []Line, record *Record) string {
	before := record.Count(lines)
	specialties, locales := 0, 0
	for _, l := range lines {
		if record.Has(l.User) {
			continue
		}
		if l.User.Settings.Specialty != nil {
			specialties++
		}
		if l.User.Settings.SpeechLocale != "" || l.User.Settings.SecondarySpeechLocale != "" {
			locales++
		}
	}
	text := "all is right; " + number(len(lines)-before) + " of " + number(len(lines)) + " would be sent, " +
		number(specialties) + " with a specialty, " + number(locales) + " with a language"
	if before > 0 {
		text += "; " + number(before) + " done before"
	}
	return text + "; nothing was sent"
}

func lineNumbers(lines []Line) string {
	texts := make([]string, 0, mostLines)
	for _, l := range lines[:min(len(lines), mostLines)] {
		texts = append(texts, number(l.Number))
	}
	text := "line " + texts[0]
	if len(lines) > 1 {
		text = "lines " + strings.Join(texts, ", ")
	}
	if more := len(lines) - mostLines; more > 0 {
		text += " and " + number(more) + " more"
	}
	return text
}

// number writes 1250 as 1,250.
func number(n int) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// Show returns a Job's Progress and Waiting, and what ends the showing: a bar on a
// terminal, else a line at every tenth of the way.
func Show(to io.Writer, total, before int, terminal bool) (progress func(over, of int), waiting func(time.Duration), end func()) {
	if !terminal {
		return func(over, of int) {
				if over*10/of != (over-1)*10/of {
					_, _ = fmt.Fprintf(to, "%s of %s\n", number(over), number(of))
				}
			}, func(d time.Duration) {
				_, _ = fmt.Fprintf(to, "Nabla does not answer; waiting for %v\n", d)
			}, func() {}
	}
	bar := progressbar.NewOptions(total,
		progressbar.OptionSetWriter(to), progressbar.OptionShowCount(), progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetDescription("provisioning"), progressbar.OptionThrottle(100*time.Millisecond),
	)
	_ = bar.Set(before)
	return func(over, _ int) {
			_ = bar.Set(over)
			bar.Describe("provisioning")
		}, func(d time.Duration) {
			bar.Describe("waiting for " + d.String())
		}, func() {
			_ = bar.Clear()
		}
}
