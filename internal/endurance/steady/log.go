//go:build linux

package steady

import (
	"encoding/json"
	"errors"
	"os"
	"runtime"

	"encounterlauncher/internal/chart"
)

// Log is what was read along the way, and how it was judged.
type Log struct {
	// What names what was read, and Along what X counts: launches, hours.
	What, Along string
	// Read are the readings of each quantity; Done is how often each thing was done.
	Read map[string][]chart.Point
	Done map[string]int64
	// Judged are the judgements.
	Judged []Row
}

// NewLog returns an empty log.
func NewLog(what, along string) *Log {
	return &Log{What: what, Along: along, Read: map[string][]chart.Point{}, Done: map[string]int64{}}
}

// Add keeps a reading.
func (l *Log) Add(quantity string, at, value float64) {
	l.Read[quantity] = append(l.Read[quantity], chart.Point{X: at, Y: value})
}

// Judge keeps a judgement and returns whether it is met.
func (l *Log) Judge(row Row) bool {
	l.Judged = append(l.Judged, row)
	return row.Met
}

// Write writes the log as JSON into a file.
func (l *Log) Write(file string) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o600)
}

// ReadLog reads what Write wrote.
func ReadLog(file string) (*Log, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	l := new(Log)
	if err := json.Unmarshal(text, l); err != nil {
		return nil, err
	}
	if len(l.Read) == 0 {
		return nil, errors.New("the log of a run holds no reading")
	}
	return l, nil
}

// The quantities that a process knows of itself.
const (
	Goroutines  = "goroutines"
	Descriptors = "descriptors"
	Heap        = "live heap (MB)"
)

// Inside reads what this process holds: goroutines, descriptors, and the live heap
// after a collection.
func (l *Log) Inside(at float64) error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	l.Add(Descriptors, at, float64(len(open)-1)) // one is that of the folder
	l.Add(Goroutines, at, float64(runtime.NumGoroutine()))
	runtime.GC()
	runtime.GC() // what the first one only put aside, such as finalizers' and pools'
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	l.Add(Heap, at, float64(m.HeapAlloc)/(1<<20))
	return nil
}
