package agent

// bell wakes the one goroutine that waits for it. However often it is rung before
// that looks, it is one ring; who rings never waits.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}
