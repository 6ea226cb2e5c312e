package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"encounterlauncher/internal/autostart"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/scheme"
	"encounterlauncher/internal/view"
)

// chosenKeys are the settings of the window, in the order in which it shows them.
var chosenKeys = [...]string{"Language", "Autostart", "Notices"}

// autostartRest is how long after the start, and after a change, the system's entry
// for the logon is looked at: a click comes first.
const autostartRest = 2 * time.Second

// settings is what the agent keeps beside policy for the person's choices.
type settings struct {
	// look has the policy read anew at once.
	look bell
	// autostart is the newest wish for the start at logon; buffered 1.
	autostart chan bool
	// rest is autostartRest but for tests.
	rest time.Duration
	// choosing keeps one choice from being written over another.
	choosing sync.Mutex
	// notices is the policy Notices in force.
	notices atomic.Pointer[string]
	// never says that nobody has signed in under this account; marked that the mark
	// of somebody who has is being written.
	never  atomic.Bool
	marked atomic.Bool
}

func newSettings() *settings {
	return &settings{look: newBell(), autostart: make(chan bool, 1), rest: autostartRest}
}

// Settings returns what a person can choose, what is in force, and who decides.
func Settings(p policy.Snapshot) []view.Setting {
	seen := []view.Setting{}
	keys := policy.Keys()
	for _, name := range chosenKeys {
		k := slices.IndexFunc(keys, func(k policy.Key) bool { return k.Name == name })
		v := slices.IndexFunc(p.Values, func(v policy.Value) bool { return v.Key == name })
		if k < 0 || v < 0 {
			continue
		}
		s := view.Setting{
			Key: name, Kind: view.SettingChoice, Value: settingText(p.Values[v].Effective),
			Choices: append([]string{}, keys[k].Allowed...), Locked: p.Values[v].Locked, Source: p.Values[v].Source,
		}
		if keys[k].Type == policy.YesNo {
			s.Kind = view.SettingYesNo
		}
		seen = append(seen, s)
	}
	return seen
}

// settingText is a value of policy as a person writes it; empty when it is unset.
func settingText(effective string) string {
	var text *string
	if err := json.Unmarshal([]byte(effective), &text); err != nil {
		return effective // true or false
	}
	if text == nil {
		return ""
	}
	return *text
}

// choose keeps a choice of the person; it is in force with the next snapshot.
func (a *Agent) choose(key, value string) error {
	a.settings.choosing.Lock()
	defer a.settings.choosing.Unlock()
	if err := policy.Choose(a.opts.Layout, key, value); err != nil {
		p := problem.Of(err)
		a.log.Log(context.Background(), p.Row().Level, "a choice was not taken", "problem", p)
		return p
	}
	a.settings.look.ring() // it will be read anyway
	return nil
}

// takeSettings puts in force what of a policy the person can choose.
func (a *Agent) takeSettings(p policy.Snapshot) {
	a.settings.notices.Store(&p.Notices)
	hidden := append([]string{}, p.HiddenItems...)
	a.board.change(func(s *view.Snapshot) {
		s.Settings, s.Hidden = Settings(p), hidden
		s.FirstRun = a.settings.never.Load() && !p.SharedWorkstation
		if s.Notice != nil && !a.mayNotice(s.Notice.Kind) {
			s.Notice = nil
		}
	})
	select {
	case <-a.settings.autostart: // what was wanted before
	default:
	}
	a.settings.autostart <- p.Autostart // take is the only sender
}

// mayNotice reports whether the person wants notices of a kind. What they tell is
// in tray and window all the same. That policy has ended the sign-in counts as a
// problem: the next click shows a page in place of an encounter. So does that the links
// do not come here any more: it opens none.
func (a *Agent) mayNotice(kind string) bool {
	notices := a.settings.notices.Load()
	if notices == nil {
		return true
	}
	switch *notices {
	case "none":
		return false
	case "problems":
		return kind == view.NoticeProblem || kind == view.NoticeSignedOut || kind == view.NoticeLinkTaken
	}
	return true
}

// keepAutostart makes the system start the agent at logon, or not, as policy and the
// person want it, until ctx ends.
func (a *Agent) keepAutostart(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case on := <-a.settings.autostart:
			rest(ctx, nil, a.settings.rest)
			select {
			case on = <-a.settings.autostart: // it has changed meanwhile
			default:
			}
			if ctx.Err() == nil {
				a.applyAutostart(on)
			}
		}
	}
}

// applyAutostart changes the entry only for the program that owns the links: one
// that was started from somewhere to look at it must not be there after the next
// logon.
func (a *Agent) applyAutostart(on bool) {
	program, owns := a.ownsLinks()
	if !owns {
		return
	}
	if err := autostart.Set(a.opts.Layout, program, on); err != nil {
		a.log.Warn("the start at logon could not be changed", "problem", problem.Of(err))
	}
}

// ownsLinks returns the path of this program, and whether the system starts it for
// the links of the EHR.
func (a *Agent) ownsLinks() (program string, owns bool) {
	owner, err := scheme.Owner(a.opts.Layout)
	if err != nil || owner.Program == "" {
		return "", false
	}
	if program, err = os.Executable(); err != nil {
		return "", false
	}
	program = scheme.ProgramFor(program)
	if resolved, err := filepath.EvalSymlinks(program); err == nil {
		program = resolved
	}
	return program, scheme.SameProgram(program, owner.Program)
}

// lookWhetherFirst publishes whether this is the first run: nobody has signed in
// under this account yet.
func (a *Agent) lookWhetherFirst() {
	if _, err := os.Lstat(a.opts.Layout.SignedInMark()); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	a.board.change(func(s *view.Snapshot) {
		if s.SignIn.Person != nil {
			return // between starting and looking
		}
		a.settings.never.Store(true)
		s.FirstRun = !a.shared()
	})
}

func (a *Agent) shared() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rooms != nil && a.rooms.policy.SharedWorkstation
}

// notFirst ends the first run: somebody is signed in. On a workstation that several
// people share nothing is kept of that.
func (a *Agent) notFirst() {
	a.settings.never.Store(false)
	if a.shared() || a.settings.marked.Swap(true) || a.work.begin() != nil {
		return
	}
	go func() {
		defer a.work.end()
		file, err := os.OpenFile(a.opts.Layout.SignedInMark(), os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			err = file.Close()
		}
		if err != nil {
			a.log.Warn("that somebody has signed in could not be kept", "cause", err)
		}
	}()
}
