package problem

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

func TestEveryCodeOfTheListHasExactlyOneRow(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "Code" {
			for _, v := range spec.Values {
				s, _ := strconv.Unquote(v.(*ast.BasicLit).Value)
				declared[s] = true
			}
		}
		return true
	})
	if len(declared) != 37 {
		t.Errorf("the closed list has %d codes, want the 37 of the design", len(declared))
	}
	seen := map[Code]int{}
	for _, r := range Rows() {
		seen[r.Code]++
		if !declared[string(r.Code)] {
			t.Errorf("row %q is not a declared code", r.Code)
		}
	}
	for c := range declared {
		if seen[Code(c)] != 1 {
			t.Errorf("code %q has %d rows, want 1", c, seen[Code(c)])
		}
	}
}

func TestEveryRowSaysWhatHappenedAndWhatToDo(t *testing.T) {
	for _, r := range Rows() {
		for _, text := range []string{r.Sentence, r.NextStep} {
			if !strings.HasSuffix(text, ".") || strings.ContainsAny(text, "{}%<>\n") || strings.Contains(text, "://") {
				t.Errorf("%s: %q is not one plain sentence", r.Code, text)
			}
		}
		if http.StatusText(r.Status) == "" || r.Status < 400 {
			t.Errorf("%s: HTTP status %d", r.Code, r.Status)
		}
		if r.Audit != refused && r.Audit != failed && r.Audit != cancelled {
			t.Errorf("%s: audit word %q", r.Code, r.Audit)
		}
	}
}

func TestPeopleNeverSeeTheCauseAndTheLogAlwaysDoes(t *testing.T) {
	cause := fmt.Errorf("reading the answer: %w", errors.New("canary"))
	p := New(OrgAnswerInvalid, cause)
	if strings.Contains(p.Error(), "canary") || strings.Contains(fmt.Sprintf("%v %s", p, p), "canary") {
		t.Errorf("the sentence for people holds the cause: %q", p.Error())
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Error("launch failed", "problem", New(OrgAnswerInvalid, fmt.Errorf("outer: %w", p)))
	for _, want := range []string{"canary", "org_answer_invalid", p.Reference} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q: %s", want, log.String())
		}
	}
}

func TestOneFailureKeepsOneReferenceThroughEveryRoom(t *testing.T) {
	inner := With(LinkInvalid, "Write %2B for a plus sign.", nil)
	outer := New(LinkInvalid, fmt.Errorf("intake: %w", inner))
	if outer.Reference != inner.Reference || outer.Fact != inner.Fact {
		t.Errorf("reference or fact changed on the way: %+v and %+v", inner, outer)
	}
	if New(Internal, inner).Reference == inner.Reference {
		t.Error("another code is another failure and needs a reference of its own")
	}
}

func TestAnAnswerFromAnotherProcessCannotInventACodeOrAReference(t *testing.T) {
	p := Restore("rm -rf", "not a reference \x1b[31m", "")
	if p.Code != Internal || !validReference(p.Reference) {
		t.Errorf("got %+v", p)
	}
	q := Restore(string(HandleSpent), "0A1B2C3D", "")
	if q.Code != HandleSpent || q.Reference != "0A1B2C3D" {
		t.Errorf("got %+v", q)
	}
}

func TestAnErrorThatIsNoProblemIsInternal(t *testing.T) {
	if c := CodeOf(errors.New("x")); c != Internal {
		t.Errorf("code %q", c)
	}
	if Of(nil) != nil || CodeOf(nil) != "" {
		t.Error("no error is no problem")
	}
	if !errors.Is(fmt.Errorf("x: %w", New(Cancelled, nil)), &Problem{Code: Cancelled}) {
		t.Error("errors.Is by code does not hold through wrapping")
	}
}
