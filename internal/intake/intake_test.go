package intake

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

const (
	scheme = "encounter-launcher"
	handle = "Zk3vQ9x1T7mB2nR5wY8uLg"
	link   = scheme + "://launch?handle=" + handle
)

func isVerb(word string) bool {
	return word == "status" || word == "check-link" || word == "--help" || word == "agent"
}

func carriesLink(word string) bool { return word == "check-link" }

func fromArgs(args ...string) (Candidate, bool, error) {
	return FromArgs(scheme, args, isVerb, carriesLink)
}

func checkRefused(t *testing.T, code problem.Code, args ...string) {
	t.Helper()
	c, found, err := fromArgs(args...)
	if found || !c.Text().Empty() || code == "" && err == nil || code != "" && !problem.IsCode(err, code) {
		t.Errorf("%q: found %v, %v", args, found, err)
		return
	}
	shown := fmt.Sprint(err, problem.Of(err).LogValue())
	for _, arg := range args {
		if len(arg) > 4 && strings.Contains(shown, arg) {
			t.Errorf("the refusal quotes %q", arg)
		}
	}
}

func TestEveryArgumentVectorIsRefusedAsWritten(t *testing.T) {
	file, err := os.Open("testdata/argv.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines, n := bufio.NewScanner(file), 0
	for lines.Scan() {
		var v struct {
			Argv   []string
			Expect string
		}
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil || v.Expect != "refuse" {
			t.Fatal(v, err)
		}
		checkRefused(t, "", v.Argv...)
		n++
	}
	if n < 7 {
		t.Errorf("only %d vectors", n)
	}
}

func TestOneLinkAloneIsFound(t *testing.T) {
	for _, arg := range []string{link, strings.ToUpper(scheme) + "://launch?handle=" + handle} {
		c, found, err := fromArgs(arg)
		if err != nil || !found || c.Text().Reveal() != arg {
			t.Errorf("%q: %v, %v", arg, found, err)
			continue
		}
		if r, err := c.Parse(scheme); err != nil || r.Handle().Reveal() != handle {
			t.Errorf("%q: %v", arg, err)
		}
	}
}

func TestWhatOnlyLooksLikeALinkIsFoundAndRefusedByTheParser(t *testing.T) {
	for _, arg := range []string{
		scheme + ":launch?handle=" + handle, scheme + ":", "ENCOUNTER-LAUNCHER:x", " " + link, "https://evil.example", "file:///etc/passwd", "://",
		link + "\" --evil \"x", link + "\n" + link,
	} {
		c, found, err := fromArgs(arg)
		if err != nil || !found {
			t.Errorf("%q: %v, %v", arg, found, err)
			continue
		}
		if _, err := c.Parse(scheme); !problem.IsCode(err, problem.LinkInvalid) {
			t.Errorf("%q: %v", arg, err)
		}
	}
}

func TestALinkBesideAnythingIsRefused(t *testing.T) {
	for _, beside := range []string{"", "x", "--help", "-x", "--", link, "status", "agent", "\x00", "https://evil.example"} {
		checkRefused(t, problem.LinkInvalid, link, beside)
		checkRefused(t, problem.LinkInvalid, beside, link)
		checkRefused(t, problem.LinkInvalid, beside, "x", link)
	}
	checkRefused(t, problem.LinkInvalid, link, "check-link")
	checkRefused(t, problem.LinkInvalid, "status", "--json", "--x="+link)
	checkRefused(t, problem.LinkInvalid, "status", "Encounter-Launcher:launch")
}

func TestOnlyAVerbThatAsksForALinkMayCarryOne(t *testing.T) {
	for _, args := range [][]string{{"check-link", link}, {"check-link", "--json", "--forms", "identifiers", link}, {"check-link", "https://evil.example"}, {"check-link", "x"}, {"check-link", ""}, {"check-link"}} {
		if _, found, err := fromArgs(args...); found || err != nil {
			t.Errorf("%q: %v, %v", args, found, err)
		}
	}
	checkRefused(t, problem.LinkInvalid, "check-link", link, link)
	// Web addresses are no links that the system could have handed over.
	for _, args := range [][]string{{"check-link", "https://a.example", "http://127.0.0.1:1"}, {"check-link", "--x=https://a.example", "--x", "https://b.example"}} {
		if _, found, err := fromArgs(args...); found || err != nil {
			t.Errorf("%q: %v, %v", args, found, err)
		}
	}
	checkRefused(t, problem.LinkInvalid, "check-link", "https://a.example", link)
	checkRefused(t, problem.LinkInvalid, "check-link", "https://a.example", "--x="+link)
	checkRefused(t, problem.LinkInvalid, "check-link", "https://a.example", "x=https://a.example")
	checkRefused(t, problem.LinkInvalid, "check-link", "https://a.example", "file:///etc/passwd")
	checkRefused(t, problem.LinkInvalid, "status", "https://a.example")
	if _, _, err := FromArgs(scheme, []string{"check-link", link}, isVerb, nil); !problem.IsCode(err, problem.LinkInvalid) {
		t.Errorf("without such a verb: %v", err)
	}
}

func TestAVerbOrNothingIsLeftToTheCommandLine(t *testing.T) {
	for _, args := range [][]string{nil, {}, {"status"}, {"status", "--json"}, {"--help"}, {"agent", "-x"}} {
		if c, found, err := fromArgs(args...); found || err != nil || !c.Text().Empty() {
			t.Errorf("%q: %v, %v", args, found, err)
		}
	}
}

func TestWhatIsNeitherVerbNorLinkIsRefused(t *testing.T) {
	for _, args := range [][]string{{""}, {"x"}, {"-x"}, {"--x=" + link}, {"-" + link}, {"--"}, {"--json", "status"}, {"launch"}, {"Status"}, {`\\evil.example\share`}, {"C:\\x.exe"}, {scheme}, {scheme + "%3A//launch"}, {"handle=" + handle}, {"", "status"}} {
		checkRefused(t, problem.RequestInvalid, args...)
	}
}

func TestAVerbThatLooksLikeALinkIsNotAskedFor(t *testing.T) {
	all := func(string) bool { return true }
	if _, _, err := FromArgs(scheme, []string{link, "x"}, all, all); !problem.IsCode(err, problem.LinkInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestATextIsBoundedBeforeAnythingElse(t *testing.T) {
	full := scheme + "://launch?handle=" + handle + strings.Repeat("x", launch.MaxLinkBytes)
	if c, err := FromText(full[:launch.MaxLinkBytes]); err != nil || len(c.Text().Reveal()) != launch.MaxLinkBytes {
		t.Errorf("2,048 bytes: %v", err)
	}
	for _, text := range []string{"", full[:launch.MaxLinkBytes+1], strings.Repeat("\xff", 1<<20)} {
		if c, err := FromText(text); !problem.IsCode(err, problem.LinkInvalid) || !c.Text().Empty() {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
	checkRefused(t, problem.LinkInvalid, full)
}

func TestACandidateCannotBePrinted(t *testing.T) {
	c, err := FromText(link)
	if err != nil {
		t.Fatal(err)
	}
	type hidden struct{ inner Candidate }
	var out bytes.Buffer
	for _, v := range []any{c, &c, hidden{c}, &hidden{c}, []Candidate{c}, struct{ Exported Candidate }{c}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	if strings.Contains(out.String(), handle) || strings.Contains(out.String(), fmt.Sprintf("%x", handle)) || !strings.Contains(out.String(), secret.Redacted) || c.String() != secret.Redacted {
		t.Errorf("printed:\n%s", out.String())
	}
}
