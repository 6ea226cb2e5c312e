package conformance

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"encounterlauncher/internal/orgapi"
)

// The mangled tokens of a clinician's good one. A backend that takes one of them lets
// anybody be anybody.

// parts are header, claims and signature of a token that is a JWT (RFC 7519 §3).
func parts(token string) (header map[string]any, words []string, err error) {
	words = strings.Split(token, ".")
	if len(words) != 3 {
		return nil, nil, errNotTried{"an access token that is a JWT"}
	}
	text, err := base64.RawURLEncoding.DecodeString(words[0])
	if err != nil || json.Unmarshal(text, &header) != nil {
		return nil, nil, errNotTried{"an access token that is a JWT"}
	}
	return header, words, nil
}

func encoded(v any) string {
	text, _ := json.Marshal(v) // maps of JSON
	return base64.RawURLEncoding.EncodeToString(text)
}

func tokenSignature(ctx context.Context, s *session) error {
	_, words, err := parts(s.Token.Reveal())
	if err != nil {
		return err
	}
	signature, err := base64.RawURLEncoding.DecodeString(words[2])
	if err != nil || len(signature) == 0 {
		return errNotTried{"an access token that is a JWT"}
	}
	signature[0] ^= 1
	return s.unauthorized(ctx, words[0]+"."+words[1]+"."+base64.RawURLEncoding.EncodeToString(signature))
}

func tokenClaims(ctx context.Context, s *session) error {
	_, words, err := parts(s.Token.Reveal())
	if err != nil {
		return err
	}
	var claims map[string]any
	text, err := base64.RawURLEncoding.DecodeString(words[1])
	if err != nil || json.Unmarshal(text, &claims) != nil {
		return errNotTried{"an access token that is a JWT"}
	}
	claims["conformance"] = random(4)
	return s.unauthorized(ctx, words[0]+"."+encoded(claims)+"."+words[2])
}

func tokenAlgNone(ctx context.Context, s *session) error {
	header, words, err := parts(s.Token.Reveal())
	if err != nil {
		return err
	}
	for _, name := range []string{"none", "None", "NONE"} {
		header["alg"] = name
		for _, signature := range []string{"", words[2]} {
			if err := s.unauthorized(ctx, encoded(header)+"."+words[1]+"."+signature); err != nil {
				return err
			}
		}
	}
	return nil
}

func tokenAlgHS256(ctx context.Context, s *session) error {
	header, words, err := parts(s.Token.Reveal())
	if err != nil {
		return err
	}
	kid, _ := header["kid"].(string)
	header["alg"] = "HS256"
	signing := encoded(header) + "." + words[1]
	for _, word := range []string{"", kid, "secret"} {
		mac := hmac.New(sha256.New, []byte(word))
		mac.Write([]byte(signing))
		if err := s.unauthorized(ctx, signing+"."+base64.RawURLEncoding.EncodeToString(mac.Sum(nil))); err != nil {
			return err
		}
	}
	return nil
}

// unsignedRequest is a signed request as it should be, but with alg none.
func unsignedRequest(s *session, l orgapi.LaunchRequest) string {
	now := s.Now()
	return encoded(map[string]any{"alg": "none", "kid": "conformance", "typ": "encounter-launch+jwt"}) + "." + encoded(map[string]any{
		"iss": "conformance", "aud": s.BaseURL, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": random(8),
		"external_encounter_id": l.ExternalEncounterID, "external_patient_id": l.ExternalPatientID, "external_provider_id": l.ExternalProviderID,
	}) + "."
}
