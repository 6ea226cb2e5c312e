package main

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/problem"
)

func TestAWindowThatNeverSaysItIsUpCountsAsOpenUntilItEnds(t *testing.T) {
	cmd := exec.Command("/bin/cat") // says nothing, and ends with its input
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	ended, err := startAndWait(t.Context(), cmd, control.Activation{}, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended by itself: %v", err)
	default:
	}
	if err := input.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAWindowThatIsClosedBeforeItsPageIsThereIsNoProblem(t *testing.T) {
	ended, err := startAndWait(t.Context(), exec.Command("/bin/true"), control.Activation{}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWhatAWindowPrintsBeforeItDiesDoesNotCountAsBeingOpen(t *testing.T) {
	_, err := startAndWait(t.Context(), exec.Command("/bin/sh", "-c", "echo something; exit 1"), control.Activation{}, time.Minute)
	if !problem.IsCode(err, problem.WindowUnavailable) {
		t.Errorf("error %v, want window_unavailable", err)
	}
}

func TestAWindowMayTellOfItsPaintingBeforeItIsUp(t *testing.T) {
	life, end := context.WithCancel(t.Context())
	defer end()
	cmd := exec.Command("/bin/sh", "-c", "echo "+windowPainted+"; echo "+windowUp+"; exec sleep 600")
	if _, err := startAndWait(life, cmd, control.Activation{}, time.Hour); err != nil {
		t.Fatal(err)
	}
}

func TestTheWindowGoesWhenItsLifeEnds(t *testing.T) {
	life, end := context.WithCancel(t.Context())
	ended, err := startAndWait(life, exec.Command("/bin/sh", "-c", "echo "+windowUp+"; exec sleep 600"), control.Activation{}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	end()
	if err := <-ended; err != nil {
		t.Errorf("an end that was asked for is told as a fault: %v", err)
	}
}
