package scheme

import (
	"errors"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

func removeStale(l paths.Layout, executable string) ([]Registration, error) {
	executable = handlerOf(executable)
	s := lookUp(l.Scheme())
	if !s.forAll(executable) {
		return nil, nil
	}
	for _, r := range s.Registrations {
		if r.Place != ForUser || !r.Ours || r.leadsTo(executable) {
			continue
		}
		if err := drop(l.Scheme()); err != nil {
			return nil, err
		}
		tellShell()
		return []Registration{r}, nil
	}
	return nil, nil
}

func repair(l paths.Layout, executable string) (did []string, err error) {
	executable = handlerOf(executable)
	s := lookUp(l.Scheme())
	if s.settled(executable) {
		return nil, nil
	}
	for _, r := range s.Registrations {
		if r.Place == ForUser && r.Ours && !r.leadsTo(executable) {
			if err := drop(l.Scheme()); err != nil {
				return did, err
			}
			tellShell()
			did = append(did, "removed this user's registry key of ours")
		}
	}
	if lookUp(l.Scheme()).settled(executable) {
		return did, nil
	}
	if err := register(l, executable); err != nil {
		return did, err
	}
	did = append(did, "registered this program for this user")
	if !lookUp(l.Scheme()).settled(executable) {
		return did, problem.With(problem.Internal, "Another program is still asked first for links from the EHR.", errors.New("another handler is in effect"))
	}
	return did, nil
}
