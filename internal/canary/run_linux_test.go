package canary

import (
	"fmt"
	"testing"
)

func TestNothingThatIsMarkedIsFoundOutsideTheListOnTheWayThroughTheRealPrograms(t *testing.T) {
	report, err := Run(t.Context(), Options{Short: true}, func(what string) { t.Log(what) })
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Finds {
		t.Errorf("found: %s", f)
	}
	for _, w := range report.Wrong {
		t.Errorf("%s", w)
	}
	for _, l := range report.Looks {
		t.Log(fmt.Sprintf("%-60s %5d items %10d bytes", l.Place, l.Items, l.Bytes))
	}
	for _, f := range report.Met {
		t.Logf("allowed: %s: %s", f, f.Reason)
	}
	t.Log(report.Marks)
}
