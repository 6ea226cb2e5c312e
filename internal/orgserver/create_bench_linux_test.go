package orgserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
)

// atOnce answers as Nabla does, without a network.
type atOnce struct{ other http.RoundTripper }

func (a atOnce) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPost {
		return a.other.RoundTrip(r)
	}
	text := `{"encounter_url":"https://pages.nabla.example/open/x"}`
	if strings.HasSuffix(r.URL.Path, "/oauth/token") {
		text = `{"access_token":"t","expires_in":3600}`
	}
	_, _ = io.Copy(io.Discard, r.Body)
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(text)), Body: io.NopCloser(bytes.NewReader([]byte(text))), Request: r,
	}, nil
}

type nowhere struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (n *nowhere) Header() http.Header            { return n.header }
func (n *nowhere) Write(text []byte) (int, error) { return n.body.Write(text) }
func (n *nowhere) WriteHeader(status int)         { n.status = status }

func used() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCreate measures what the backend itself does for POST /encounters by
// handle, 64 at a time: everything but HTTP on either side.
func BenchmarkCreate(b *testing.B) {
	w := newWorld(b, func(c *orgconfig.Config) {
		c.Limits = orgconfig.Limits{PersonPerMinute: 1_000_000, EHRPerMinute: 1_000_000}
	})
	w.config.Audit.File = filepath.Join(b.TempDir(), "audit")
	server, err := New(b.Context(), w.config, Deps{Log: slog.New(slog.NewJSONHandler(io.Discard, nil)), HTTP: &http.Client{Transport: atOnce{http.DefaultTransport}}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Close() })
	now := time.Now()
	bearer := w.token(b, map[string]any{"iat": now.Unix(), "exp": now.Add(time.Hour).Unix()})
	call := func(path, bearer string, body []byte, n int) []byte {
		r, _ := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://backend/launcher"+path, bytes.NewReader(body))
		r.Header = http.Header{
			"Content-Type": {"application/json"}, "Authorization": {"Bearer " + bearer},
			orgapi.HeaderIdempotencyKey: {fmt.Sprint("key-", n)}, orgapi.HeaderRequestID: {"call-7"},
		}
		out := &nowhere{header: http.Header{}}
		server.ServeHTTP(out, r)
		if out.status != http.StatusOK {
			b.Errorf("%s: %d %s", path, out.status, out.body.String())
		}
		return out.body.Bytes()
	}
	handles := make([]string, b.N)
	each := func(from, to int, do func(int)) {
		var all sync.WaitGroup
		var next atomic.Int64
		next.Store(int64(from))
		for range 64 {
			all.Go(func() {
				for n := int(next.Add(1)) - 1; n < to; n = int(next.Add(1)) - 1 {
					do(n)
				}
			})
		}
		all.Wait()
	}
	const batch = 4000
	var cpu time.Duration
	b.ResetTimer()
	for from := 0; from < b.N; from += batch {
		to := min(from+batch, b.N)
		b.StopTimer()
		each(from, to, func(n int) {
			l := goodLaunch()
			l.ExternalEncounterID = fmt.Sprint("E-", n)
			body, _ := json.Marshal(l)
			var a orgapi.LaunchAnswer
			_ = json.Unmarshal(call(orgapi.PathLaunches, ehrSecret, body, n), &a)
			handles[n] = a.Handle
		})
		b.StartTimer()
		before := used()
		each(from, to, func(n int) {
			call(orgapi.PathEncounters, bearer, fmt.Appendf(nil, `{"handle":%q}`, handles[n]), n)
		})
		cpu += used() - before
	}
	b.ReportMetric(float64(cpu.Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
}
