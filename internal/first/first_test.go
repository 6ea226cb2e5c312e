package first

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/launch"
)

const scheme = "encounter-launcher"

// FuzzWhatIsHandedOverFirstIsALinkOfTheGrammar: whatever this room takes, Parse takes
// for the same handle, and the request that carries it is read as what was meant.
func FuzzWhatIsHandedOverFirstIsALinkOfTheGrammar(f *testing.F) {
	const good = "Zk3vQ9x1T7mB2nR5wY8uLg"
	for _, text := range []string{
		scheme + "://launch?handle=" + good, scheme + "://launch/?handle=" + good, strings.ToUpper(scheme) + "://launch?handle=" + good,
		scheme + "://launch?handle=" + good + "&handle=" + good, scheme + "://launch?handle=" + good + "%41", scheme + "://launch?handle=short",
		scheme + "://launch?handle=" + strings.Repeat("a", 64), scheme + "://launch?handle=" + strings.Repeat("a", 65),
		scheme + "-demo://launch?handle=" + good, scheme + "://launch?handle=" + good + "\n", scheme + "://launch?request=" + good, "",
	} {
		f.Add(text, "token", "startup")
		f.Add(text, `to"ken`, "star\ttup")
	}
	f.Fuzz(func(t *testing.T, text, token, startupID string) {
		if !plainLink(scheme, text) {
			return
		}
		parsed, err := launch.Parse(scheme, text)
		if err != nil {
			t.Fatalf("Parse refuses it: %v", err)
		}
		if parsed.Form() != launch.FormHandle || scheme+"://launch?handle="+parsed.Handle().Reveal() != text {
			t.Fatal("Parse reads something else in it")
		}
		if !plainClick(token) || !plainClick(startupID) {
			return
		}
		raw := request(text, token, startupID)
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(raw))))
		if err != nil {
			t.Fatalf("the request is none: %v", err)
		}
		if r.Method != http.MethodPost || r.RequestURI != "/v1/link" || r.Host != "encounter-launcher" || !r.Close {
			t.Errorf("the request is %s %s for %s", r.Method, r.RequestURI, r.Host)
		}
		body := map[string]string{}
		d := json.NewDecoder(r.Body)
		if err := d.Decode(&body); err != nil || d.More() {
			t.Fatalf("the body is not one object: %v", err)
		}
		if len(body) != 3 || body["link"] != text || body["activation_token"] != token || body["startup_id"] != startupID {
			t.Errorf("the body says %v", len(body))
		}
	})
}

func TestALinkOfABackendIsHandedOverFirst(t *testing.T) {
	for text, want := range map[string]bool{
		scheme + "://launch?handle=Zk3vQ9x1T7mB2nR5wY8uLg":              true,
		scheme + "://launch?handle=" + strings.Repeat("-", 64):          true,
		scheme + "://launch?handle=" + strings.Repeat("-", 65):          false,
		scheme + "://launch?handle=Zk3vQ9x1T7mB2nR5wY8uL":               false,
		scheme + "-demo://launch?handle=Zk3vQ9x1T7mB2nR5wY8uLg":         false,
		scheme + "://launch/?handle=Zk3vQ9x1T7mB2nR5wY8uLg":             false,
		"Encounter-Launcher://launch?handle=Zk3vQ9x1T7mB2nR5wY8uLg":     false,
		scheme + "://launch?handle=Zk3vQ9x1T7mB2nR5wY8uLg&handle=other": false,
		scheme + "://launch?handle=Zk3vQ9x1T7mB2nR5wY8uLé":              false,
	} {
		if got := plainLink(scheme, text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestOnlyAnAcknowledgementOfTheAgentEndsTheProcess(t *testing.T) {
	ack := func(a control.Ack) string {
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	taken := ack(control.Ack{Accepted: true, ID: "1"})
	for answer, want := range map[string]bool{
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + taken:                        true,
		"HTTP/1.1 200 OK\r\n\r\n" + taken:                                                          true,
		"HTTP/1.1 200 OK\r\n\r\n" + ack(control.Ack{Code: "policy_missing"}):                       false,
		"HTTP/1.1 200 OK\r\nX: " + taken + "\r\n\r\n{}":                                            false,
		"HTTP/1.1 400 Bad Request\r\n\r\n" + taken:                                                 false,
		"HTTP/1.1 200 OK\r\n" + taken:                                                              false,
		"HTTP/1.1 200 OK\r\n\r\n{\"id\":\"1\",\"accepted\":true}":                                  false,
		"HTTP/1.1 200 OK\r\n\r\n{\"accepted\":false,\"id\":\"\",\"sentence\":\"{accepted\":true,}": false,
		"":                    false,
		"HTTP/1.1 200 OK\r\n": false,
	} {
		if got := accepted([]byte(answer)); got != want {
			t.Errorf("%q: %v, want %v", answer, got, want)
		}
	}
}

func TestWhatAnAgentSaysElseIsReadByMain(t *testing.T) {
	const body = `{"accepted":false,"id":"","code":"policy_missing","sentence":"S","next_step":"","reference":""}`
	got, err := control.ReadAck([]byte("HTTP/1.1 200 OK\r\nContent-Length: " + decimal(len(body)) + "\r\n\r\n" + body))
	if err != nil || got.Accepted || got.Code != "policy_missing" || got.Sentence != "S" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, broken := range []string{"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{}", "nonsense\r\n\r\n"} {
		if ack, err := control.ReadAck([]byte(broken)); err == nil {
			t.Errorf("%q is %+v", broken, ack)
		}
	}
}
