//go:build unix

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/view"
)

// examining gives the agent a doctor that prints what it is told to.
func examining(h *hospital, doctor func(ctx context.Context, line func(string)) error) {
	h.hook = func(a *Agent) {
		a.opts.Doctor = func(ctx context.Context, line func([]byte)) error {
			return doctor(ctx, func(text string) { line([]byte(text)) })
		}
	}
}

func TestAnExaminationIsShownAsItsChecksEndAndInThePersonsLanguage(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(map[string]any{"Language": "de"})
	steps := make(chan string)
	examining(h, func(ctx context.Context, line func(string)) error {
		for text := range steps {
			line(text)
		}
		return nil
	})
	w := h.logOn()
	w.do(control.Intent{Name: control.Check})
	steps <- `{"plan":["clock","keyring","brain"],"groups":["network","computer"]}`
	s := w.await("the plan", func(s view.Snapshot) bool { return s.Doctor != nil && len(s.Doctor.Checks) == 3 })
	if c := s.Doctor.Checks[0]; !s.Doctor.Running || c.Title != "Uhr" || c.Group != "network" || c.State != view.CheckWaiting || len(c.Findings) != 0 {
		t.Errorf("got %+v", s.Doctor)
	}
	w.do(control.Intent{Name: control.Check}) // joins the one that goes on
	steps <- `{"name":"clock","title":"Clock","group":"network","state":"warning","findings":[{"code":"off","state":"warning","sentence":"off","next_step":"n","facts":{"seconds":"45"}}],"ms":12}`
	s = w.await("the first check", func(s view.Snapshot) bool { return s.Doctor.Checks[0].State == view.CheckWarning })
	c := s.Doctor.Checks[0]
	if c.Group != "network" || c.MS != 12 || c.Findings[0].Sentence != "Sie weicht um 45 Sekunden ab." || c.Findings[0].NextStep == "n" {
		t.Errorf("got %+v", c)
	}
	// A newer program may know checks and findings that this agent has no words for.
	steps <- `{"name":"brain","group":"computer","state":"broken","findings":[{"code":"gone","state":"broken","sentence":"It is gone.\u202e","next_step":"Find it."}],"ms":1}`
	steps <- `{"name":"keyring","group":"computer","state":"ok","findings":[{"code":"timeout","state":"warning","sentence":"late","detail":"it did not end\u202e"}],"ms":1}`
	steps <- `no JSON`
	steps <- `{"name":"clock","state":"excellent"}`
	s = w.await("the others", func(s view.Snapshot) bool { return s.Doctor.Checks[1].State == view.CheckOK })
	if c := s.Doctor.Checks[2]; c.Title != "brain" || c.Findings[0].Sentence != "It is gone." || c.Findings[0].NextStep != "Find it." {
		t.Errorf("got %+v", c)
	}
	if said := s.Doctor.Checks[1].Findings[0].Sentence; said != "Das ließ sich nicht rechtzeitig feststellen." {
		t.Errorf("got %q", said)
	}
	h.setPolicy(map[string]any{"Language": "fr"})
	w.await("the other language", func(s view.Snapshot) bool { return s.Doctor.Checks[0].Title == "Horloge" })
	close(steps)
	s = w.await("the end", func(s view.Snapshot) bool { return !s.Doctor.Running })
	if len(s.Doctor.Checks) != 3 {
		t.Errorf("got %+v", s.Doctor)
	}
	if kept := h.logged("a finding of the examination"); len(kept) != 1 || kept[0]["check"] != "keyring" || kept[0]["code"] != "timeout" || kept[0]["detail"] != "it did not end" {
		t.Errorf("the log has %v", kept)
	}
}

func TestAnExaminationThatCannotBeMadeIsNotShown(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	examining(h, func(context.Context, func(string)) error { return errors.New("no such program") })
	w := h.logOn()
	w.do(control.Intent{Name: control.Check})
	s := w.await("the look at the set-up", func(s view.Snapshot) bool { return s.Checkup != nil && !s.Checkup.Running && s.Doctor == nil })
	if len(s.Checkup.Checks) != len(checkNames) {
		t.Errorf("got %+v", s.Checkup)
	}
}

func TestAnExaminationThatHangsEndsWithTheAgentAndNoLinkWaitsForIt(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	ended := make(chan struct{})
	examining(h, func(ctx context.Context, line func(string)) error {
		line(`{"plan":["clock"]}`)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	})
	w := h.logOn()
	w.do(control.Intent{Name: control.Check})
	w.await("its beginning", func(s view.Snapshot) bool { return s.Doctor != nil && len(s.Doctor.Checks) == 1 })
	w.opens(h.mint("ada", 1))
	w.logOff()
	<-ended
}

func TestTheLogSaysHowLongEachStageOfALaunchTook(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	l := w.opens(h.mint("ada", 1))
	h.inPlaceOfBackend(refuseWith("context_unavailable"))
	w.fails(h.mint("ada", 2), "context_unavailable")
	w.logOff()
	opened, ended := h.logged("launch opened"), h.logged("launch ended")
	if len(opened) != 1 || len(ended) != 1 {
		t.Fatalf("%d launches opened and %d ended in the log", len(opened), len(ended))
	}
	ms, _ := opened[0]["ms"].(map[string]any)
	if at, ok := ms["opened"].(float64); !ok || len(ms) != 5 || int64(at) > l.MS[view.Opened] {
		t.Errorf("got %v", ms)
	}
	if ms, _ := ended[0]["ms"].(map[string]any); ms["creating"] == nil || ms["opened"] != nil {
		t.Errorf("got %v", ms)
	}
}

// logged returns the lines of the log with a message.
func (h *hospital) logged(message string) []map[string]any {
	h.t.Helper()
	text, err := os.ReadFile(h.layout.LogFile())
	if err != nil {
		h.t.Fatal(err)
	}
	var found []map[string]any
	for line := range bytes.Lines(text) {
		var fields map[string]any
		if json.Unmarshal(line, &fields) == nil && fields["msg"] == message {
			found = append(found, fields)
		}
	}
	return found
}
