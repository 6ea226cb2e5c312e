package orgaudit

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// FuzzSearch searches files that anything may have written into: what is found is just
// what a reading of every line finds, in its order, and every other line is either no
// record that was asked for or is told as damaged; nothing ends a search.
func FuzzSearch(f *testing.F) {
	const line = `{"time":"2026-11-03T09:00:00Z","action":"encounter_opened","outcome":"done","subject":"s","email":"Ada@hospital.example","provider":"D","encounter":"E","patient":"P"}`
	for _, text := range []string{
		line + "\n", line, line + "\n" + line[:40], "\n\n{}\nnull\n[]\n" + line + "\n", line + "\r\n", strings.Replace(line, `"P"`, `"\u0050"`, 1) + "\n", strings.Repeat("x", maxLine+5) + "\n" + line + "\n", strings.Replace(line, "2026", "x", 1) + "\n", "{" + line + "\n", " " + line + "\n",
		strings.Replace(line, `"patient"`, `"Patient"`, 1) + "\n", line + line + "\n", strings.NewReplacer(`"P"`, `"P1"`, `"D"`, `"P"`).Replace(line) + "\n", "\xff\n" + line + "\n", strings.Replace(line, `"done"`, `7`, 1) + "\n",
	} {
		f.Add([]byte(text), "P", "", "", int64(0))
		f.Add([]byte(text), "", "ada@hospital.example", "D", int64(3600))
	}
	path := f.TempDir() + "/audit.jsonl"
	f.Fuzz(func(t *testing.T, text []byte, patient, person, provider string, since int64) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		q := Query{Patient: patient, Person: person, Provider: provider}
		if since != 0 {
			q.Since = start.Add(time.Duration(since%(1<<40)) * time.Microsecond)
		}
		var got []Record
		var damaged []Damage
		err := Search(t.Context(), path, q, func(r Record) error { got = append(got, r); return nil }, func(d Damage) { damaged = append(damaged, d) })
		if err != nil {
			t.Fatalf("%q ends the search: %v", text, err)
		}
		var want []Record
		broken := map[int]bool{}
		for i, one := range bytes.SplitAfter(text, []byte("\n")) {
			if len(one) == 0 {
				continue
			}
			one = bytes.TrimSuffix(one, []byte("\n"))
			var l struct {
				Time string `json:"time"`
				Record
			}
			var r plain
			at := time.Time{}
			bad := len(one) >= maxLine || json.Unmarshal(one, &r) != nil || json.Unmarshal(one, &struct {
				Time *string `json:"time"`
			}{&l.Time}) != nil
			if !bad {
				var err error
				at, err = time.Parse(time.RFC3339Nano, l.Time)
				bad = err != nil || r.Action == ""
			}
			if bad {
				broken[i+1] = true
				continue
			}
			full := Record(r)
			full.Time = at.UTC()
			// An id that is written with escapes is another line's: only we write them, and as they are.
			missed := false
			for _, id := range []string{provider, patient} {
				if id != "" {
					var b bytes.Buffer
					e := json.NewEncoder(&b)
					e.SetEscapeHTML(false)
					if e.Encode(id) != nil || !bytes.Contains(one, bytes.TrimSpace(b.Bytes())) && bytes.HasPrefix(one, []byte("{")) && bytes.HasSuffix(one, []byte("}")) {
						missed = true
					}
				}
			}
			switch {
			case missed,
				patient != "" && full.Patient != patient,
				person != "" && full.Subject != person && !strings.EqualFold(full.Email, person),
				provider != "" && full.Provider != provider && full.AskedProvider != provider,
				!q.Since.IsZero() && full.Time.Before(q.Since):
				continue
			}
			want = append(want, full)
		}
		if len(got) != len(want) {
			t.Fatalf("%q: %d found, not %d", text, len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%q: %+v is found, not %+v", text, got[i], want[i])
			}
		}
		last := 0
		for _, d := range damaged {
			if !broken[d.Line] || d.Line <= last || d.File != "audit.jsonl" || d.Torn && d.Line != 1+bytes.Count(text, []byte("\n")) {
				t.Fatalf("%q: %+v is no damage", text, d)
			}
			last = d.Line
		}
		if len(damaged) < len(broken) && patient == "" && provider == "" {
			t.Fatalf("%q: %v is told of %v", text, damaged, broken)
		}
	})
}
