package orgserver

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"testing"

	"encounterlauncher/internal/orgapi"
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
