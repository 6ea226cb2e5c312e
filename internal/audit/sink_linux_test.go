package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"encounterlauncher/internal/problem"
)

// standIn is a journal: it takes datagrams and gives them back as journalctl
// prints them.
type standIn struct {
	t    *testing.T
	conn *net.UnixConn
	path string
	read []string
}

func newStandIn(t *testing.T) *standIn {
	dir, err := os.MkdirTemp("", "journal") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &standIn{t: t, conn: conn, path: path}
}

// receive takes one datagram apart, as the native protocol says.
func (s *standIn) receive() map[string]string {
	s.t.Helper()
	buffer := make([]byte, 64<<10)
	n, err := s.conn.Read(buffer)
	if err != nil {
		s.t.Fatal(err)
	}
	fields := map[string]string{}
	text := string(buffer[:n])
	if !strings.HasSuffix(text, "\n") {
		s.t.Errorf("the last field does not end: %q", text)
	}
	for _, one := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		name, value, ok := strings.Cut(one, "=")
		if !ok {
			s.t.Errorf("not a field: %q", one)
		}
		fields[name] = value
	}
	return fields
}

func (s *standIn) journal() journal {
	return journal{socket: s.path, identifier: "encounter-launcher", uid: "1000", read: func(each func(io.Reader) error, match ...string) error {
		if !slices.Equal(match, []string{"MESSAGE_ID=" + messageID, "SYSLOG_IDENTIFIER=encounter-launcher", "_UID=1000"}) {
			s.t.Errorf("asked for %v", match)
		}
		return each(strings.NewReader(strings.Join(s.read, "\n") + "\n"))
	}}
}

func asEntry(fields map[string]string, uid string) string {
	return fmt.Sprintf(`{"__REALTIME_TIMESTAMP":"1","_UID":%q,"MESSAGE_ID":%q,"SYSLOG_IDENTIFIER":%q,"AUDIT_FILE":%q,"AUDIT_SEQ":%q,"AUDIT_TIME":%q,"AUDIT_HASH":%q,"MESSAGE":[1,2]}`,
		uid, fields["MESSAGE_ID"], fields["SYSLOG_IDENTIFIER"], fields["AUDIT_FILE"], fields["AUDIT_SEQ"], fields["AUDIT_TIME"], fields["AUDIT_HASH"])
}

func TestTheJournalGetsEveryHashAndGivesItBack(t *testing.T) {
	d, s := newDesk(t), newStandIn(t)
	l := d.open("agent-1.jsonl", s.journal())
	for range 3 {
		record(t, l, Record{Outcome: Opened, Person: "dr.canary@clinic.example"})
		fields := s.receive()
		for name, value := range fields {
			if strings.Contains(value, "canary") {
				t.Errorf("%s holds the person", name)
			}
		}
		s.read = append(s.read, asEntry(fields, "1000"))
	}
	if r := d.verify(s.journal()); !r.OK || r.Anchored != 3 {
		t.Errorf("%+v", r)
	}
	d.put("agent-1.jsonl", nil)
	if r := d.verify(s.journal()); r.OK {
		t.Errorf("%+v", r)
	}
}

func TestEntriesOfOthersAndNonsenseInTheJournalAreNotBelieved(t *testing.T) {
	s := newStandIn(t)
	good := map[string]string{
		"MESSAGE_ID": messageID, "SYSLOG_IDENTIFIER": "encounter-launcher", "AUDIT_FILE": "agent-1.jsonl",
		"AUDIT_SEQ": "1", "AUDIT_TIME": "2026-03-01T08:00:00.000Z", "AUDIT_HASH": strings.Repeat("a", 64),
	}
	s.read = []string{"", "{", "null", `{"AUDIT_HASH":[1]}`, asEntry(good, "0"), asEntry(good, "1000")}
	for field, values := range map[string][]string{
		"MESSAGE_ID": {"", "x"}, "SYSLOG_IDENTIFIER": {"encounter-launcher-demo"}, "AUDIT_FILE": {"", "../x.jsonl"},
		"AUDIT_SEQ": {"", "0", "-1", "x"}, "AUDIT_TIME": {"", "now"}, "AUDIT_HASH": {"", "zz", strings.Repeat("A", 64)},
	} {
		for _, value := range values {
			changed := map[string]string{}
			for k, v := range good {
				changed[k] = v
			}
			changed[field] = value
			s.read = append(s.read, asEntry(changed, "1000"))
		}
	}
	anchors, err := s.journal().Anchors()
	if err != nil || len(anchors) != 1 || anchors[0] != (Anchor{"agent-1.jsonl", 1, strings.Repeat("a", 64), start}) {
		t.Errorf("%+v, %v", anchors, err)
	}
}

func TestAJournalThatIsNotThereIsAnError(t *testing.T) {
	j := journal{socket: filepath.Join(t.TempDir(), "none"), identifier: "encounter-launcher"}
	if err := j.Put(Anchor{"agent-1.jsonl", 1, strings.Repeat("a", 64), time.Now()}); err == nil {
		t.Error("it took the hash")
	}
	d := newDesk(t)
	l := d.open("agent-1.jsonl", j)
	if err := l.Record(context.Background(), Record{Outcome: Opened}); !isSink(err) {
		t.Errorf("got %v", err)
	}
	j.read = func(func(io.Reader) error, ...string) error { return errors.New("no journalctl") }
	if _, err := Verify(d.dir, j); problem.CodeOf(err) != problem.Internal {
		t.Errorf("got %v", err)
	}
}

func TestTheSystemsSinkIsTheJournalOrAnError(t *testing.T) {
	sink, err := SystemSink()
	conn, dialErr := net.Dial("unixgram", journalSocket)
	if dialErr == nil {
		_ = conn.Close()
	}
	if (err == nil) != (dialErr == nil) || err != nil && (sink != nil || problem.CodeOf(err) != problem.Internal) {
		t.Errorf("sink %v, %v; the socket: %v", sink, err, dialErr)
	}
}

func TestJournalctlIsAskedInAWayItUnderstands(t *testing.T) {
	// On a machine without a journal it answers with nothing; a wrong option would
	// be an error.
	dir := t.TempDir()
	fake := "#!/bin/sh\nprintf '%s ' \"$@\" > " + dir + "/args\nprintf '{}\\n'\n"
	if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte(fake), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	var got []byte
	err := runJournalctl(func(r io.Reader) (err error) { got, err = io.ReadAll(r); return err }, "A=1", "B=2")
	arguments, readErr := os.ReadFile(filepath.Join(dir, "args"))
	if err != nil || readErr != nil || string(got) != "{}\n" || string(arguments) != "--output=json --no-pager --quiet A=1 B=2 " {
		t.Errorf("%v, %v, %q, %q", err, readErr, got, arguments)
	}
	if err := runJournalctl(func(io.Reader) error { return errors.New("enough") }); err == nil {
		t.Error("the reader's error is lost")
	}
}
