package orgserver

import (
	"crypto/sha256"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"encounterlauncher/internal/secret"
)

// The bounds of one half of knownTokens: how many tokens it remembers, and how long
// they may be together.
const (
	knownCount = 4096
	knownBytes = 4 << 20
)

// tokenID stands for an access token, signature included, that is not kept itself.
type tokenID [sha256.Size]byte

func idOf(token secret.Text, audience string) tokenID {
	// On the stack, where it is as long as tokens are. A token cannot hold a NUL, so that
	// the two cannot run into each other.
	var room [2 << 10]byte
	return sha256.Sum256(append(append(append(room[:0], token.Reveal()...), 0), audience...))
}

// knownToken is what was found out about one token.
type knownToken struct {
	claims map[string]json.RawMessage // read only: many calls share it
	// keys is the generation of the issuer's keys that verified it: by other keys
	// it is verified anew.
	keys uint64
	// It was good at since and is until.
	since, until time.Time
	// person is what its claims say, once somebody has asked; see callerUntil. It may
	// be written at any time, and is the same whoever writes it.
	person *atomic.Pointer[person]
}

// person is the clinician of an access token.
type person struct {
	issuer, subject string
	end             time.Time
	who             clinician
}

func (k knownToken) good(keys uint64, now time.Time) bool {
	return k.keys == keys && !now.Before(k.since) && now.Before(k.until)
}

// knownTokens remembers tokens that were verified, for a workstation shows the same
// one with every call of minutes. It never makes a token good for longer than it is,
// or than the keys that verified it are the issuer's, and it remembers no token that
// was refused. When a half is full the older one is forgotten, so that it stays
// within its bounds and the tokens in use stay in it. The zero value is ready.
type knownTokens struct {
	mu           sync.Mutex
	young, older map[tokenID]knownToken // guarded by mu
	bytes        int                    // guarded by mu: of the tokens in young
}

func (k *knownTokens) find(id tokenID) (knownToken, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t, ok := k.young[id]; ok {
		return t, true
	}
	t, ok := k.older[id]
	return t, ok
}

func (k *knownTokens) keep(id tokenID, t knownToken, size int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.young == nil || len(k.young) >= knownCount || k.bytes+size > knownBytes {
		k.older, k.young, k.bytes = k.young, make(map[tokenID]knownToken), 0
	}
	k.young[id] = t
	k.bytes += size
}
