package provision

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"encounterlauncher/internal/nabla"
)

// The columns of a list, in any order. The first two must be there.
var columns = []string{
	"provider_email", "external_provider_id", "specialty", "other_specialty_name", "speech_locale", "secondary_speech_locale",
}

const (
	needed     = 2
	maxCSV     = 32 << 20
	mostFaults = 20
)

// Line is one user of a list, and where it stands in the file.
type Line struct {
	Number int
	User   nabla.User
}

// ReadCSV reads a list of at most 32 MiB: comma separated (RFC 4180), UTF-8, with a
// header row that names the columns. A byte order mark, which spreadsheets write, is
// passed over. Nothing is repaired: an unknown column, another number of fields, a
// field that is not right, and an id or an e-mail address (in either case) that stands
// in two lines are faults, and the error names the lines of all of them.
func ReadCSV(from io.Reader) ([]Line, error) {
	text, err := io.ReadAll(io.LimitReader(from, maxCSV+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxCSV {
		return nil, errors.New("the list is larger than 32 MiB")
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(text) {
		return nil, errors.New("the list is not UTF-8; save it as “CSV UTF-8”")
	}
	r := csv.NewReader(bytes.NewReader(text))
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the list is empty")
	}
	if err != nil {
		return nil, csvFault(err)
	}
	at, err := readHeader(header)
	if err != nil {
		return nil, fmt.Errorf("line 1: %w", err)
	}
	var lines []Line
	faults := &faultList{}
	ids, emails := map[string]int{}, map[string]int{}
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, csv.ErrFieldCount) {
			faults.add(lineOf(r), errors.New("it does not have as many fields as the header"))
			continue
		}
		if err != nil {
			// What follows a stray quotation mark cannot be told apart.
			faults.list = append(faults.list, csvFault(err))
			break
		}
		line := Line{lineOf(r), at.user(record)}
		if err := Check(line.User); err != nil {
			faults.add(line.Number, err)
		}
		twice(faults, ids, line.User.ExternalProviderID, line.Number, "external_provider_id")
		twice(faults, emails, strings.ToLower(line.User.ProviderEmail), line.Number, "provider_email")
		lines = append(lines, line)
	}
	if err := faults.err(); err != nil {
		return nil, err
	}
	if len(lines) == 0 {
		return nil, errors.New("the list has a header and no user")
	}
	return lines, nil
}

func lineOf(r *csv.Reader) int {
	line, _ := r.FieldPos(0)
	return line
}

// csvFault names the line as the other faults do.
func csvFault(err error) error {
	var at *csv.ParseError
	if errors.As(err, &at) {
		return fmt.Errorf("line %d: it is not CSV: %w", at.Line, at.Err)
	}
	return err
}

// places says in which field of a record each column stands; -1: in none.
type places []int

func readHeader(header []string) (places, error) {
	if len(header) == 1 && strings.Contains(header[0], ";") {
		return nil, errors.New("its columns are separated by semicolons; save it separated by commas")
	}
	var faults faultList
	for i, name := range header {
		if !slices.Contains(columns, name) {
			faults.list = append(faults.list, fmt.Errorf("column %d is none of %s", i+1, strings.Join(columns, ", ")))
		} else if slices.Index(header, name) != i {
			faults.list = append(faults.list, fmt.Errorf("the column %s is there twice", name))
		}
	}
	at := make(places, len(columns))
	for i, name := range columns {
		at[i] = slices.Index(header, name)
		if i < needed && at[i] < 0 {
			faults.list = append([]error{fmt.Errorf("the column %s is missing", name)}, faults.list...)
		}
	}
	return at, faults.err()
}

func (p places) user(record []string) nabla.User {
	field := func(column int) string {
		if p[column] < 0 {
			return ""
		}
		return record[p[column]]
	}
	return User(field(0), field(1), field(2), field(3), field(4), field(5))
}

func twice(faults *faultList, seen map[string]int, value string, number int, name string) {
	if value == "" {
		return
	}
	if before, ok := seen[value]; ok {
		faults.add(number, fmt.Errorf("%s is that of line %d, too", name, before))
		return
	}
	seen[value] = number
}

// faultList holds faults and shows the first of them.
type faultList struct{ list []error }

func (f *faultList) add(line int, err error) {
	f.list = append(f.list, fmt.Errorf("line %d: %s", line, strings.ReplaceAll(err.Error(), "\n", "; ")))
}

func (f *faultList) err() error {
	if more := len(f.list) - mostFaults; more > 0 {
		return errors.Join(append(slices.Clone(f.list[:mostFaults]), fmt.Errorf("and %s more", number(more)))...)
	}
	return errors.Join(f.list...)
}

// WriteConflicts writes the lines that Nabla refused, with the reason, as CSV for
// people. A field that a spreadsheet would take for a formula gets an apostrophe.
func WriteConflicts(to io.Writer, r Result) error {
	w := csv.NewWriter(to)
	rows := [][]string{{"line", "provider_email", "external_provider_id", "reason"}}
	for reason, lines := range map[string][]Line{"conflict": r.Conflicts, "refused": r.Refused} {
		for _, l := range lines {
			rows = append(rows, []string{strconv.Itoa(l.Number), inert(l.User.ProviderEmail), inert(l.User.ExternalProviderID), reason})
		}
	}
	slices.SortFunc(rows[1:], func(a, b []string) int {
		if len(a[0]) != len(b[0]) {
			return len(a[0]) - len(b[0])
		}
		return strings.Compare(a[0], b[0])
	})
	return w.WriteAll(rows)
}

func inert(field string) string {
	if strings.HasPrefix(field, "=") || strings.HasPrefix(field, "+") || strings.HasPrefix(field, "-") || strings.HasPrefix(field, "@") {
		return "'" + field
	}
	return field
}
