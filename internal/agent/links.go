package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"encounterlauncher/internal/audit"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/scheme"
	"encounterlauncher/internal/view"
)

const (
	// linksRest is how long after the start the handler of the links is looked at
	// first: a click comes first.
	linksRest = 5 * time.Second
	// linksAgain is the time between two looks.
	linksAgain = time.Hour
)

// keepLinks watches whether the links of the EHR come to this program, until ctx ends:
// some time after the start, every hour, and when somebody has the set-up looked at. At
// the first look it removes what an older copy of this program has left behind for this
// user. A look reads a few files or keys; it starts nothing and asks nobody.
func (a *Agent) keepLinks(ctx context.Context) {
	program, err := os.Executable()
	if err != nil {
		a.log.Warn("the handler of the links is not watched", "problem", problem.New(problem.Internal, err))
		return
	}
	program = scheme.ProgramFor(program)
	lost := scheme.Told(a.opts.Layout)
	for next, first := linksRest, true; ; next = linksAgain {
		at, stop := a.linksTimer(next)
		select {
		case <-ctx.Done():
			stop()
			return
		case <-at:
		case <-a.linksDirty:
		}
		stop()
		if first {
			first = false
			a.removeStaleLinks(program)
		}
		lost = a.lookAtLinks(program, lost)
	}
}

// removeStaleLinks removes registrations of older copies for this user that would hide
// the machine's of this program.
func (a *Agent) removeStaleLinks(program string) {
	removed, err := scheme.RemoveStale(a.opts.Layout, program)
	for _, r := range removed {
		a.audit.note(audit.Record{Outcome: audit.LinkCleaned})
		a.log.Info("an older registration for links was removed for this user", "place", r.Place, "id", r.ID)
	}
	if err != nil {
		a.log.Warn("an older registration for links could not be removed", "problem", problem.Of(err))
	}
}

// lookAtLinks finds out who receives the links and tells when that has changed. lost
// is what the person was told of before, empty for nothing; the new one is returned. A
// look that finds nothing out changes nothing.
func (a *Agent) lookAtLinks(program, lost string) string {
	state, handler, known := a.whoseLinks(program)
	if !known {
		return lost
	}
	now := ""
	if state == view.LinkOther || state == view.LinkNobody {
		// A digest: the words of another program are written nowhere.
		now = fmt.Sprintf("%x", sha256.Sum256([]byte(string(state)+" "+handler.ID+" "+handler.Program+" "+handler.Command)))
	}
	a.board.change(func(s *view.Snapshot) {
		s.Link.State = state
		switch {
		case now != "" && now != lost:
			n := view.Notice{Kind: view.NoticeLinkTaken, Actions: []string{view.ActionOpenWindow}}
			if s.HelpDeskURL != "" {
				n.Actions = []string{view.ActionHelpDesk, view.ActionOpenWindow}
			}
			a.tell(s, n)
		case now == "" && s.Notice != nil && s.Notice.Kind == view.NoticeLinkTaken:
			s.Notice = nil
		}
	})
	switch {
	case now != "" && now != lost:
		a.audit.note(audit.Record{Outcome: audit.LinkTaken})
		a.log.Warn("the links of the EHR do not come to this program any more", "state", state, "place", handler.Place, "id", handler.ID)
	case now == "" && lost != "" && state == view.LinkOurs:
		a.audit.note(audit.Record{Outcome: audit.LinkReturned})
		a.log.Info("the links of the EHR come to this program again")
	}
	if now != lost {
		if err := scheme.RememberTold(a.opts.Layout, now); err != nil {
			a.log.Warn("what was told of the links could not be kept: it is told again after a restart", "problem", problem.Of(err))
		}
	}
	return now
}

// whoseLinks says whether the links come to this program, and which registration the
// system goes by. Only where this program has been the handler, or is registered, can
// its links have been taken: of one that somebody has started from elsewhere to look at
// it nothing is known. A registration that starts this program in a form in which a link
// does not arrive, or a program that is not there, is as good as none. known is false
// when nothing could be found out.
func (a *Agent) whoseLinks(program string) (state view.LinkState, handler scheme.Registration, known bool) {
	if _, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) {
		return view.LinkUnknown, scheme.Registration{}, false // being removed or replaced
	}
	s, err := a.linksLook(a.opts.Layout)
	if err != nil {
		a.log.Info("who receives the links could not be found out", "problem", problem.Of(err))
		return view.LinkUnknown, scheme.Registration{}, false
	}
	handler, found := s.Effective()
	if s.Reaches(program) {
		if scheme.SameProgram(handler.Program, program) {
			if err := scheme.Remember(a.opts.Layout, program); err != nil {
				a.log.Warn("that the links come to this program could not be kept", "problem", problem.Of(err))
			}
		}
		return view.LinkOurs, handler, true
	}
	_, forAll := s.Machine()
	switch {
	case !forAll && !s.Registered(program) && !scheme.Remembered(a.opts.Layout, program):
		return view.LinkUnknown, handler, true
	case found && !handler.Has(scheme.ProgramMissing) && !scheme.SameProgram(handler.Program, program):
		return view.LinkOther, handler, true
	}
	return view.LinkNobody, handler, true
}
