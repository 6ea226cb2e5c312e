package launch

import (
	"fmt"
	"strings"
	"testing"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

func TestEveryAddressVectorIsJudgedAsWritten(t *testing.T) {
	for _, v := range vectors(t, "testdata/addresses.jsonl") {
		t.Run(v.Name, func(t *testing.T) {
			checkAddress(t, Addresses{Hosts: v.Hosts}, v.URL, v.Expect == "open")
		})
	}
}

func checkAddress(t *testing.T, a Addresses, address string, open bool) {
	t.Helper()
	target, err := a.Check(secret.New(address))
	if open {
		if err != nil || target.Address().Reveal() != address {
			t.Errorf("%q: %v, %q", address, err, target.Address().Reveal())
		}
		return
	}
	if !problem.IsCode(err, problem.AddressNotAllowed) || !target.Address().Empty() || target.Host() != "" {
		t.Errorf("%q: got %v", address, err)
	}
	if len(address) > 8 && strings.Contains(fmt.Sprint(err, problem.Of(err).LogValue()), address) {
		t.Error("the refusal quotes the address")
	}
}

func TestAnAddressMustBeInItsOneSpelling(t *testing.T) {
	a := Addresses{Hosts: []string{".nabla.com", "connect.nabla.com", "", ".", "*", "UPPER.nabla.org", "."}}
	for _, address := range []string{
		"https://app.nabla.com", "https://app.nabla.com/", "https://app.nabla.com?x", "https://app.nabla.com/?",
		"https://a.b.nabla.com/e", "https://connect.nabla.com/e#part", "https://app.nabla.com/a//b;c=1,2?x=%20&y=$(z)!*#a=b",
		"https://app.nabla.com/%2e%2e/%E2%82%AC?q=%22", "https://xn--80ak6aa92e.nabla.com/", "https://app.nabla.com/e?u=https://evil.example/@x:1",
		"https://app.nabla.com/" + strings.Repeat("a", MaxAddressBytes-22),
	} {
		checkAddress(t, a, address, true)
	}
	for _, address := range []string{
		"", "https:", "https://", "https:///", "https://?", "app.nabla.com", "/e", "e",
		"HTTPS://app.nabla.com/e", "https://APP.nabla.com/e", "https://app.nabla.com./e", "https://app.nabla.com:/e",
		"https://.nabla.com/e", "https://..nabla.com/e", "https://a..nabla.com/e", "https://-a.nabla.com/e", "https://a-.nabla.com/e",
		"https://a_b.nabla.com/e", "https://" + strings.Repeat("a", 64) + ".nabla.com/e",
		"https://" + strings.Repeat("a.", 125) + "nabla.com/e",
		"https://app.nabla.com:0443/e", "https://app.nabla.com:443:443/e", "https://app.nabla.com:80/e", "https://app.nabla.com:-443/e", "https://app.nabla.com:+443/e",
		"https://@app.nabla.com/e", "https://:@app.nabla.com/e", "https://u@app.nabla.com/e", "https://app.nabla.com%40evil.example/e", "https://app.nabla.com%2eevil.example/",
		"https://evil.example/app.nabla.com", "https://evil.example?.nabla.com", "https://evil.example#.nabla.com", `https://evil.example\.nabla.com/`, "https://evil.example%5C.nabla.com/",
		"https://nabla.com.evil.example/", "https://app.nabla.com,evil.example/", "https://app.nabla.com;evil.example/",
		"https://[::1]/e", "https://[::ffff:127.0.0.1]/", "https://[fe80::1%25en0]/", "https://127.1/", "https://2130706433/", "https://localhost/",
		"https://app.nabla.com/\u202e", "https://app.nabla.com/é", "https://ａpp.nabla.com/", "https://app.nabla.com。evil.example/", "https://app.nabla.com/\xff",
		"https://app.nabla.com/ e", "https://app.nabla.com/e ", "https://app.nabla.com/\te", "https://app.nabla.com/e\r\n", "https://app.nabla.com/\x00", "https://app.nabla.com/\x7f",
		`https://app.nabla.com/"`, "https://app.nabla.com/'", "https://app.nabla.com/?'", `https://app.nabla.com/?"`, "https://app.nabla.com/`", "https://app.nabla.com/?`id`", `https://app.nabla.com/\`,
		"https://app.nabla.com/<", "https://app.nabla.com/?a|b", "https://app.nabla.com/{}", "https://app.nabla.com/?^",
		"https://app.nabla.com/%", "https://app.nabla.com/%4", "https://app.nabla.com/?%zz", "https://app.nabla.com/?x=%", "https://app.nabla.com/#", "https://app.nabla.com/#%x",
		"https://upper.nabla.org/", "https://UPPER.nabla.org/", "https://com/", "https://*/",
		"http://app.nabla.com/", "http://127.0.0.1:80/", "ftp://app.nabla.com/", "wss://app.nabla.com/", "view-source:https://app.nabla.com/", "blob:https://app.nabla.com/", "https+x://app.nabla.com/",
		"--help", "-https://app.nabla.com/", "encounter-launcher://launch?handle=Zk3vQ9x1T7mB2nR5wY8uLg",
		"https://app.nabla.com/" + strings.Repeat("a", MaxAddressBytes-21),
	} {
		checkAddress(t, a, address, false)
	}
}

func TestNoListOpensNothing(t *testing.T) {
	checkAddress(t, Addresses{}, "https://app.nabla.com/e", false)
	checkAddress(t, Addresses{AnyPort: true}, "https://app.nabla.com/e", false)
}

func TestAnyPortIsForIssuersOnly(t *testing.T) {
	a := Addresses{Hosts: []string{"idp.example"}, AnyPort: true}
	for port, open := range map[string]bool{"": true, ":443": true, ":8443": true, ":1": true, ":65535": true, ":0": false, ":65536": false, ":08": false, ":": false, ":x": false} {
		checkAddress(t, a, "https://idp.example"+port+"/authorize?a=b", open)
	}
	checkAddress(t, a, "http://idp.example:8080/", false)
}

func TestLoopbackIsExactlyOneSpellingAndOnlyWhereItIsAsked(t *testing.T) {
	demo := Addresses{LoopbackHTTP: true}
	for address, open := range map[string]bool{
		"http://127.0.0.1:8080/":             true,
		"http://127.0.0.1:1/e?t=1#f":         true,
		"http://127.0.0.1:65535/e":           true,
		"http://127.0.0.1:0/":                false,
		"http://127.0.0.1:65536/":            false,
		"http://127.0.0.1:080/":              false,
		"http://127.0.0.1:/":                 false,
		"http://127.0.0.1/":                  false,
		"http://127.0.0.1:8080":              false,
		"http://127.0.0.1:8080?x":            false,
		"http://127.0.0.1:8080#x":            false,
		"http://127.0.0.2:8080/":             false,
		"http://127.0.0.01:8080/":            false,
		"http://127.1:8080/":                 false,
		"http://0.0.0.0:8080/":               false,
		"http://localhost:8080/":             false,
		"http://[::1]:8080/":                 false,
		"http://u@127.0.0.1:8080/":           false,
		"http://127.0.0.1:8080@evil.example": false,
		"http://127.0.0.1.evil.example:80/":  false,
		"HTTP://127.0.0.1:8080/":             false,
		"https://127.0.0.1:8080/":            false,
		"https://127.0.0.1/":                 false,
		"http://evil.example/":               false,
	} {
		checkAddress(t, demo, address, open)
		checkAddress(t, Addresses{Hosts: []string{"127.0.0.1"}, AnyPort: true}, address, strings.HasPrefix(address, "https://127.0.0.1"))
	}
}

func TestATargetCannotBePrintedButItsHostCan(t *testing.T) {
	target, err := Addresses{Hosts: []string{".nabla.com"}}.Check(secret.New("https://app.nabla.com:443/e?t=canary"))
	if err != nil {
		t.Fatal(err)
	}
	checkUnprintable(t, target, "canary")
	checkUnprintable(t, &target, "canary")
	if target.Host() != "app.nabla.com" || target.String() != secret.Redacted {
		t.Errorf("host %q", target.Host())
	}
}
