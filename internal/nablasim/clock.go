package nablasim

import (
	"errors"
	"sync"
	"time"
)

// maxOffset bounds how far the clock can be moved, so that no time overflows.
const maxOffset = 10 * 365 * 24 * time.Hour

// Clock is the simulator's clock: the computer's, moved and perhaps frozen. By it
// one-time URLs, access tokens and used assertions age. What comes from, or goes to,
// others who have a clock of their own (assertions, timestamps of callbacks) is
// judged by the computer's, unless Everything is set.
type Clock struct {
	Now           time.Time `json:"now"`
	OffsetSeconds int64     `json:"offset_seconds"`
	Frozen        bool      `json:"frozen"`
	Everything    bool      `json:"everything"`
}

// ClockChange is what to do with the clock; what is nil stays. Offset comes first,
// then freezing, then advancing.
type ClockChange struct {
	// OffsetSeconds is how far it is ahead (or, below 0, behind) of the computer's.
	OffsetSeconds *int64 `json:"offset_seconds,omitempty"`
	// AdvanceSeconds moves it on (or back) from where it is.
	AdvanceSeconds *int64 `json:"advance_seconds,omitempty"`
	// Freeze stops it, or lets it run again from where it stands.
	Freeze *bool `json:"freeze,omitempty"`
	// Everything: see Clock.
	Everything *bool `json:"everything,omitempty"`
}

// movedClock is safe for concurrent use, and never asks for another lock.
type movedClock struct {
	real func() time.Time

	mu         sync.Mutex
	offset     time.Duration
	frozen     *time.Time // where it stands, in its own time
	everything bool
}

func (c *movedClock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at() }

func (c *movedClock) at() time.Time {
	if c.frozen != nil {
		return *c.frozen
	}
	return c.real().Add(c.offset)
}

// others is the clock by which what others sign is judged.
func (c *movedClock) others() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.everything {
		return c.at()
	}
	return c.real()
}

func (c *movedClock) show() Clock {
	c.mu.Lock()
	defer c.mu.Unlock()
	offset := c.offset
	if c.frozen != nil {
		offset = c.frozen.Sub(c.real())
	}
	return Clock{c.at(), int64(offset / time.Second), c.frozen != nil, c.everything}
}

var errOffset = errors.New("the clock cannot be moved by more than ten years")

func seconds(n int64) (time.Duration, error) {
	if limit := int64(maxOffset / time.Second); n > limit || n < -limit {
		return 0, errOffset
	}
	return time.Duration(n) * time.Second, nil
}

func (c *movedClock) change(by ClockChange) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	offset, at := c.offset, c.at()
	if by.OffsetSeconds != nil {
		d, err := seconds(*by.OffsetSeconds)
		if err != nil {
			return err
		}
		offset, at = d, c.real().Add(d)
	}
	if by.AdvanceSeconds != nil {
		d, err := seconds(*by.AdvanceSeconds)
		if err != nil {
			return err
		}
		offset, at = offset+d, at.Add(d)
	}
	if ahead := at.Sub(c.real()); ahead > maxOffset || ahead < -maxOffset {
		return errOffset
	}
	frozen := c.frozen != nil
	if by.Freeze != nil {
		frozen = *by.Freeze
	}
	if c.frozen != nil && !frozen {
		offset = at.Sub(c.real())
	}
	c.offset, c.frozen = offset, nil
	if frozen {
		c.frozen = &at
	}
	if by.Everything != nil {
		c.everything = *by.Everything
	}
	return nil
}

func (c *movedClock) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset, c.frozen, c.everything = 0, nil, false
}

// Clock returns how the clock stands.
func (s *Sim) Clock() Clock { return s.clock.show() }

// ChangeClock moves the clock. It refuses more than ten years, and then nothing
// has changed.
func (s *Sim) ChangeClock(by ClockChange) error { return s.clock.change(by) }

// ResetClock makes it the computer's again.
func (s *Sim) ResetClock() { s.clock.reset() }
