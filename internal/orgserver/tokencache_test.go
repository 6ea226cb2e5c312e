package orgserver

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
)

func TestAKnownTokenIsVerifiedAnewOnlyByOtherKeys(t *testing.T) {
	w := newWorld(t)
	me := request{method: http.MethodGet, path: orgapi.PathMe, bearer: w.token(t, nil)}
	good := func(when string) {
		t.Helper()
		if got := w.do(t, me); got.status != http.StatusOK {
			t.Errorf("%s: %d", when, got.status)
		}
	}
	good("at first")
	tokens := w.server.tokens
	own := tokens.keys
	other := newKey(t)
	tokens.mu.Lock()
	tokens.keys = []jose.JSONWebKey{{Key: &other.PublicKey, KeyID: w.issuer.kid, Algorithm: "ES256"}}
	tokens.mu.Unlock()
	good("by keys that nobody has asked for")
	tokens.mu.Lock()
	tokens.generation++
	tokens.mu.Unlock()
	w.refused(t, me, http.StatusUnauthorized, problem.Unauthorized)
	tokens.mu.Lock()
	tokens.keys = own
	tokens.generation++
	tokens.mu.Unlock()
	good("by its own keys again")
}

func TestAKnownTokenEndsWhenItSays(t *testing.T) {
	w := newWorld(t)
	me := request{method: http.MethodGet, path: orgapi.PathMe, bearer: w.token(t, nil)}
	for _, step := range []time.Duration{0, 4*time.Minute + 59*time.Second} {
		w.clock.advance(step)
		if got := w.do(t, me); got.status != http.StatusOK {
			t.Fatalf("after %v: %d", step, got.status)
		}
	}
	w.clock.advance(time.Second)
	w.refused(t, me, http.StatusUnauthorized, problem.Unauthorized)
}

func TestARefusedTokenIsNotRemembered(t *testing.T) {
	w := newWorld(t)
	good := w.token(t, nil)
	for _, token := range []string{
		w.token(t, map[string]any{"aud": launcherID}), w.token(t, map[string]any{"nonce": "n"}), good[:len(good)-4] + "AAAA",
	} {
		w.refused(t, request{method: http.MethodGet, path: orgapi.PathMe, bearer: token}, http.StatusUnauthorized, problem.Unauthorized)
	}
	if n := len(w.server.tokens.known.young); n != 0 {
		t.Errorf("%d are remembered", n)
	}
}

func TestKnownTokensStayWithinTheirBounds(t *testing.T) {
	id := func(n int) tokenID { return sha256.Sum256(fmt.Append(nil, n)) }
	for size, most := range map[int]int{1: 2 * knownCount, maxTokenBytes: 2 * knownBytes / maxTokenBytes} {
		var k knownTokens
		for n := range 5 * knownCount {
			k.keep(id(n), knownToken{}, size)
			if got := len(k.young) + len(k.older); got > most {
				t.Fatalf("%d of %d bytes are remembered", got, size)
			}
		}
		if _, ok := k.find(id(5*knownCount - 1)); !ok {
			t.Error("the newest is forgotten")
		}
		if _, ok := k.find(id(0)); ok {
			t.Error("the oldest is remembered")
		}
	}
}
