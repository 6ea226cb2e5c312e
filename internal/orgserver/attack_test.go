package orgserver

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"testing"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgstore/natstest"
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
	l := w.listen(t, w.url, w.token(t, nil), "")
	w.exported(t, "D-17", "E-1", "E-2", "E-3", "E-4")
	last := l.tells("E-1", "E-2", "E-3", "E-4")
	cluster.Kill(0)
	cluster.Restart(t, 0)
	cluster.Until(t, "an export is taken", func() bool {
		return w.server.Exported(t.Context(), orgapi.ExportedEvent{ExternalEncounterID: "E-5", ExternalProviderID: "D-17", At: "2026-11-03T09:14:00Z"}) == nil
	})
	l.ended() // so that it comes back
	w.listen(t, w.url, w.token(t, nil), last).tells("E-5")
}
