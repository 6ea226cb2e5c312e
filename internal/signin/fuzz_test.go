package signin

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// published answers every request with one key set.
type published []byte

func (p published) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Request: r, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(p))}, nil
}

// FuzzIDToken: whatever the provider's key signs, a person is taken from an ID token
// only when it is of this provider, for this program and no other, of now, and names a
// subject that can be shown; an address that is not verified is not taken over; and
// what is refused gives nobody and is told in our own words.
func FuzzIDToken(f *testing.F) {
	const issuer, client = "https://idp.example", "launcher"
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "EdDSA", Use: "sig"}}})
	if err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	c := New(Config{Issuer: issuer, ClientID: client, Now: func() time.Time { return now }})
	d := &description{
		keys:       oidc.NewRemoteKeySet(oidc.ClientContext(f.Context(), &http.Client{Transport: published(set)}), issuer+"/keys"),
		algorithms: []string{"EdDSA", "RS256"},
	}
	const header = `{"alg":"EdDSA","kid":"k"}`
	good := `{"iss":"https://idp.example","aud":"launcher","sub":"s-1","iat":1800000000,"exp":1800000300,"nonce":"n","email":"canary@hospital.example"}`
	for _, claims := range []string{
		good, strings.Replace(good, "idp", "evil", 1), strings.Replace(good, `"launcher"`, `["launcher","x"]`, 1), strings.Replace(good, `"launcher"`, `["launcher","x"],"azp":"launcher"`, 1), strings.Replace(good, `"launcher"`, `"launcher","azp":"x"`, 1),
		strings.Replace(good, "1800000300", "1799999940", 1), strings.Replace(good, "1800000300", "1799999941", 1), strings.Replace(good, `"iat":1800000000`, `"iat":1800000301`, 1), strings.Replace(good, `"iat":1800000000,`, "", 1), strings.Replace(good, `"s-1"`, `"a\u202eb"`, 1),
		strings.Replace(good, `"s-1"`, `""`, 1), strings.Replace(good, `"n"`, `"n","email_verified":false`, 1), strings.Replace(good, `"n"`, `"n","email_verified":"false"`, 1), strings.Replace(good, `"n"`, `"n","auth_time":"x"`, 1), strings.Replace(good, `"n"`, `"n","auth_time":1799999000`, 1), strings.Replace(good, `"n"`, `"n","at_hash":"AAAA"`, 1), "[]", "{}",
	} {
		f.Add([]byte(header), []byte(claims), uint16(0))
	}
	f.Add([]byte(header), []byte(good), uint16(5))
	for _, h := range []string{`{"alg":"none"}`, `{"alg":"HS256","kid":"k"}`, `{"alg":"EdDSA"}`, `{"alg":"EdDSA","kid":"x"}`, `{"alg":"EdDSA","kid":"k","crit":["x"],"x":1}`} {
		f.Add([]byte(h), []byte(good), uint16(0))
	}
	f.Fuzz(func(t *testing.T, header, payload []byte, flip uint16) {
		text := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
		signature := ed25519.Sign(key, []byte(text))
		if flip > 0 {
			signature[int(flip)/8%64] ^= 1 << (flip % 8)
		}
		who, err := c.verify(t.Context(), d, tokens{access: secret.New("access"), idToken: text + "." + base64.RawURLEncoding.EncodeToString(signature)})
		if err != nil {
			p := problem.Of(err)
			if who != (person{}) || p.Code != problem.SigninFailed || p.Unwrap() == nil || strings.Contains(p.Unwrap().Error()+p.Fact, "canary") || strings.Contains(p.Unwrap().Error(), "://") {
				t.Fatalf("%+v, %v", who, p.LogValue())
			}
			return
		}
		var h struct{ Alg, Kid string }
		var said struct {
			Iss, Sub, Nonce, Azp, Email string
			Aud                         any
			Exp, Iat                    float64
			EmailVerified               any     `json:"email_verified"`
			AuthTime                    float64 `json:"auth_time"`
		}
		if flip > 0 || json.Unmarshal(header, &h) != nil || h.Alg != "EdDSA" || h.Kid != "" && h.Kid != "k" || json.Unmarshal(payload, &said) != nil {
			t.Fatalf("taken: %s %s, %d", header, payload, flip)
		}
		var audiences []string
		switch aud := said.Aud.(type) {
		case string:
			audiences = []string{aud}
		case []any:
			for _, one := range aud {
				text, _ := one.(string)
				audiences = append(audiences, text)
			}
		}
		if said.Iss != issuer || !slices.Contains(audiences, client) || said.Azp != "" && said.Azp != client || len(audiences) > 1 && said.Azp == "" || said.Exp <= float64(now.Unix()-60) || said.Iat < 1 || said.Iat > float64(now.Unix()+301) {
			t.Fatalf("taken: %s", payload)
		}
		if who.subject != said.Sub || who.nonce != said.Nonce || who.subject == "" || strings.ContainsFunc(who.subject+who.email, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%s is %+v", payload, who)
		}
		if who.email != "" && (who.email != said.Email || said.EmailVerified == false || said.EmailVerified == "false") || !who.authTime.IsZero() && who.authTime.Unix() != int64(said.AuthTime) {
			t.Fatalf("%s is %+v", payload, who)
		}
		// Nor may it be another program's, or be taken later.
		for _, other := range []Config{{Issuer: issuer, ClientID: client + "x", Now: func() time.Time { return now }}, {Issuer: issuer, ClientID: client, Now: func() time.Time { return time.Unix(int64(said.Exp)+60, 0) }}} {
			if _, err := New(other).verify(t.Context(), d, tokens{access: secret.New("access"), idToken: text + "." + base64.RawURLEncoding.EncodeToString(signature)}); err == nil && !slices.Contains(audiences, other.ClientID) {
				t.Fatalf("taken by another program, or too late: %s", payload)
			}
		}
	})
}
