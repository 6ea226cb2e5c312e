package sandbox

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"encounterlauncher/internal/orgapi"
)

var runBlock = regexp.MustCompile("(?ms)^```sh run(?: [a-z]+)?\n(.*?)^```$")

// TestTheCallsOfTheDocumentWork runs every block of docs/sandbox.md that is marked
// so, in one shell, with the port of the document replaced by the real one.
func TestTheCallsOfTheDocumentWork(t *testing.T) {
	document, err := os.ReadFile("../../docs/sandbox.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := runBlock.FindAllSubmatch(document, -1)
	if len(blocks) < 4 || bytes.Count(document, []byte("```sh")) != len(blocks) {
		t.Fatalf("%d blocks are run, of %d", len(blocks), bytes.Count(document, []byte("```sh")))
	}
	w := startWorld(t)
	_, link := w.pressButton("1", "ada", nil)
	_, address, _ := w.launch(orgapi.PathEncounters, w.token("ada"), orgapi.CreateRequest{Handle: handleOf(t, link)})
	if address == "" {
		t.Fatal("no encounter")
	}
	script := "set -eu\n"
	for _, b := range blocks {
		script += strings.ReplaceAll(string(b[1]), "http://127.0.0.1:8104", w.controlURL)
	}
	said, err := exec.CommandContext(t.Context(), "sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, want := range []string{
		`"kind":"503","times":2`, `"kind":"lost_answer"`, `"seed":7`, `"frozen":true`, `"external_encounter_id":"SBX-ENC-ADA-1"`, `"openings":[]`,
		"the status is 400", "the status is 409",
	} {
		if !strings.Contains(string(said), want) {
			t.Errorf("nothing says %s:\n%s", want, said)
		}
	}
	if n := strings.Count(string(said), `"status":200,"faults":[]`); n != 3 {
		t.Errorf("%d exports were taken:\n%s", n, said)
	}
	if n := strings.Count(string(said), "the status is 401"); n != 2 {
		t.Errorf("%d were refused as not signed:\n%s", n, said)
	}
	if len(w.sim.Encounters()) != 0 {
		t.Error("the reset forgot nothing")
	}
}
