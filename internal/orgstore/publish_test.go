package orgstore

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestAStateIsWrittenAsJSONWritesIt(t *testing.T) {
	name := Name("a", "b")
	for _, s := range []state{
		{},
		{Until: time.Date(2026, 11, 3, 9, 0, 0, 120, time.UTC)},
		{Until: time.Date(2026, 11, 3, 9, 0, 0, 0, time.FixedZone("", -3600)), Spent: name},
		{Spent: name, Request: name}, {Request: name},
		{Until: time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.FixedZone("", 3600)), Spent: name, Request: name},
	} {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.append([]byte("x")); string(got) != "x"+string(want) || len(want) > maxState {
			t.Errorf("%s, want %s", got[1:], want)
		}
	}
}

func TestAnAnswerOfJetStreamIsReadWhateverItSays(t *testing.T) {
	for text, want := range map[string]ack{
		`{"stream":"handles","seq":17}`:                      {Stream: "handles", Sequence: 17},
		`{"stream":"handles", "seq": 17, "domain":"d"}`:      {Stream: "handles", Sequence: 17},
		`{"stream":"handles","seq":17,"duplicate": true}`:    {Stream: "handles", Sequence: 17, Duplicate: true},
		`{"seq":18446744073709551615,"stream":"handles"}`:    {Stream: "handles", Sequence: 1<<64 - 1},
		`{"stream":"handles","seq":0}`:                       {},
		`{"stream":"handles","seq":99999999999999999999999}`: {},
		`{"stream":"handles","seq":-1}`:                      {},
		`{"stream":"","seq":1}`:                              {},
		`{`:                                                  {},
		``:                                                   {},
	} {
		got, err := readAck([]byte(text))
		if got != want || (err == nil) != (want.Sequence > 0) || (err != nil && !errors.Is(err, jetstream.ErrInvalidJSAck)) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	_, err := readAck([]byte(`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 4"},"stream":"handles","seq":0}`))
	if !wrongRevision(err) {
		t.Errorf("%v is not a wrong revision", err)
	}
}
