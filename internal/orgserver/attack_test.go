package orgserver

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgstore/natstest"
	"encounterlauncher/internal/problem"
)

// spoken sends a request as it is written and returns the status of the answer.
func (w *world) spoken(t *testing.T, text string) int {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(strings.TrimSuffix(w.url, "/launcher"), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode
}

// A proxy that keeps strangers from a call does so by its path as it is written.
func TestACallIsKnownByOneWritingOfItsPathOnly(t *testing.T) {
	w := newWorld(t)
	get := func(target string) int {
		return w.spoken(t, "GET "+target+" HTTP/1.1\r\nHost: backend\r\nConnection: close\r\n\r\n")
	}
	if status := get("/launcher" + orgapi.PathOpenAPI); status != http.StatusOK {
		t.Fatalf("the plain path: %d", status)
	}
	w.server.routes["/launcher/(a)"] = w.server.routes["/launcher"+orgapi.PathOpenAPI]
	if status := get("/launcher/(a)"); status != http.StatusOK {
		t.Errorf("what needs no writing of another kind: %d", status)
	}
	for _, path := range []string{
		"/launcher/%6fpenapi.yaml", "/launcher%2Fopenapi.yaml", "/launcher/openapi%2Eyaml", "/%6Cauncher/openapi.yaml", "//launcher/openapi.yaml",
		"/launcher//openapi.yaml", "/launcher/./openapi.yaml", "/launcher/x/../openapi.yaml", "/launcher/openapi.yaml/", "/launcher/openapi.yaml;x=1",
		"/launcher/OPENAPI.yaml", "/launcher/openapi.yaml%00", "/launcher\\openapi.yaml", "http://backend/launcher/%6fpenapi.yaml",
	} {
		if status := get(path); status != http.StatusNotFound && status != http.StatusBadRequest {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// A stream is outside every limit of calls, so its peer may not go on sending.
func TestAPeerThatSendsIntoItsStreamIsNotListenedToForEver(t *testing.T) {
	w := newWorld(t)
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(strings.TrimSuffix(w.url, "/launcher"), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	stream := "GET /launcher" + orgapi.PathEvents + " HTTP/1.1\r\nHost: backend\r\nAuthorization: Bearer " + w.token(t, nil) + "\r\n"
	// Whatever follows is no request any more.
	if _, err := c.Write([]byte(stream + "\r\n" + "GET /launcher" + orgapi.PathMe + " HTTP/1.1\r\nHost: backend\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	response, err := http.ReadResponse(in, nil)
	if err != nil || response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != orgapi.EventStreamContentType {
		t.Fatalf("%v %v", response, err)
	}
	until(t, "the stream is open", func() bool { return w.server.events.count() == 1 })
	w.exported(t, "D-17", "E-1")
	text := make([]byte, 256)
	for seen := ""; !strings.Contains(seen, "E-1"); {
		n, err := response.Body.Read(text)
		if err != nil {
			t.Fatal(err)
		}
		if seen += string(text[:n]); strings.Contains(seen, "HTTP/1.1") {
			t.Fatalf("what was sent behind the call is answered: %s", seen)
		}
	}
	for err == nil {
		_, err = c.Write(make([]byte, maxSaid))
	}
	until(t, "the stream has ended", func() bool { return w.server.events.count() == 0 })
}

// Without a cluster a NATS server forgets with its end what it had in memory, and
// counts anew.
func TestExportsAreToldAlsoAfterAServerThatStandsAloneHasBegunAnew(t *testing.T) {
	cluster := natstest.Start(t, 1)
	cluster.Config.Replicas = 1
	w := newWorld(t, func(c *orgconfig.Config) { c.NATS = cluster.Config })
	life := func() string {
		w.server.events.mu.Lock()
		defer w.server.events.mu.Unlock()
		return w.server.events.epoch
	}
	before := life()
	l := w.listen(t, w.url, w.token(t, nil), "")
	w.exported(t, "D-17", "E-1", "E-2", "E-3", "E-4")
	last := l.tells("E-1", "E-2", "E-3", "E-4")
	cluster.Kill(0)
	cluster.Restart(t, 0)
	cluster.Until(t, "an export is taken", func() bool {
		return w.server.Exported(t.Context(), orgapi.ExportedEvent{ExternalEncounterID: "E-5", ExternalProviderID: "D-17", At: "2026-11-03T09:14:00Z"}) == nil
	})
	l.ended() // so that it comes back
	// It may have ended because the store failed. Who comes back before the new life is
	// known is sent away once more.
	cluster.Until(t, "the new life is known", func() bool { return life() != before })
	w.listen(t, w.url, w.token(t, nil), last).tells("E-5")
}

// signedAs is a JWS of the issuer's key whose header and payload are as they are given.
func (w *world) signedAs(t *testing.T, header string, payload []byte) string {
	t.Helper()
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(payload)
	return text + "." + base64.RawURLEncoding.EncodeToString(w.es256(t, text))
}

func (w *world) es256(t *testing.T, text string) []byte {
	t.Helper()
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, w.issuer.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

// The issuer's key has signed all of these: what is refused is what somebody who can
// make it sign something else might try.
func TestATokenOfAnUnusualFormIsRefusedAlthoughItsSignatureIsRight(t *testing.T) {
	w := newWorld(t)
	claims := func(changes map[string]any) []byte {
		text, err := json.Marshal(w.claims(changes))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	const header = `{"alg":"ES256","kid":"issuer-1","typ":"at+jwt"}`
	good := w.signedAs(t, header, claims(nil))
	if got := w.do(t, request{method: http.MethodGet, path: orgapi.PathMe, bearer: good}); got.status != http.StatusOK {
		t.Fatalf("a good one: %d %s", got.status, got.body)
	}
	parts := strings.Split(good, ".")
	// RFC 7797: the payload is signed as it is.
	const unencoded = `{"alg":"ES256","kid":"issuer-1","b64":false,"crit":["b64"]}`
	bare := base64.RawURLEncoding.EncodeToString([]byte(unencoded)) + "."
	bare += parts[1] + "." + base64.RawURLEncoding.EncodeToString(w.es256(t, bare+parts[1]))
	// Neither form of JSON is a JWT's (RFC 7519 §1).
	flat := `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`
	general := `{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`
	r, s := ecdsaParts(t, parts[2])
	der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"an extension that must be known":   w.signedAs(t, `{"alg":"ES256","kid":"issuer-1","crit":["exp"],"exp":1}`, claims(nil)),
		"a payload that is not encoded":     bare,
		"JSON, flat":                        flat,
		"JSON, general":                     general,
		"encrypted, by its form":            good + ".AAAA.AAAA",
		"a token in a token":                w.signedAs(t, `{"alg":"ES256","kid":"issuer-1","typ":"JWT","cty":"JWT"}`, []byte(good)),
		"a type that is no text":            w.signedAs(t, `{"alg":"ES256","kid":"issuer-1","typ":["at+jwt"]}`, claims(nil)),
		"a path for a kid":                  w.signedAs(t, `{"alg":"ES256","kid":"../../issuer-1"}`, claims(nil)),
		"a kid that is no text":             w.signedAs(t, `{"alg":"ES256","kid":1}`, claims(nil)),
		"the algorithm in small letters":    w.signedAs(t, `{"alg":"es256","kid":"issuer-1"}`, claims(nil)),
		"another algorithm for the key":     w.signedAs(t, `{"alg":"ES384","kid":"issuer-1"}`, claims(nil)),
		"a signature in ASN.1":              parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(der),
		"a signature of noughts":            parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"an expiry that is a text":          w.signedAs(t, header, claims(map[string]any{"exp": "9999999999"})),
		"an expiry beyond all numbers":      w.signedAs(t, header, []byte(strings.Replace(string(claims(map[string]any{"exp": 17})), `"exp":17`, `"exp":1e999`, 1))),
		"an expiry that comes round again":  w.signedAs(t, header, claims(map[string]any{"exp": 1e300})),
		"an expiry before the beginning":    w.signedAs(t, header, claims(map[string]any{"exp": -1e300})),
		"a subject that is a list":          w.signedAs(t, header, claims(map[string]any{"sub": []string{"subject-1"}})),
		"an audience of objects":            w.signedAs(t, header, claims(map[string]any{"aud": []any{map[string]any{"x": testAudience}}})),
		"an audience in an audience":        w.signedAs(t, header, claims(map[string]any{"aud": []any{[]string{testAudience}}})),
		"no audience in the list":           w.signedAs(t, header, claims(map[string]any{"aud": []string{}})),
		"an audience in capitals":           w.signedAs(t, header, claims(map[string]any{"aud": strings.ToUpper(testAudience)})),
		"claims that are a list":            w.signedAs(t, header, []byte("["+string(claims(nil))+"]")),
		"something behind the claims":       w.signedAs(t, header, append(claims(nil), `{}`...)),
		"padding":                           parts[0] + "=." + parts[1] + "." + parts[2],
		"a blank at the end":                good + " x",
		"a key of its own":                  selfSigned(t, claims(nil)),
		"a key of its own, named as theirs": selfSigned(t, claims(nil), "issuer-1"),
	} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, request{method: http.MethodGet, path: orgapi.PathMe, bearer: token}, http.StatusUnauthorized, problem.Unauthorized)
		})
	}
}

func ecdsaParts(t *testing.T, signature string) (r, s *big.Int) {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		t.Fatal(err)
	}
	return new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])
}

// selfSigned brings its own key in its header (RFC 7515 §4.1.3).
func selfSigned(t *testing.T, claims []byte, kid ...string) string {
	t.Helper()
	options := (&jose.SignerOptions{EmbedJWK: true}).WithType("at+jwt")
	key := jose.JSONWebKey{Key: newKey(t)}
	if len(kid) > 0 {
		key.KeyID = kid[0]
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAnIssuerThatIsAwayIsNotWaitedForWithEveryCallWhileItsKeysServe(t *testing.T) {
	w := newWorld(t)
	me := func() {
		t.Helper()
		if got := w.do(t, request{method: http.MethodGet, path: orgapi.PathMe, bearer: w.token(t, nil)}); got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	me()
	w.issuer.mu.Lock()
	w.issuer.down, w.issuer.asked = true, 0
	w.issuer.mu.Unlock()
	w.clock.advance(keysAge)
	for range 5 {
		me()
		w.clock.advance(failurePause)
	}
	w.issuer.mu.Lock()
	asked := w.issuer.asked
	w.issuer.mu.Unlock()
	if asked != 1 {
		t.Errorf("it was asked %d times in %v", asked, 5*failurePause)
	}
	w.clock.advance(keysPause)
	me()
	w.issuer.mu.Lock()
	defer w.issuer.mu.Unlock()
	if w.issuer.asked != 2 {
		t.Error("it is not asked any more")
	}
}
