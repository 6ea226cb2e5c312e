package orgserver

import (
	"flag"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
)

// produced are the answers, by operation and status, that tests of this package got
// from the real handler and held against the contract.
var produced = struct {
	sync.Mutex
	seen map[string]bool
}{seen: map[string]bool{}}

func noteProduced(operation string, status int) {
	produced.Lock()
	defer produced.Unlock()
	produced.seen[operation+" "+strconv.Itoa(status)] = true
}

// unproduced are the answers of the contract that no test here gets, each with its
// reason.
var unproduced = map[string]string{
	"createEncounter 500": "a fault of ours: the handler that panics is tested on a route of its own",
	"reopenEncounter 500": "as createEncounter 500",
	"whoAmI 500":          "as createEncounter 500",
	"events 500":          "as createEncounter 500",
	"registerLaunch 500":  "as createEncounter 500",
	"takeCallback 500":    "as createEncounter 500",
	"createEncounter 408": "needs a body that comes too slowly: badinput_test.go writes to the wire itself",
	"reopenEncounter 408": "as createEncounter 408",
	"registerLaunch 408":  "as createEncounter 408",
	"takeCallback 408":    "as createEncounter 408",
	"ready 503":           "no problem, but what is wrong by part: operate_test.go looks at it itself",
	"events 404":          "a backend without events; the reference backend has them",
}

func TestACallWithoutAnIssuerOrAWordForItsIDIsRefusedEverywhere(t *testing.T) {
	w := newWorld(t)
	reopen := orgapi.ReopenRequest{ExternalProviderID: "D-17", ExternalEncounterID: "E-1"}
	for _, path := range []string{orgapi.PathMe, orgapi.PathEvents} {
		w.refused(t, request{method: http.MethodGet, path: path, bearer: w.token(t, nil), id: "two words"}, http.StatusBadRequest, problem.RequestInvalid)
	}
	w.refused(t, request{path: orgapi.PathEncounterURL, bearer: w.token(t, nil), key: "k", contentType: "text/plain", body: reopen}, http.StatusUnsupportedMediaType, problem.RequestInvalid)

	w = newWorld(t)
	w.issuer.mu.Lock()
	w.issuer.down = true
	w.issuer.mu.Unlock()
	w.refused(t, request{method: http.MethodGet, path: orgapi.PathEvents, bearer: w.token(t, nil)}, http.StatusServiceUnavailable, problem.OrgUnreachable)
	w.refused(t, request{path: orgapi.PathEncounterURL, bearer: w.token(t, nil), key: "k", body: reopen}, http.StatusServiceUnavailable, problem.OrgUnreachable)
}

// complete runs all tests, and then says which answers of the contract none got.
type complete struct{ *testing.M }

func (c complete) Run() int {
	status := c.M.Run()
	if status == 0 && whole() {
		for _, fault := range incomplete() {
			fmt.Println("the contract and the tests:", fault)
			status = 1
		}
	}
	return status
}

// whole reports whether every test ran.
func whole() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.bench", "test.fuzz"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return false
		}
	}
	return !testing.Short()
}

// incomplete returns where the contract and what was produced do not agree.
func incomplete() []string {
	d, err := contract()
	if err != nil {
		return []string{err.Error()}
	}
	var faults []string
	left := maps.Clone(unproduced)
	for _, item := range d.Paths.Map() {
		for _, operation := range item.Operations() {
			for status := range operation.Responses.Map() {
				name := operation.OperationID + " " + status
				_, excused := left[name]
				delete(left, name)
				switch seen := produced.seen[name]; {
				case seen && excused:
					faults = append(faults, name+" is produced, so its excuse is out of date")
				case !seen && !excused:
					faults = append(faults, name+" is produced by no test")
				}
			}
		}
	}
	for name := range left {
		faults = append(faults, name+" is excused, but not in the contract")
	}
	slices.Sort(faults)
	return faults
}
