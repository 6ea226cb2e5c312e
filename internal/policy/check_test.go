package policy

import (
	"encoding/json"
	"strings"
	"testing"
)

func rowOf(t *testing.T, name string) *Key {
	t.Helper()
	for _, k := range Keys() {
		if k.Name == name {
			return &k
		}
	}
	t.Fatalf("no key %s", name)
	return nil
}

func verdicts(t *testing.T, key string, r rules, good, bad []string) {
	t.Helper()
	k := rowOf(t, key)
	for _, raw := range good {
		if v, why := k.parse(json.RawMessage(raw), r); why != "" || !json.Valid([]byte(k.json(v))) {
			t.Errorf("%s: %s is refused: it %s", key, raw, why)
		}
	}
	for _, raw := range bad {
		if _, why := k.parse(json.RawMessage(raw), r); why == "" {
			t.Errorf("%s: %.200s is taken", key, raw)
		} else if !strings.HasPrefix(why, "must ") && !strings.HasPrefix(why, "has ") {
			t.Errorf("%s: %s: %q does not go on the sentence", key, raw, why)
		}
	}
}

func quoteAll(texts ...string) []string {
	for i := range texts {
		texts[i] = quote(texts[i])
	}
	return texts
}

func TestABackendIsAnHTTPSAddressInItsOneForm(t *testing.T) {
	for _, key := range []string{"BackendURL", "OIDCIssuer"} {
		verdicts(t, key, rules{}, quoteAll(
			"https://a.example", "https://a.example/", "https://a.example:8443/api/v1", "https://ehr/api", "https://10.0.0.1/api",
			"https://[2001:db8::1]:8443/api", "https://xn--hpital-pwa.example/", "https://a.example/caf%C3%A9", "https://3com.example/",
		), quoteAll(
			"http://a.example", "HTTPS://a.example", "https://A.example", "https://a.example?", "https://a.example/?a=1", "https://a.example/#",
			"https://a.example/#x", "https://u@a.example/", "https://u:p@a.example/", "https://", "https:///x", "https:a.example", "//a.example", "a.example",
			"https://a.example:", "https://a.example:0/", "https://a.example:65536/", "https://a.example:08443/", "https://a..example/", "https://a.example./",
			"https://-a.example/", "https://a_b.example/", "https://a.example/../x", "https://a.example/%2e%2e/x", "https://a.example//x", "https://a.example/./x",
			"https://a.example/x\\y", "https://a.example/%00", "https://a.example/%5c", "https://a.example/ x", "https://a.example/é", "https://é.example/",
			"https://a.example/%zz", "https://127.1/", "https://0x7f.1/", "https://1/", "https://[::1%25eth0]/", "https://[fe80::1%25lo]/", "https://010.0.0.1/",
			"http://127.0.0.1:8080", "http://127.0.0.1", "ftp://a.example", "javascript:alert(1)", "https://a.example/"+strings.Repeat("a", 3000), "https://a.example/%E2%80%AE",
			"https://a.example/$x", "https://a.example/'", "https://a.example/`",
		))
		verdicts(t, key, rules{demo: true}, quoteAll("http://127.0.0.1:8080", "http://127.0.0.1:8080/api", "https://a.example"),
			quoteAll("http://127.0.0.1", "http://127.0.0.2:8080", "http://localhost:8080", "http://127.0.0.1:8080@a.example", "http://a.example:80", "http://[::1]:80"))
	}
	verdicts(t, "HelpDeskURL", rules{demo: true}, quoteAll("https://help.example/", "https://help.example/sp?id=form&x=1"),
		quoteAll("http://127.0.0.1:1", "mailto:help@a.example", "https://help.example/#x", "tel:1", "file:///x"))
	verdicts(t, "ProxyURL", rules{}, quoteAll("http://p.example:3128", "http://p.example:3128/", "https://p.example", "http://10.1.2.3:80"),
		quoteAll("p.example:3128", "http://u:p@p.example", "socks5://p.example", "http://p.example/x", "http://p.example?x", "http:p.example", "http:https://p.example"))
	verdicts(t, "ProxyPACURL", rules{}, quoteAll("http://w.example/p.pac", "https://w.example/p.pac?x=1"),
		quoteAll("file:///etc/p.pac", "http://u@w.example/p.pac", "data:x", "w.example/p.pac"))
}

func TestEncounterHostsAreNamesOrEndingsOfTwoLabels(t *testing.T) {
	verdicts(t, "EncounterURLHosts", rules{}, []string{
		`["app.vendor.example"]`, `[".vendor.example"]`, `["vendor.example",".vendor.example"]`, `[".xn--hpital-pwa.example"]`,
	}, []string{
		`[]`, `[""]`, `["."]`, `[".example"]`, `["localhost"]`, `["*"]`, `["*.vendor.example"]`, `["..vendor.example"]`, `["App.vendor.example"]`, `["127.0.0.1"]`,
		`["10.0.0.1"]`, `["[::1]"]`, `["::1"]`, `["vendor.example:443"]`, `["https://vendor.example"]`, `["vendor.example/"]`, `["vendor.example."]`, `["vendor example.com"]`,
		`["сonnect.vendor.example"]`, `["a.example","a.example"]`, `"a.example"`, `[1]`, `{"a":"b"}`, `["1.2"]`, `["a.0x1f"]`, `["a.` + strings.Repeat("b", 64) + `.example"]`,
	})
	verdicts(t, "EncounterURLHosts", rules{demo: true}, []string{`["127.0.0.1"]`, `["127.0.0.1",".vendor.example"]`}, []string{`["127.0.0.2"]`, `["localhost"]`, `[".127.0.0.1"]`})
}

