package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const canary = "one-time-canary"

func TestNoWayOfPrintingShowsTheValue(t *testing.T) {
	type hidden struct{ inner Text }
	text := New(canary)
	values := []any{text, &text, hidden{text}, &hidden{text}, []Text{text}, map[string]Text{"k": text}, struct{ Exported Text }{text}}
	var out bytes.Buffer
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%10s"} {
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
	if strings.Contains(out.String(), canary) || strings.Contains(out.String(), fmt.Sprintf("%x", canary)) {
		t.Errorf("the value was printed:\n%s", out.String())
	}
	if !strings.Contains(out.String(), Redacted) {
		t.Error("the reader should see that something was redacted")
	}
}

func TestOnlyRevealGivesTheValue(t *testing.T) {
	if got := New(canary).Reveal(); got != canary {
		t.Errorf("Reveal() = %q", got)
	}
	if !New("").Empty() || New("").String() != "" || (Text{}).Reveal() != "" {
		t.Error("the zero value should be empty and print as nothing")
	}
	if !New("a").Equal(New("a")) || New("a").Equal(New("b")) {
		t.Error("Equal compares values")
	}
}
