package sandbox

import (
	"net/http"
	"time"
)

// Issuer is the sandbox's OIDC issuer by itself, for tests that need one which rotates
// refresh tokens and betrays their reuse. It knows the sandbox's two people.
type Issuer struct {
	http.Handler
	is *issuer
}

// NewIssuer makes an issuer that is known as base, for one public client and for access
// tokens of one audience. It listens nowhere. The only errors are of base.
func NewIssuer(base, clientID, audience string, now func() time.Time) (*Issuer, error) {
	is, err := newIssuer(base, clientID, audience, now)
	if err != nil {
		return nil, err
	}
	return &Issuer{is, is}, nil
}

// LiveSignIns counts the sign-ins whose refresh token would still be accepted.
func (i *Issuer) LiveSignIns() int { return i.is.liveSignIns() }

// Person is one of the sandbox's people.
type Person struct {
	// Key is what the sign-in page sends; Subject, Email and ProviderID are in tokens.
	Key, Subject, Email, ProviderID string
}

// People are the sandbox's people.
func People() []Person {
	var people []Person
	for _, c := range clinicians() {
		people = append(people, Person{c.Key, c.subject(), c.Email, c.ProviderID})
	}
	return people
}
