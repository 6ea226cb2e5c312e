// Package delivery brings exported notes to the EHR: a callback is kept durably
// before Nabla is answered, then brought to every place that the organisation
// named, again and again until it is there or a person must look.
//
// It never loses a callback that it took, never takes the same one twice, never
// keeps the content of one that was delivered, and never writes a note anywhere
// but sealed into the queue and to the places named.
package delivery

import (
	"context"

	"encounterlauncher/internal/nabla"
)

// Place is where exported notes go. Deliver is told one callback, perhaps more than
// once, and must make the same of it each time. An error is tried again later,
// unless it is, or wraps, ErrRefused.
type Place interface {
	// Name is how people call it: webhook, fhir, folder.
	Name() string
	Deliver(ctx context.Context, c nabla.Callback) error
}
