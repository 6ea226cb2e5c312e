package orgconfig

import (
	"net"
	"slices"
	"strconv"
	"strings"
)

// maxPerMinute is more than a backend can answer: whoever writes it wants no limit.
const maxPerMinute = 10_000_000

// ehrFaults tells what is wrong with the EHR servers, and with whatever hangs
// together with them.
func (c Config) ehrFaults(fault func(key, what string)) {
	seen := map[[2]string]bool{}
	for i, e := range c.EHRs {
		at := "ehrs[" + strconv.Itoa(i) + "]"
		if e.Name == "" {
			fault(at+".name", "it is missing")
		}
		ways := 0
		for _, way := range []string{e.SecretFile, e.ClientID, e.CertificateName} {
			if way != "" {
				ways++
			}
		}
		if ways != 1 {
			fault(at, "it has not exactly one of secret_file, client_id and certificate_name")
		}
		for _, own := range [][2]string{{".name", e.Name}, {".client_id", e.ClientID}, {".certificate_name", strings.ToLower(e.CertificateName)}, {".link_issuer", e.LinkIssuer}} {
			if own[1] != "" && seen[own] {
				fault(at+own[0], "an entry before it has the same")
			}
			seen[own] = true
		}
		if e.ClientID != "" && e.ClientID == c.LauncherClientID {
			fault(at+".client_id", "it is the launcher's, so whoever signs in would pass for the EHR; register a client of its own")
		}
		if e.Scope != "" && (e.ClientID == "" || !scopeWord(e.Scope)) {
			fault(at+".scope", "it stands beside client_id and is one word")
		}
		if e.CertificateName != "" {
			c.certificateFaults(at, e.CertificateName, fault)
		}
		if e.LinkIssuer != "" && c.LinkKeysFile == "" {
			fault(at+".link_issuer", "link_keys_file is missing")
		}
		if slices.Contains(e.ProviderPrefixes, "") {
			fault(at+".provider_prefixes", "an empty one would let every provider in; leave the key out for that")
		}
	}
	if c.ClientCAFile != "" && c.TLSCertFile == "" {
		fault("client_ca_file", "it needs tls_cert_file: where something in front of us does TLS, client certificates end there")
	}
	if t := c.EHRTokens; t.Issuer != "" && !ServerURL(strings.TrimSuffix(t.Issuer, "/")) {
		fault("ehr_tokens.issuer", "it is not a plain https URL")
	}
	if a := c.EHRTokens.Audience; a != "" && a == c.LauncherClientID {
		fault("ehr_tokens.audience", "it is the launcher's client id, so an ID token would pass for an EHR's")
	}
	c.tenantFaults(fault)
}

func (c Config) certificateFaults(at, name string, fault func(key, what string)) {
	if strings.ContainsAny(name, "*: /@") || strings.HasPrefix(name, ".") || net.ParseIP(name) != nil {
		fault(at+".certificate_name", "it is not a DNS name (a wildcard is none)")
	}
	if c.ClientCAFile == "" {
		fault(at+".certificate_name", "client_ca_file is missing")
	}
}

// tenantFaults refuses what looks as if tenants were kept apart and is not, or
// keeps everybody out.
func (c Config) tenantFaults(fault func(key, what string)) {
	some := c.Claims.Tenant != ""
	for i, e := range c.EHRs {
		at := "ehrs[" + strconv.Itoa(i) + "]"
		some = some || e.Tenant != ""
		if c.Claims.Tenant != "" && e.Tenant == "" {
			fault(at+".tenant", "it is missing, so nobody could use its links: every clinician has one by claims.tenant")
		}
		if e.Tenant != "" && c.Claims.Tenant == "" && c.MappingFile == "" {
			fault(at+".tenant", "no clinician has one, so nobody could use its links: set claims.tenant, or tenant in mapping_file")
		}
	}
	if c.Claims.Tenant != "" && c.MappingFile != "" {
		fault("claims.tenant", "with mapping_file, tenant stands there")
	}
	if some && c.IdentifiersAllowed {
		fault("identifiers_allowed", "identifiers do not say which tenant they are of; with tenants, use handles or signed requests")
	}
}

func (c Config) limitFaults(fault func(key, what string)) {
	for key, value := range map[string]int{"limits.person_per_minute": c.Limits.PersonPerMinute, "limits.ehr_per_minute": c.Limits.EHRPerMinute} {
		if value < 0 || value > maxPerMinute {
			fault(key, "it is not between 0 and 10000000")
		}
	}
}

// scopeWord is RFC 6749 §3.3, one token.
func scopeWord(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == '"' || s[i] == '\\' || s[i] > '~' {
			return false
		}
	}
	return true
}
