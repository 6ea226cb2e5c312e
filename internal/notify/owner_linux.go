package notify

import "sync"

// ownerName is the unique name of the service that was asked last; the goroutine
// of Run sets it, that of the signals reads it.
type ownerName struct {
	mu   sync.Mutex
	name string
}

func (o *ownerName) set(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.name = name
}

func (o *ownerName) is(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.name != "" && o.name == name
}
