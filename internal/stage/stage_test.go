//go:build linux

package stage_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"encounterlauncher/internal/sandbox"
	"encounterlauncher/internal/stage"
)

// TestALinkGoesThroughTheRealProgramsToTheOpener is the whole stage at work once: the
// handler starts the agent, that asks for the sign-in, and the backend has Nabla make
// the encounter.
func TestALinkGoesThroughTheRealProgramsToTheOpener(t *testing.T) {
	ctx := t.Context()
	dir, err := os.MkdirTemp("", "stage-") // short, for the names of sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	programs, err := stage.NewPrograms(dir)
	must(err)
	must(programs.Build(ctx, programs.Launcher(), programs.Opener(), programs.Backend(), programs.Simulator()))
	authority, err := stage.NewAuthority(dir)
	must(err)
	issuer, err := stage.StartIssuer(authority, stage.IssuerOptions{})
	must(err)
	t.Cleanup(issuer.Close)
	secrets, err := stage.NewSecrets(dir)
	must(err)
	sim, err := stage.StartSimulator(ctx, programs, secrets, stage.SimulatorOptions{})
	must(err)
	t.Cleanup(sim.Stop)
	backend, err := stage.StartBackend(ctx, programs, secrets, stage.BackendOptions{
		Dir: filepath.Join(dir, "backend"), Issuer: issuer.URL, Nabla: sim.Base, Authority: authority,
	})
	must(err)
	t.Cleanup(func() { backend.Stop() })
	must(programs.WritePolicy(stage.Policy(authority, issuer, backend)))
	folder := filepath.Join(dir, "s")
	must(os.Mkdir(folder, 0o700))
	session, err := stage.NewSession(ctx, stage.SessionOptions{Dir: folder, Programs: programs})
	must(err)
	t.Cleanup(session.Close)

	ada := sandbox.People()[0]
	link, err := backend.Mint(ctx, stage.Launch{Email: ada.Email, Provider: ada.ProviderID, Patient: "P-1", Encounter: "E-1"})
	must(err)
	clicked, err := session.Click(ctx, link)
	must(err)
	if clicked.Status != 0 {
		t.Fatalf("the handler ended with %d: %s%s", clicked.Status, clicked.Out, clicked.Err)
	}
	page, err := session.Notes.Await(ctx, stage.NoteOpener, "")
	must(err)
	if !issuer.IsSignIn(page.Text) {
		t.Fatal("what was opened first is no sign-in page")
	}
	must(issuer.SignIn(ctx, page.Text, ada.Key))
	opened, err := session.Notes.Await(ctx, stage.NoteOpener, "")
	must(err)
	if !strings.HasPrefix(opened.Text, "https://") {
		t.Error("what was opened is no encounter")
	}
	var made struct {
		Encounters []struct {
			Encounter string `json:"external_encounter_id"`
		} `json:"encounters"`
	}
	must(sim.Ask(ctx, http.MethodGet, "/encounters", nil, &made))
	if len(made.Encounters) != 1 || made.Encounters[0].Encounter != "E-1" {
		t.Errorf("the simulator has %v", made.Encounters)
	}
	agent, err := session.Agent()
	must(err)
	items, err := session.KeyringItems(ctx)
	must(err)
	if len(items) == 0 {
		t.Error("the keyring is empty")
	}
	must(session.LockKeyring(ctx))
	must(session.UnlockKeyring(ctx))
	must(session.RestartBus(ctx))
	again, err := session.KeyringItems(ctx)
	must(err)
	if len(again) < len(items) {
		t.Errorf("%d of %d items are left after a restart of the bus", len(again), len(items))
	}
	must(agent.Kill(ctx))
	if _, err := session.Agent(); err == nil {
		t.Error("an agent runs still")
	}
	must(backendAgain(ctx, backend))
}

func backendAgain(ctx context.Context, b *stage.Backend) error {
	b.Kill()
	if err := b.Start(ctx); err != nil {
		return err
	}
	if b.Ended() {
		return errors.New("the backend has ended")
	}
	return nil
}
