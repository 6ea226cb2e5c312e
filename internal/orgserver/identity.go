package orgserver

import (
	"encoding/json"
	"errors"
	"fmt"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

// clinician is who a call comes from, by the access token alone.
type clinician struct {
	subject    string
	email      string
	providerID string
	// tenant is empty where the organisation has none.
	tenant string
}

// identities turns an access token's claims into a clinician.
type identities struct {
	issuer string
	claims orgconfig.Claims
	// mapped is nil when the claims decide.
	mapped map[[2]string]clinician
}

type mapping struct {
	Issuer             string `yaml:"issuer"`
	Subject            string `yaml:"subject"`
	ProviderEmail      string `yaml:"provider_email"`
	ExternalProviderID string `yaml:"external_provider_id"`
	Tenant             string `yaml:"tenant"`
}

// newIdentities reads the mapping file, if there is one: a list of subject,
// provider_email, external_provider_id and, where there are, tenant and, when it is
// not the configured one, issuer.
func newIdentities(c orgconfig.Config) (*identities, error) {
	i := &identities{issuer: c.Issuer, claims: c.Claims}
	if i.claims.ProviderEmail == "" {
		i.claims.ProviderEmail = "email"
	}
	if i.claims.ExternalProviderID == "" {
		i.claims.ExternalProviderID = "external_provider_id"
	}
	if c.MappingFile == "" {
		return i, nil
	}
	text, err := orgconfig.ReadTrusted(c.MappingFile, 16<<20)
	if err != nil {
		return nil, fmt.Errorf("mapping_file: %w", err)
	}
	var list []mapping
	if err := orgconfig.ReadYAML(text, &list); err != nil {
		return nil, fmt.Errorf("mapping_file: %w", err)
	}
	i.mapped = make(map[[2]string]clinician, len(list))
	for n, m := range list {
		if m.Issuer == "" {
			m.Issuer = c.Issuer
		}
		if m.Subject == "" || !email(m.ProviderEmail) || !identifier(m.ExternalProviderID) {
			return nil, fmt.Errorf("mapping_file: entry %d lacks subject, provider_email or external_provider_id, or one cannot be used", n+1)
		}
		key := [2]string{m.Issuer, m.Subject}
		if _, twice := i.mapped[key]; twice {
			return nil, fmt.Errorf("mapping_file: entry %d names a person who was named before", n+1)
		}
		i.mapped[key] = clinician{m.Subject, m.ProviderEmail, m.ExternalProviderID, m.Tenant}
	}
	return i, nil
}

// of returns the clinician of a verified access token, or identity_unmapped.
func (i *identities) of(claims map[string]json.RawMessage) (clinician, error) {
	who := clinician{subject: text(claims["sub"])}
	if i.mapped != nil {
		mapped, ok := i.mapped[[2]string{i.issuer, who.subject}]
		if !ok {
			return clinician{}, problem.New(problem.IdentityUnmapped, errors.New("the subject is not in the mapping file"))
		}
		return mapped, nil
	}
	who.email, who.providerID = text(claims[i.claims.ProviderEmail]), text(claims[i.claims.ExternalProviderID])
	if !email(who.email) || !identifier(who.providerID) {
		return clinician{}, problem.New(problem.IdentityUnmapped, errors.New("the access token lacks a claim that names the clinician"))
	}
	if i.claims.Tenant != "" {
		if who.tenant = text(claims[i.claims.Tenant]); who.tenant == "" {
			return clinician{}, problem.New(problem.IdentityUnmapped, errors.New("the access token does not name the clinician's tenant"))
		}
	}
	// An address that anybody may have typed in is nobody's name.
	if raw, ok := claims["email_verified"]; ok && i.claims.ProviderEmail == "email" && string(raw) != "true" && text(raw) != "true" {
		return clinician{}, problem.New(problem.IdentityUnmapped, errors.New("the access token's e-mail address is not verified"))
	}
	return who, nil
}

// tenants reports whether some clinician has a tenant.
func (i *identities) tenants() bool {
	for _, who := range i.mapped {
		if who.tenant != "" {
			return true
		}
	}
	return i.mapped == nil && i.claims.Tenant != ""
}

// has reports whether some clinician of the mapping file is of a tenant.
func (i *identities) has(tenant string) bool {
	for _, who := range i.mapped {
		if who.tenant == tenant {
			return true
		}
	}
	return false
}

// text is a claim that is a string, else empty.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
