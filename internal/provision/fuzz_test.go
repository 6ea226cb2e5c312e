package provision

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"
	"unicode/utf8"
)

// quoted writes a record with every field in quotation marks, as some programs do.
func quoted(fields []string) string {
	out := make([]string, len(fields))
	for i, field := range fields {
		out[i] = `"` + strings.ReplaceAll(field, `"`, `""`) + `"`
	}
	return strings.Join(out, ",") + "\r\n"
}

// FuzzAList: what is taken of a list are users that are right, none twice, each with
// its line; written again it says the same; and what is refused is told without a word
// of the list.
func FuzzAList(f *testing.F) {
	for _, seed := range []string{
		head + "a@a.example,D-1,OTHER,x,,\n", "provider_email,external_provider_id\r\na@a.example,\"D\"\"1\"\r\n", "\xef\xbb\xbf" + head, "a;b", "\"", head + "a@a.example,D\u200b,,,,\n",
		head + "canary@a.example,canary,canary,,,\n", "canary,external_provider_id\n", head + "canary\n", head + "\"canary\n", head + "a@a.example,D,,,,\nA@A.example,E,,,,\n", "\xffcanary", head + "+a@a.example,@D,,,,\n", head + "-a@a.example,=D,,,,\n", head + "a@a.example,D 1,,,,\n\n\nb@a.example,\"E\n1\",,,,\n", "external_provider_id,provider_email\nD,a@a.example\nE,b@a.example\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := ReadCSV(strings.NewReader(text))
		if err != nil {
			if lines != nil || strings.Contains(err.Error(), "canary") || !utf8.ValidString(err.Error()) || strings.Count(err.Error(), "\n") > mostFaults {
				t.Fatalf("%q is refused with %v", text, err)
			}
			return
		}
		ids, emails, last := map[string]bool{}, map[string]bool{}, 1
		rows := [][]string{columns}
		for _, l := range lines {
			u := l.User
			if Check(u) != nil || ids[u.ExternalProviderID] || emails[strings.ToLower(u.ProviderEmail)] || l.Number <= last || l.Number > 1+strings.Count(text, "\n") {
				t.Fatalf("%+v", l)
			}
			ids[u.ExternalProviderID], emails[strings.ToLower(u.ProviderEmail)], last = true, true, l.Number
			if !strings.Contains(strings.ReplaceAll(text, `""`, `"`), strings.ReplaceAll(u.ExternalProviderID, `""`, `"`)) || !strings.Contains(text, u.ProviderEmail) {
				t.Fatalf("%+v stands nowhere in %q", u, text)
			}
			row := []string{u.ProviderEmail, u.ExternalProviderID, "", "", u.Settings.SpeechLocale, u.Settings.SecondarySpeechLocale}
			if s := u.Settings.Specialty; s != nil {
				row[2], row[3] = s.Kind, s.OtherName
			}
			rows = append(rows, row)
		}
		if len(lines) == 0 {
			t.Fatal("an empty list was taken")
		}
		var plain bytes.Buffer
		if err := csv.NewWriter(&plain).WriteAll(rows); err != nil {
			t.Fatal(err)
		}
		all := "\xef\xbb\xbf"
		for _, row := range rows {
			all += quoted(row)
		}
		for _, again := range []string{plain.String(), all} {
			back, err := ReadCSV(strings.NewReader(again))
			if err != nil || len(back) != len(lines) {
				t.Fatalf("%q became %q: %v", text, again, err)
			}
			for i := range back {
				a, b := back[i].User, lines[i].User
				if (a.Settings.Specialty == nil) != (b.Settings.Specialty == nil) || a.Settings.Specialty != nil && *a.Settings.Specialty != *b.Settings.Specialty {
					t.Fatalf("%+v became %+v", b, a)
				}
				a.Settings.Specialty, b.Settings.Specialty = nil, nil
				if a != b {
					t.Fatalf("%+v became %+v", b, a)
				}
			}
		}
		// A report of them is a list that no spreadsheet runs anything of.
		var report bytes.Buffer
		if err := WriteConflicts(&report, Result{Conflicts: lines}); err != nil {
			t.Fatal(err)
		}
		records, err := csv.NewReader(&report).ReadAll()
		if err != nil || len(records) != len(lines)+1 {
			t.Fatalf("%d records, %v", len(records), err)
		}
		for i, record := range records[1:] {
			for n, want := range []string{lines[i].User.ProviderEmail, lines[i].User.ExternalProviderID} {
				got := record[1+n]
				if strings.ContainsRune("=+-@", rune(got[0])) || strings.TrimPrefix(got, "'") != strings.TrimPrefix(want, "'") {
					t.Fatalf("%q is reported as %q", want, got)
				}
			}
		}
	})
}