func TestTheOtherKeysTakeWhatTheySay(t *testing.T) {
	verdicts(t, "OIDCRedirectPorts", rules{}, []string{`[]`, `["1024"]`, `["65535","8400"]`}, []string{`["1023"]`, `["65536"]`, `["08400"]`, `["+8400"]`, `[8400]`, `["8400","8400"]`, `"8400"`, `8400`})
	verdicts(t, "OIDCPrompt", rules{}, []string{`"login"`, `"consent"`, `"select_account"`}, []string{`"none"`, `"Login"`, `"login consent"`, `""`, `true`})
	verdicts(t, "OIDCScopes", rules{}, []string{`["openid"]`, `["openid","api://x/y.z"]`}, []string{`[]`, `["email"]`, `["openid email"]`, `["openid","a\"b"]`, `["openid","é"]`})
	verdicts(t, "OIDCClientID", rules{}, []string{`"a"`, `"0b8f-11.apps"`}, []string{`"a b"`, `""`, `"é"`, `17`, quote(strings.Repeat("a", 513))})
	verdicts(t, "AllowedLinkForms", rules{}, []string{`["handle"]`, `["identifiers","request","handle"]`}, []string{`[]`, `["Handle"]`, `["handle","handle"]`, `"handle"`, `["all"]`})
	verdicts(t, "RecentsLimit", rules{}, []string{"0", "200"}, []string{"201", "-1", "1.0", "1e1", `"5"`, "true", "99999999999999999999", "-0"})
	verdicts(t, "SharedWorkstation", rules{}, []string{"true", "false"}, []string{`"true"`, "1", "0", "null", "[]"})
	verdicts(t, "ProxyMode", rules{}, []string{`"system"`, `"direct"`, `"manual"`}, []string{`"pac"`, `"auto"`})
	verdicts(t, "ProxyMode", rules{pac: true}, []string{`"pac"`}, nil)
	verdicts(t, "Language", rules{}, []string{`"en"`, `"fr"`, `"es"`, `"de"`}, []string{`"en-GB"`, `"EN"`, `"it"`, `""`})
	verdicts(t, "ExtraCAFile", rules{}, nil, []string{`"ca.pem"`, `"./ca.pem"`, `"../ca.pem"`, `""`, `"/etc/\u0000"`})
	for _, file := range []string{"ClientCertificateFile", "ClientKeyFile"} {
		verdicts(t, file, rules{}, nil, []string{`"client.pem"`, `"../client.pem"`, `""`, `17`})
	}
	verdicts(t, "ClientCertificateThumbprint", rules{}, []string{`"0123456789abcdefABCDEF0123456789abcdef01"`},
		[]string{`"0123456789abcdef"`, `"01 23 45 67 89 ab cd ef 01 23 45 67 89 ab cd ef 01 23 45 67"`, `"‎0123456789abcdefABCDEF0123456789abcdef01"`, `"g123456789abcdefABCDEF0123456789abcdef01"`, `""`, `1`})
	verdicts(t, "OrganizationName", rules{}, []string{`"Hôpital Saint-Louis"`, `"東京病院"`}, []string{`" a"`, `"a\nb"`, `"a\u202eb"`, `"a\u200bb"`, `"\ud800"`, quote(strings.Repeat("é", 101)), `"a\u2028b"`})
}

func TestLinkKeysArePublicKeysOfOneAlgorithmAndOneIssuer(t *testing.T) {
	set := keySet(t)
	swap := func(old, new string) string {
		if !strings.Contains(set, old) {
			t.Fatalf("no %s in the example", old)
		}
		return strings.Replace(set, old, new, 1)
	}
	const (
		okp    = `{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"a","iss":"ehr","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
		rsaKey = `{"keys":[{"kty":"RSA","alg":"RS256","kid":"a","iss":"ehr","e":"AQAB","n":"` // RFC 7517 appendix A.1
		n      = `0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw`
	)
	verdicts(t, "LinkKeys", rules{}, []string{set, okp, rsaKey + n + `"}]}`, swap(`"use": "sig"`, `"key_ops": ["verify"]`)}, []string{
		`{}`, `{"keys":[]}`, `{"keys":{}}`, `{"keys":[{}]}`, `{"keys":[null]}`, `{"keys":null}`, `{"Keys":` + set[strings.Index(set, "["):], `[]`, `"x"`, `null`,
		swap(`"kid": "ehr-2026",`, ""), swap(`"iss": "ehr.hospital.example",`, ""), swap(`"iss"`, `"Iss"`), swap(`"ehr-2026"`, `""`), swap(`"ehr-2026"`, "7"),
		swap(`"ES256"`, `"ES384"`), swap(`"ES256"`, `"none"`), swap(`"ES256"`, `"HS256"`), swap(`"ES256"`, `"RS256"`), swap(`"P-256"`, `"P-384"`), swap(`"EC"`, `"OKP"`),
		swap(`"use": "sig"`, `"use": "enc"`), swap(`"use": "sig"`, `"use": 1`), swap(`"use": "sig"`, `"key_ops": ["verify","sign"]`), swap(`"x": "`, `"x": "A`), swap(`"x": "`, `"x": "=`),
		swap(`"use"`, `"d": "AA", "use"`), swap(`"use"`, `"k": "AA", "use"`), swap(`"y"`, `"z"`),
		`{"keys":[{"kty":"oct","alg":"HS256","kid":"a","iss":"ehr","k":"AAAA"}]}`,
		strings.Replace(okp, `"11q`, `"1q`, 1), rsaKey + n[:100] + `"}]}`, rsaKey + n + `","p":"AQAB"}]}`, strings.Replace(rsaKey, "AQAB", "AQ", 1) + n + `"}]}`,
		strings.Replace(set, "[", "["+set[strings.Index(set, "[")+1:strings.LastIndex(set, "]")]+",", 1),
	})
}
