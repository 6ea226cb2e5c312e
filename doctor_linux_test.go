package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"

	"encounterlauncher/internal/view"
)

// asks sends one request over the control socket, as the window does.
func (h *home) asks(method, route, body string) view.Snapshot {
	h.t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", h.socket())
		},
		DisableKeepAlives: true,
	}}
	r, err := http.NewRequest(method, "http://encounter-launcher"+route, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		h.t.Fatalf("%s: status %d", route, answer.StatusCode)
	}
	var s view.Snapshot
	if method == http.MethodGet {
		if err := json.NewDecoder(answer.Body).Decode(&s); err != nil {
			h.t.Fatal(err)
		}
	}
	return s
}

// The agent runs the doctor as a process of its own, shows what it finds as it comes,
// and takes that process with it when it ends, although the servers hold it up.
func TestTheAgentShowsWhatTheDoctorFindsAndTakesItAlong(t *testing.T) {
	t.Parallel()
	path := program(t, demo)
	h := newHome(t, "encounter-launcher-demo")
	h.policy(demoPolicy(t))
	agent := h.command(path, "agent")
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	h.until("the agent answers", func() bool { return h.status(path).Agent == "running" })
	h.asks(http.MethodPost, "/v1/check", "{}")
	found := map[string]view.DoctorCheck{}
	h.until("what needs no server has been looked at", func() bool {
		s := h.asks(http.MethodGet, "/v1/snapshot", "")
		if s.Doctor == nil {
			return false
		}
		for _, c := range s.Doctor.Checks {
			found[c.Name] = c
		}
		return found["policy"].State == view.CheckOK && found["agent"].State == view.CheckOK && found["keyring"].State == view.CheckWarning
	})
	if c := found["backend"]; c.State != view.CheckWaiting || c.Title == "" || c.Group != "services" {
		t.Errorf("the silent server has answered: %+v", c)
	}
	if f := found["keyring"].Findings; len(f) != 1 || f[0].Code != "unavailable" || f[0].Sentence == "" || f[0].NextStep == "" {
		t.Errorf("got %+v", f)
	}
	// It may be asking the system's own tool, which is a process or two more.
	if n := len(h.processes()); n < 2 {
		t.Errorf("%d processes run, want agent and doctor", n)
	}
	h.expect(h.run(path, "quit"), 0)
	if err := agent.Wait(); err != nil {
		t.Errorf("the agent ended with %v\n%s", err, h.log())
	}
	h.until("the doctor has ended too", func() bool { return len(h.processes()) == 0 })
}
