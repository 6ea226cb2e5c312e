//go:build !linux

package audit

import "errors"

// SystemSink is an error here: the Event Log comes with the Windows installer,
// which registers its source.
func SystemSink() (Sink, error) {
	return nil, asProblem(errors.New("this system has no log that this version can use"))
}
