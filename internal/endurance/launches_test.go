//go:build linux

package endurance

import "testing"

// TestManyLaunchesLeaveNothingBehind is the short form of the run that make proof
// does: it shows that everything works together, and a leak that is not small.
func TestManyLaunchesLeaveNothingBehind(t *testing.T) {
	l, err := Launches(t.Context(), Options{Launches: 600})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range l.Judged {
		if !row.Met {
			t.Errorf("%+v", row)
		}
	}
	t.Logf("%+v", l.Judged)
	t.Logf("%v, %v", l.Done, l.Read["seconds"])
}
