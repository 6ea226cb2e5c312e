package scheme

import (
	"errors"

	"encounterlauncher/internal/problem"
)

func (d desktop) removeStale(executable string) ([]Registration, error) {
	s := d.look()
	if !s.forAll(executable) {
		return nil, nil
	}
	for _, r := range s.Registrations {
		if r.Place != ForUser || !r.Ours || r.Where != d.entryFile() || r.leadsTo(executable) {
			continue
		}
		if err := d.dropEntry(); err != nil {
			return nil, err
		}
		return []Registration{r}, nil
	}
	return nil, nil
}

func (d desktop) repair(executable string) (did []string, err error) {
	s := d.look()
	if s.settled(executable) {
		return nil, nil
	}
	for _, r := range s.Registrations {
		if r.Place == ForUser && r.Ours && r.Where == d.entryFile() && !r.leadsTo(executable) {
			if err := d.dropEntry(); err != nil {
				return did, err
			}
			did = append(did, "removed this user's desktop file of ours")
		}
	}
	if s = d.look(); !s.settled(executable) && s.forAll(executable) {
		if err := d.prefer(); err != nil {
			return did, err
		}
		did = append(did, "made the program that is installed for everybody this user's default")
		s = d.look()
	}
	if !s.settled(executable) {
		if err := d.register(executable); err != nil {
			return did, err
		}
		did = append(did, "registered this program for this user")
	}
	if !d.look().settled(executable) {
		return did, problem.With(problem.Internal, "Another program is still asked first for links from the EHR.", errors.New("another list of defaults is asked first"))
	}
	return did, nil
}
