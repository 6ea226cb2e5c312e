package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"

	"encounterlauncher/internal/paths"
)

const (
	journalSocket = "/run/systemd/journal/socket"
	// messageID marks our entries (systemd.journal-fields(7)); random, and fixed.
	messageID = "7a1f0f6f3e5b4c0f9d7b9a4e2f6c8d15"
	// journalTimeout bounds a call of journalctl, maxJournalLine one entry and
	// maxAnchors their number.
	journalTimeout = 30 * time.Second
	maxJournalLine = 64 << 10
	maxAnchors     = 1_000_000
	// journalPatience bounds a write.
	journalPatience = 500 * time.Millisecond
)

// SystemSink returns the journal of systemd. It is an error when no journal is
// there.
func SystemSink() (Sink, error) {
	j := journal{
		socket: journalSocket, identifier: paths.Current().Name,
		uid: strconv.Itoa(os.Getuid()), read: runJournalctl,
	}
	conn, err := j.dial()
	if err != nil {
		return nil, asProblem(err)
	}
	_ = conn.Close()
	return j, nil
}

// journal writes by the native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) and
// reads through journalctl.
type journal struct {
	socket, identifier, uid string
	read                    func(each func(io.Reader) error, match ...string) error
}

func (j journal) dial() (net.Conn, error) {
	conn, err := net.Dial("unixgram", j.socket)
	if err != nil {
		return nil, errors.New("there is no system journal")
	}
	return conn, nil
}

func (j journal) Put(a Anchor) error {
	if !validAnchor(a) {
		return errors.New("the hash is not one")
	}
	conn, err := j.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	// A journal that hangs must not hold up a launch.
	if err := conn.SetWriteDeadline(time.Now().Add(journalPatience)); err != nil {
		return errors.New("the system journal cannot be written to")
	}
	_, err = fmt.Fprintf(conn, "MESSAGE=Audit line %d of %s\nPRIORITY=6\nSYSLOG_IDENTIFIER=%s\nMESSAGE_ID=%s\nAUDIT_FILE=%s\nAUDIT_SEQ=%d\nAUDIT_TIME=%s\nAUDIT_HASH=%s\n",
		a.Sequence, a.File, j.identifier, messageID, a.File, a.Sequence, formatTime(a.At), a.Hash)
	if err != nil {
		return errors.New("the system journal did not take it")
	}
	return nil
}

// Anchors asks only for what this user's processes wrote: "_UID" is set by the
// journal and not by the sender.
func (j journal) Anchors() ([]Anchor, error) {
	var anchors []Anchor
	err := j.read(func(r io.Reader) error {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxJournalLine)
		for lines.Scan() {
			a, ok := j.parse(lines.Bytes())
			if !ok {
				continue
			}
			if len(anchors) == maxAnchors {
				return errors.New("the system journal has too many entries")
			}
			anchors = append(anchors, a)
		}
		return lines.Err()
	}, "MESSAGE_ID="+messageID, "SYSLOG_IDENTIFIER="+j.identifier, "_UID="+j.uid)
	return anchors, err
}

func (j journal) parse(text []byte) (Anchor, bool) {
	var entry struct {
		MessageID  string `json:"MESSAGE_ID"`
		Identifier string `json:"SYSLOG_IDENTIFIER"`
		UID        string `json:"_UID"`
		File       string `json:"AUDIT_FILE"`
		Sequence   string `json:"AUDIT_SEQ"`
		Hash       string `json:"AUDIT_HASH"`
		Time       string `json:"AUDIT_TIME"`
	}
	if json.Unmarshal(text, &entry) != nil || entry.MessageID != messageID || entry.Identifier != j.identifier || entry.UID != j.uid {
		return Anchor{}, false
	}
	sequence, err := strconv.ParseUint(entry.Sequence, 10, 64)
	if err != nil {
		return Anchor{}, false
	}
	a := Anchor{File: entry.File, Sequence: sequence, Hash: entry.Hash, At: parseTime(entry.Time)}
	return a, validAnchor(a)
}

func runJournalctl(each func(io.Reader) error, match ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), journalTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, "journalctl", append([]string{"--output=json", "--no-pager", "--quiet"}, match...)...)
	out, err := command.StdoutPipe()
	if err != nil {
		return fmt.Errorf("starting journalctl: %w", err)
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("starting journalctl: %w", err)
	}
	err = each(out)
	if err != nil {
		cancel()
	}
	if waitErr := command.Wait(); err == nil && waitErr != nil {
		err = fmt.Errorf("journalctl: %w", waitErr)
	}
	return err
}
