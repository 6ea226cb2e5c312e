package browserpolicy

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

// FuzzOrigin: what is taken is an origin that every reader reads alike, and comes out
// of every policy as it went in.
func FuzzOrigin(f *testing.F) {
	for _, seed := range []string{"https://ehr.hospital.example", "https://ehr.hospital.example:8443", "http://127.0.0.1:80", "https://[::1]", "https://u@a.example", "https://a.example/", "https://*.example", "https://a.example\"]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, origin string) {
		if CheckOrigin(origin, false) != nil {
			return
		}
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "https" || u.User != nil || u.Path != "" || u.String() != origin || strings.ContainsAny(origin, "*\"\\,<> ") || strings.ToLower(origin) != origin {
			t.Fatalf("%q was taken", origin)
		}
		for _, file := range Files(What{Scheme: "encounter-launcher", Origins: []string{origin}, Hosts: []string{".vendor.example"}}, Browsers(), JSON) {
			var v any
			if json.Unmarshal(file.Text, &v) != nil || !strings.Contains(string(file.Text), `"`+origin+`"`) {
				t.Fatalf("%q in %s", origin, file.Name)
			}
		}
		if text := string(Files(What{Scheme: "encounter-launcher", Origins: []string{origin}}, Browsers(), Reg)[0].Text); !strings.Contains(text, `\"`+origin+`\"`) {
			t.Fatalf("%q in the registry file", origin)
		}
	})
}
