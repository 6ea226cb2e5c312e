package tokenstore

import "sync"

// Memory returns a keyring that lives and ends with this process: for a machine
// without one, and for tests. It is never locked.
func Memory() Keyring { return &memory{items: map[[2]string]string{}} }

type memory struct {
	mu    sync.Mutex
	items map[[2]string]string // guarded by mu; keys are service and user
}

func (m *memory) Get(service, user string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok := m.items[[2]string{service, user}]
	if !ok {
		return "", ErrNotFound
	}
	return value, nil
}

func (m *memory) Set(service, user, value string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.items[[2]string{service, user}] = value
	return nil
}

func (m *memory) Delete(service, user string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := [2]string{service, user}
	if _, ok := m.items[key]; !ok {
		return ErrNotFound
	}
	delete(m.items, key)
	return nil
}
