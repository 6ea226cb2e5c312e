package signin

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"testing"
)

// knock sends a request of the port's own host and returns the connection and its answer.
func knock(t *testing.T, address, target string) (net.Conn, func() (*http.Response, error)) {
	t.Helper()
	c, err := net.Dial("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, address); err != nil {
		t.Fatal(err)
	}
	return c, func() (*http.Response, error) { return http.ReadResponse(bufio.NewReader(c), nil) }
}

func TestConnectionsThatBringNothingAreBoundedAndNoneKeepsTheAnswerOut(t *testing.T) {
	l, err := listen(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := serveCallback(l, "state", Words{}, slog.New(slog.DiscardHandler))
	t.Cleanup(s.close)
	var first net.Conn
	flood := func() {
		for range 4 * mostConnections {
			c, err := net.Dial("tcp4", s.host)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			if first == nil {
				first = c
			}
		}
		// Connections are accepted one after the other: once this is answered, the others were.
		if r, err := second(knock(t, s.host, "/"))(); err != nil || r.StatusCode != http.StatusNotFound {
			t.Fatalf("after a flood: %v, %v", r, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := len(s.open); n > mostConnections || n < mostConnections/2 {
			t.Errorf("%d connections are open", n)
		}
	}
	flood()
	s.mu.Lock()
	for _, c := range s.open {
		if c.RemoteAddr().String() == first.LocalAddr().String() {
			t.Error("the oldest was kept")
		}
	}
	s.mu.Unlock()
	_, answer := knock(t, s.host, "/callback?code=c&state=state")
	if got := <-s.answers; got.code != "c" {
		t.Errorf("%+v", got)
	}
	flood()
	s.finish(nil)
	if r, err := answer(); err != nil || r.StatusCode != http.StatusSeeOther {
		t.Errorf("who brought the answer was told %v, %v", r, err)
	}
}

func second[A, B any](_ A, b B) B { return b }
