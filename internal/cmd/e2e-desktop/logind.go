package main

import (
	"errors"
	"os"
	"time"

	"encounterlauncher/internal/sessionsim"
)

// systemBus names the variable with the address of a system bus of the test's own.
// It is not DBUS_SYSTEM_BUS_ADDRESS, so that nothing of this ever reaches the
// computer's.
const systemBus = "E2E_SYSTEM_BUS_ADDRESS"

// newLogin stands in for logind where the test has a bus for it; nil where not. The
// session is found as the one with the person's screen.
func newLogin() (*sessionsim.Login, error) {
	address := os.Getenv(systemBus)
	if address == "" {
		return nil, nil
	}
	return sessionsim.NewLogin(address, "")
}

// session carries out a command that is about the person's session: lock, unlock,
// idle (for ID seconds; 0 is in use), switch (away with ID 1, back with 0), sleep
// (ID 1) and wake (ID 0) as "sleep", logoff.
func (d *desktop) session(c command) (any, error) {
	if d.login == nil {
		return nil, errors.New(systemBus + " is not set: there is no logind")
	}
	switch c.Do {
	case "lock":
		d.login.Lock()
	case "unlock":
		d.login.Unlock()
	case "idle":
		since := time.Time{}
		if c.ID > 0 {
			since = time.Now().Add(-time.Duration(c.ID) * time.Second)
		}
		d.login.Idle(since)
	case "switch":
		d.login.Switch(c.ID != 0)
	case "sleep":
		return true, d.login.Sleep(c.ID != 0)
	case "logoff":
		d.login.LogOff()
	}
	return true, nil
}
