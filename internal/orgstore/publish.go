package orgstore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ack is JetStream's answer to a message of the stream of handles.
type ack struct {
	Stream    string              `json:"stream"`
	Sequence  uint64              `json:"seq"`
	Duplicate bool                `json:"duplicate"`
	Error     *jetstream.APIError `json:"error"`
}

// commonAck is how nearly every answer begins.
const commonAck = `{"stream":"` + handleStream + `","seq":`

// publish is jetstream.JetStream.PublishMsg with a limit instead of a context, which is
// a timer, two channels and 500 bytes more. It does not wait where nobody answers:
// repeatedly does.
func (c *Conn) publish(m *nats.Msg, limit time.Duration) (ack, error) {
	answer, err := c.nc.RequestMsg(m, limit)
	if err != nil {
		return ack{}, err
	}
	return readAck(answer.Data)
}

func readAck(text []byte) (ack, error) {
	if rest, ok := bytes.CutPrefix(text, []byte(commonAck)); ok && bytes.HasSuffix(rest, []byte("}")) {
		if n, err := strconv.ParseUint(string(rest[:len(rest)-1]), 10, 64); err == nil && n > 0 {
			return ack{Stream: handleStream, Sequence: n}, nil
		}
	}
	var a ack
	switch err := json.Unmarshal(text, &a); {
	case err == nil && a.Error != nil:
		return ack{}, fmt.Errorf("nats: %w", a.Error)
	case err != nil || a.Stream == "" || a.Sequence == 0:
		return ack{}, jetstream.ErrInvalidJSAck
	}
	return a, nil
}
