package text

import (
	"strconv"
	"time"
)

// Clock returns the time of day as the locale writes it, such as "14:05" or
// "2:05 PM", in at's own location.
func (c Catalogue) Clock(at time.Time) string {
	minute := at.Format("04")
	if !c.twelve {
		return c.Word("time.clock", "hour", at.Format("15"), "minute", minute)
	}
	half := "time.am"
	if at.Hour() >= 12 {
		half = "time.pm"
	}
	return c.Word("time.clock_twelve", "hour", at.Format("3"), "minute", minute, "half", c.Word(half))
}

// When returns a moment as short as it stays clear, seen from now and in now's
// location: "14:05" today, "yesterday 14:05", "Monday 14:05" up to six days
// ago, "3 Nov, 14:05" in this year, else "3 Nov 2025". A moment that lies ahead
// of today, which a clock that was set back can bring about, has its date. It
// reads well in brackets, after a colon and at the end of a row; it is no part of
// a sentence.
//
// The window's words.ts is its twin; testdata/times.json holds both to the same
// text.
func (c Catalogue) When(at, now time.Time) string {
	at = at.In(now.Location())
	clock := c.Clock(at)
	switch days := daysBetween(at, now); {
	case days == 0:
		return c.Word("time.today", "clock", clock)
	case days == 1:
		return c.Word("time.yesterday", "clock", clock)
	case days > 1 && days < 7:
		return c.Word("time.this_week", "weekday", c.Word(weekdays[at.Weekday()]), "clock", clock)
	case at.Year() == now.Year():
		return c.Word("time.this_year", "date", c.date(at, "time.date"), "clock", clock)
	}
	return c.Word("time.earlier", "date", c.date(at, "time.date_year"))
}

func (c Catalogue) date(at time.Time, pattern string) string {
	if c.monthFirst {
		pattern += "_month_first"
	}
	return c.Word(pattern, "day", strconv.Itoa(at.Day()), "month", c.Word(months[at.Month()-time.January]), "year", strconv.Itoa(at.Year()))
}

// daysBetween counts midnights, not hours: a day with a change of summer time
// has 23 or 25.
func daysBetween(from, to time.Time) int {
	noon := func(t time.Time) time.Time {
		return time.Date(t.Year(), t.Month(), t.Day(), 12, 0, 0, 0, time.UTC)
	}
	return int(noon(to).Sub(noon(from)) / (24 * time.Hour))
}

var weekdays = [...]string{
	"time.sunday", "time.monday", "time.tuesday", "time.wednesday", "time.thursday", "time.friday", "time.saturday",
}

var months = [...]string{
	"time.january", "time.february", "time.march", "time.april", "time.may", "time.june",
	"time.july", "time.august", "time.september", "time.october", "time.november", "time.december",
}
