package delivery

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgstore"
)

var (
	keyForm  = regexp.MustCompile(`^[0-9a-f]{24}$`)
	ourWords = regexp.MustCompile(`^[a-z ,:']+$`)
	fileForm = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}_(note_export|patient_instructions_export)\.json$`)
)

// FuzzMessages reads messages of JetStream of any content. What was not sealed by our
// key, for just this delivery, gives no content and no words of its own; what was comes
// back byte for byte, packed or not, and never more of it than a callback may hold.
func FuzzMessages(f *testing.F) {
	conn, err := orgstore.Connect(orgconfig.NATS{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := conn.Close(); err != nil {
			f.Error(err)
		}
	})
	q := &Queue{conn: conn}
	_, note := note("E-1")
	known := []byte(`{"kind":"NOTE_EXPORT","received":"2026-11-03T09:00:00Z","since":"2026-11-03T09:00:00Z","tries":3,"places":{"folder":{"state":"again","code":"disk_full","at":"2026-11-03T09:00:01Z"}},"mark":"m"}`)
	f.Add("r-1", "r-1", Queued, known, note, false, uint16(0))
	f.Add("r-1", "r-1", Aside, known, pack(note), true, uint16(0))
	f.Add("r-1", "r-2", Queued, known, note, false, uint16(0))
	f.Add("r-1", "r-1", Queued, known, note, true, uint16(0))
	f.Add("r-1", "r-1", Delivered, known, []byte("x"), false, uint16(9))
	f.Add("r-1", "r-1", Queued, known, pack(note)[:40], true, uint16(0))
	f.Add("r-1", "r-1", Queued, known, []byte("odd"), false, uint16(0))
	f.Add("", "", "", []byte(`{"received":"x"}`), []byte{}, false, uint16(0))
	f.Add("r", "r", Queued, []byte(`[]`), []byte{0x1f, 0x8b}, true, uint16(0))
	f.Fuzz(func(t *testing.T, id, other, state string, about, content []byte, packed bool, flip uint16) {
		if strings.ContainsAny(state, "\r\n") {
			return // no header of NATS holds one
		}
		k := keyOf(id)
		if again, ok := parseKey(string(k)); !ok || again != k || k.shard() < 0 || k.shard() >= shards || k.subject() != subjectOf(k.shard(), string(k)) {
			t.Fatalf("the key of %q is %q", id, k)
		}
		if again, ok := parseKey(other); ok && (string(again) != other || !keyForm.MatchString(other)) {
			t.Fatalf("%q is a key", other)
		}
		message := func(place key, about, content []byte) (nats.Header, []byte) {
			header := nats.Header{}
			header.Set(headerState, state)
			if packed {
				header.Set(headerPacked, "gzip")
			}
			header.Set(headerMeta, base64.StdEncoding.EncodeToString(conn.Seal(placeOfMeta(place), about)))
			return header, conn.Seal(placeOfContent(place), content)
		}
		// What nobody has sealed.
		bare := nats.Header{}
		bare.Set(headerState, state)
		bare.Set(headerMeta, base64.StdEncoding.EncodeToString(about))
		if e, err := q.read(k, bare, content); err == nil || e.raw != nil || !reflect.DeepEqual(e.meta, meta{}) {
			t.Fatalf("a message that nobody sealed was read: %+v", e)
		}
		// What was sealed for another delivery, and what was changed.
		if keyOf(other) != k {
			if e, err := q.read(k, first(message(keyOf(other), about, content)), content); err == nil || e.raw != nil {
				t.Fatalf("another delivery's message was read: %+v", e)
			}
		}
		header, sealed := message(k, about, content)
		if flip > 0 && len(sealed) > 0 && json.Valid(about) {
			changed := bytes.Clone(sealed)
			changed[int(flip)/8%len(changed)] ^= 1 << (flip % 8)
			if e, err := q.read(k, header, changed); err == nil && !e.ended() || e.raw != nil {
				t.Fatalf("a changed message was read: %+v", e)
			}
		}
		// What was sealed as put seals it.
		e, err := q.read(k, header, sealed)
		var want meta
		readable := json.Unmarshal(about, &want) == nil
		whole, fits := content, true
		if packed {
			whole, fits = slowly(content)
		}
		ended := state == Delivered || state == Discarded
		if (err == nil) != (readable && (ended || fits)) {
			t.Fatalf("%q, %s, %d bytes: %v", state, about, len(content), err)
		}
		if err != nil {
			if text := err.Error(); !ourWords.MatchString(text) {
				t.Fatalf("an error that is not in our words: %q", text)
			}
			return
		}
		if !reflect.DeepEqual(e.meta, want) || e.state != state || e.key != k || e.ended() != ended || ended && e.raw != nil || !ended && !bytes.Equal(e.raw, whole) || len(e.raw) > max(MaxCallbackBytes, len(content)) {
			t.Fatalf("%+v", e)
		}
		if back, err := unpack(pack(content)); len(content) <= MaxCallbackBytes && (err != nil || !bytes.Equal(back, content)) {
			t.Fatalf("%d bytes are packed and unpacked to %d, %v", len(content), len(back), err)
		}
	})
}

func first(h nats.Header, _ []byte) nats.Header { return h }

// slowly unpacks with the standard library's own words about what is whole.
func slowly(packed []byte) ([]byte, bool) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, false
	}
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(r, MaxCallbackBytes+1))
	return b.Bytes(), err == nil && n <= MaxCallbackBytes
}

// FuzzWhatIsDelivered: a callback that is taken gets a file whose name stays in its
// folder and is its own, and a text for people that holds every section, title and
// diagnosis, letter for letter and in order; a status of the other end is a failure
// exactly when it is not 2xx.
func FuzzWhatIsDelivered(f *testing.F) {
	id, raw := note("E-1")
	f.Add(id, nabla.NoteExport, raw, 200, "3")
	f.Add("../../etc/passwd", nabla.PatientInstructionsExport, raw, 503, "-1")
	f.Add("A", "x", []byte(`{"request_uuid":"r","type":"PATIENT_INSTRUCTIONS_EXPORT","data":{"external_patient_id":"P","external_encounter_id":"E","external_provider_id":"D","patient_instructions":{"instructions":" x\n "}}}`), 429, "99999999999")
	f.Add("a/b", "", []byte(`{"request_uuid":"r","type":"NOTE_EXPORT","data":{"external_patient_id":"P","external_encounter_id":"E","external_provider_id":"D","note":{"sections":[{"key":"k","title":"T","content":"C"}]},"visit_diagnoses":[{"system":"s","code":"c","display":"one"},{"system":"s","code":"d","display":"two"}]}}`), 404, "")
	f.Add("\u202e", "", []byte(`{}`), 409, "Wed, 21 Oct 2115 07:28:00 GMT")
	f.Fuzz(func(t *testing.T, id, kind string, raw []byte, status int, retryAfter string) {
		for _, kind := range []string{nabla.NoteExport, nabla.PatientInstructionsExport} {
			name := fileName(id, kind)
			if filepath.Base(name) != name || !fileForm.MatchString(name) || !filepath.IsLocal(name) {
				t.Fatalf("%q makes the file %q", id, name)
			}
			if word, _, _ := strings.Cut(name, "_"); word != id && word != string(keyOf(id)) {
				t.Fatalf("%q makes the file %q of another", id, name)
			}
			if other := fileName(id+"x", kind); other == name {
				t.Fatalf("%q and another make one file", id)
			}
		}
		err := statusFailure(status, retryAfter)
		if (err == nil) != (status >= 200 && status <= 299) {
			t.Fatalf("%d is %v", status, err)
		}
		if failure, ok := err.(*Failure); err != nil && (!ok || failure.After < 0 || failure.After > 1<<20*time.Second || failure.Refused && (status < 400 || status > 499)) {
			t.Fatalf("%d, %q is %+v", status, retryAfter, err)
		}
		c, err := nabla.Parse(raw)
		if err != nil {
			return
		}
		text := plainText(c)
		if !utf8.ValidString(text) {
			t.Fatalf("%q becomes %q", raw, text)
		}
		rest := text
		find := func(part string) {
			if part = strings.TrimSpace(part); part == "" {
				return
			}
			_, after, found := strings.Cut(rest, part)
			if !found {
				t.Fatalf("%q lacks %q", text, part)
			}
			rest = after
		}
		if c.Note == nil {
			find(c.Instructions)
			return
		}
		for _, s := range c.Note.Sections {
			find(s.Title)
			find(s.Content)
		}
		for _, d := range c.Note.Diagnoses {
			find(d.Display)
			find(d.Code)
		}
	})
}
