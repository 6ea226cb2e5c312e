package notify

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"

	"encounterlauncher/internal/view"
)

var hostileToast = note{
	title: `</text><script>"x"</script>`, body: "one\ntwo\x00\x1b & <b>three</b> \ufffe\xff'four' </toast>", urgency: normal,
	buttons: []button{{view.ActionRetry, `"/><action arguments="x`}, {view.ActionOpenWindow, "Show <details>"}, {defaultKey, ""}},
}

func TestAToastIsOneWellFormedDocumentWhateverItsWords(t *testing.T) {
	document := toast(hostileToast, "WORD", 7)
	var got struct {
		Launch string   `xml:"launch,attr"`
		Texts  []string `xml:"visual>binding>text"`
		Action []struct {
			Content   string `xml:"content,attr"`
			Arguments string `xml:"arguments,attr"`
		} `xml:"actions>action"`
	}
	if err := xml.Unmarshal([]byte(document), &got); err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	if len(got.Texts) != 2 || got.Texts[0] != hostileToast.title || got.Texts[1] != "one\ntwo & <b>three</b> 'four' </toast>" {
		t.Errorf("got %q", got.Texts)
	}
	if len(got.Action) != 2 || got.Action[0].Content != hostileToast.buttons[0].label || got.Action[1].Content != "Show <details>" {
		t.Errorf("got %+v", got.Action)
	}
	for argument, want := range map[string]event{
		got.Launch: {note: 7, key: defaultKey}, got.Action[0].Arguments: {note: 7, key: view.ActionRetry}, got.Action[1].Arguments: {note: 7, key: view.ActionOpenWindow},
	} {
		if e, ok := pressed(argument, "WORD"); !ok || e != want {
			t.Errorf("%q: got %+v, %v", argument, e, ok)
		}
	}
	names := map[string]int{}
	for d := xml.NewDecoder(strings.NewReader(document)); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if start, ok := token.(xml.StartElement); ok {
			names[start.Name.Local]++
		}
	}
	if names["action"] != 2 || names["text"] != 2 || names["script"] != 0 || names["b"] != 0 {
		t.Errorf("elements: %v", names)
	}
}

func TestOnlyWhatThisProcessHasShownCanBePressed(t *testing.T) {
	for _, argument := range []string{
		"", "WORD", "WORD/7", "WORD/7/", "OTHER/7/retry", "word/7/retry", "WORD/0/retry", "WORD/-1/retry", "WORD/4294967296/retry", "WORD/7/retry/x", "/7/retry", "WORD//retry",
	} {
		if e, ok := pressed(argument, "WORD"); ok {
			t.Errorf("%q: got %+v", argument, e)
		}
	}
}

func TestToastsThatMayWaitMakeNoSound(t *testing.T) {
	for silent, n := range map[bool]note{true: {fleeting: true, urgency: normal}, false: {urgency: normal}} {
		if got := strings.Contains(toast(n, "w", 1), `<audio silent="true"/>`); got != silent {
			t.Errorf("%+v: silent %v", n, got)
		}
	}
}

func TestEachFlavourHasAClassOfItsOwnThatNeverChanges(t *testing.T) {
	release, demo := classID("encounter-launcher"), classID("encounter-launcher-demo")
	if release == demo || release != classID("encounter-launcher") || len(release) != 38 {
		t.Errorf("%s, %s", release, demo)
	}
}
