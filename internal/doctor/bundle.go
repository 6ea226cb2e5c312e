package doctor

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/text"
	"encounterlauncher/internal/view"
)

// Limits of an archive.
const (
	mostLog        = 2 << 20
	mostLogLines   = 20_000
	mostAudit      = 1 << 20
	mostAuditLines = 200
	mostAuditFiles = 50
	// mostLine is above the longest line that the agent writes.
	mostLine = 64 << 10
)

// ErrExists says that the file is there already and was left alone.
var ErrExists = errors.New("the file exists already")

// WriteBundle writes an archive for support: one folder with what a run found, the
// policy with its sources, the log, the end of the audit, how long the stages of launches
// took, versions and the system. Only this user can read it: it has the mode 0600, and on
// Windows a list of rights for the user and the system that takes nothing from its
// folder. A file that is there already is replaced only with force, and only as a whole:
// until the archive is complete the old one stays.
//
// Free text goes in word by word, and only words that this program itself uses: see
// known. No address but those that the policy names, no link, token, person or patient
// goes in, whatever was written where it is read from. It returns the name of the folder
// inside.
func WriteBundle(file string, force bool, d Deps, results []Result) (folder string, err error) {
	if _, err := os.Lstat(file); err == nil && !force {
		return "", ErrExists
	}
	part, err := createOwn(filepath.Dir(file), ".encounter-launcher-", ".zip")
	if err != nil {
		return "", fmt.Errorf("creating the archive: %w", pathless(err))
	}
	defer func() {
		if err != nil {
			_ = os.Remove(part.Name())
		}
	}()
	mark := problem.New(problem.Internal, nil).Reference
	folder = "encounter-launcher-" + d.Now().UTC().Format("20060102") + "-" + mark
	err = errors.Join(d.writeZip(part, folder, results), part.Sync())
	if err = errors.Join(err, part.Close()); err != nil {
		return "", fmt.Errorf("writing the archive: %w", pathless(err))
	}
	if force {
		err = os.Rename(part.Name(), file)
	} else if err = os.Link(part.Name(), file); err == nil {
		// A link fails where somebody has made the file meanwhile; a renaming would
		// replace it.
		err = os.Remove(part.Name())
	} else if !errors.Is(err, fs.ErrExist) {
		// Some file systems know no second name of a file.
		err = os.Rename(part.Name(), file)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		_ = os.Remove(part.Name())
		return "", ErrExists
	case err != nil:
		return "", fmt.Errorf("putting the archive in its place: %w", plainCause(err))
	}
	return folder, nil
}

// plainCause takes paths out of an error: they hold the name of the user.
func plainCause(err error) error {
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return pathless(err)
}

func (d Deps) writeZip(out io.Writer, folder string, results []Result) error {
	z := zip.NewWriter(out)
	log := d.logLines()
	files := []struct {
		name string
		body []byte
	}{
		{"README.txt", []byte(readme)},
		{"doctor.json", asJSON(d.archived(results))},
		{"policy.json", asJSON(d.archivedPolicy())},
		{"agent.log", joined(log, func(l logLine) string { return l.text })},
		{"audit.jsonl", d.auditTail()},
		{"stages.json", asJSON(stagesOf(log))},
		{"system.json", asJSON(d.system())},
	}
	for _, f := range files {
		w, err := z.CreateHeader(&zip.FileHeader{Name: folder + "/" + f.name, Method: zip.Deflate, Modified: d.Now().UTC().Truncate(2 * time.Second)})
		if err != nil {
			return err
		}
		if _, err := w.Write(f.body); err != nil {
			return err
		}
	}
	return z.Close()
}

func asJSON(v any) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return []byte("{}\n")
	}
	return out.Bytes()
}

func joined[T any](lines []T, text func(T) string) []byte {
	var out bytes.Buffer
	for _, l := range lines {
		out.WriteString(text(l))
		out.WriteByte('\n')
	}
	return out.Bytes()
}

// archived is the report of a run with stricter facts: what servers, certificates and
// other programs say of themselves shows only words that this program itself uses.
func (d Deps) archived(results []Result) Report {
	strict := slices.Clone(results)
	for i := range strict {
		strict[i].Findings = slices.Clone(strict[i].Findings)
		for j, f := range strict[i].Findings {
			facts := maps.Clone(f.Facts)
			for name, value := range facts {
				facts[name] = strictFact(strict[i].Name, f.Code, name, value)
			}
			strict[i].Findings[j].Facts = facts
		}
	}
	report := Summarise(d, strict, text.For(text.English))
	for i := range strict {
		for j, f := range strict[i].Findings {
			report.Checks[i].Findings[j].Detail = known(f.detail)
		}
	}
	return report
}

// strictFact is a fact for somebody who is not at this computer. A fact that is not
// named here is free text.
func strictFact(check, code, name, value string) string {
	switch name {
	case "host", "proxy", "browser", "free", "days", "seconds", "minutes", "status":
		return value // the policy's and the system's, and what this room itself counts
	case "issuer":
		if code == "fine" {
			return value // an authority that every browser knows
		}
	case "library":
		if shaped().library.MatchString(value) {
			return value
		}
	case "running", "installed":
		return asVersion(value)
	case "version", "oldest":
		switch {
		case check == "agent":
			return asVersion(value)
		case shaped().release.MatchString(value):
			return value
		}
		return redacted
	}
	return known(value)
}

// archivedValue is one key of the policy.
type archivedValue struct {
	Key       string `json:"key"`
	Effective any    `json:"effective"`
	Source    string `json:"source"`
	Path      string `json:"path,omitempty"`
	Locked    bool   `json:"locked"`
	// Rejected are why values were not taken, with their source.
	Rejected []string `json:"rejected,omitempty"`
}

type archivedFinding struct {
	Key             string `json:"key"`
	Source          string `json:"source"`
	Sentence        string `json:"sentence"`
	RefusesLaunches bool   `json:"refuses_launches"`
}

type archivedPolicy struct {
	Values   []archivedValue   `json:"values"`
	Findings []archivedFinding `json:"findings"`
}

// archivedPolicy shows what is in force: it is no secret, and support cannot do without.
// Of a value that was not taken only the reason is known.
func (d Deps) archivedPolicy() archivedPolicy {
	p := archivedPolicy{Values: []archivedValue{}, Findings: []archivedFinding{}}
	for _, v := range d.Policy.Values {
		out := archivedValue{Key: v.Key, Source: v.Source, Path: known(d.homeless(v.Path)), Locked: v.Locked}
		out.Effective = shownValue(v)
		for _, r := range v.Rejected {
			out.Rejected = append(out.Rejected, r.Source+": "+known(r.Sentence))
		}
		p.Values = append(p.Values, out)
	}
	for _, f := range d.Policy.Findings {
		p.Findings = append(p.Findings, archivedFinding{known(f.Key), f.Source, known(f.Sentence), f.RefusesLaunches})
	}
	return p
}

// shownValue is a value of the policy as it is, but for keys, which are long, and what
// an address carries behind its path.
func shownValue(v policy.Value) any {
	var value any
	if v.Key == "LinkKeys" && v.Effective != "null" {
		return "set"
	}
	if json.Unmarshal([]byte(v.Effective), &value) != nil {
		return nil
	}
	if s, ok := value.(string); ok {
		if address, _, cut := strings.Cut(s, "?"); cut {
			return address + "?" + redacted
		}
		if strings.HasSuffix(v.Key, "File") {
			return known(s)
		}
	}
	return value
}

func (d Deps) homeless(path string) string {
	if home := strings.TrimRight(d.Home, `/\`); len(home) > 1 {
		return strings.ReplaceAll(path, home, "~")
	}
	return path
}

// logLine is one line of the agent's log.
type logLine struct {
	text    string
	message string
	opened  bool
	ms      map[string]float64
}

// logLines reads the end of the log, of the file that was set aside before it too.
func (d Deps) logLines() []logLine {
	var all []logLine
	left := int64(mostLog)
	newest := linesOf(d.Layout.LogFile(), left)
	for _, l := range newest {
		left -= int64(len(l))
	}
	for _, l := range append(linesOf(d.Layout.LogFile()+".1", max(left, 0)), newest...) {
		all = append(all, readLog(l))
	}
	return all[max(len(all)-mostLogLines, 0):]
}

// linesOf returns the last whole lines of a file, at most so many bytes of them. What
// cannot be read has none.
func linesOf(file string, most int64) []string {
	f, err := os.Open(file)
	if err != nil || most == 0 {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	cut := info.Size() > most
	if cut {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return nil
		}
	}
	lines := bufio.NewReaderSize(io.LimitReader(f, most), mostLine)
	var all []string
	for first := true; ; first = false {
		line, isLong, err := lines.ReadLine()
		if err != nil {
			return all
		}
		whole := !isLong && !(first && cut)
		if whole {
			all = append(all, strings.ToValidUTF8(string(line), "?"))
		}
		for isLong && err == nil {
			_, isLong, err = lines.ReadLine()
		}
	}
}

// readLog takes a line of the log over field by field. What is not of the log's form
// was not written by the agent, and only its words are taken.
func readLog(line string) logLine {
	var fields map[string]any
	if json.Unmarshal([]byte(line), &fields) != nil {
		return logLine{text: known(line)}
	}
	l := logLine{}
	l.message, _ = fields["msg"].(string)
	l.opened = l.message == launchOpened
	if times, ok := fields["ms"].(map[string]any); ok && (l.opened || l.message == launchEnded) {
		l.ms = map[string]float64{}
		for stage, ms := range times {
			if n, ok := ms.(float64); ok && slices.Contains(stageNames, stage) {
				l.ms[stage] = n
			}
		}
	}
	kept := make(map[string]any, len(fields))
	for name, value := range fields {
		kept[known(name)] = ownValue(name, value)
	}
	text, err := json.Marshal(kept)
	if err != nil {
		return logLine{text: redacted}
	}
	l.text = string(text)
	return l
}

// numbers are the fields of the agent's lines that hold a number of no meaning by itself;
// any other number could be a record's. ids are those that hold an id that the agent made.
var (
	numbers = [...]string{"took", "bytes", "count", "findings", "status"}
	ids     = [...]string{"id", "request_id"}
)

// ownValue is a field of a line as the agent writes it: at its top, where nobody else
// names the fields.
func ownValue(name string, value any) any {
	switch v := value.(type) {
	case string:
		switch {
		case name == "time" && shaped().moment.MatchString(v), slices.Contains(ids[:], name) && shaped().uuid.MatchString(v):
			return v
		}
	case float64:
		if slices.Contains(numbers[:], name) {
			return v
		}
	case map[string]any:
		if name == "ms" {
			// How long a stage took is a large number without a meaning elsewhere.
			times := map[string]any{}
			for stage, inner := range v {
				if _, ok := inner.(float64); ok && slices.Contains(stageNames, stage) {
					times[stage] = inner
				}
			}
			return times
		}
	}
	return knownValue(value, name)
}

// knownValue is a value of the log with only what is known in it: words, and no number.
func knownValue(value any, key string) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, inner := range v {
			out[known(name)] = knownValue(inner, name)
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, inner := range v {
			out = append(out, knownValue(inner, key))
		}
		return out
	case string:
		switch {
		case key == "reference":
			return asReference(v)
		case v != "" && numeric(v):
			return redacted
		}
		return known(v)
	case float64:
		return redacted
	default:
		return v // true, false, null
	}
}

// archivedAudit is one line of the audit, without the person and without the chain,
// which can be verified only where the files lie.
type archivedAudit struct {
	Sequence  uint64   `json:"seq"`
	Time      string   `json:"time"`
	Outcome   string   `json:"outcome"`
	Code      string   `json:"code,omitempty"`
	Reference string   `json:"reference,omitempty"`
	RequestID string   `json:"request_id,omitempty"`
	Count     int      `json:"count,omitempty"`
	Withheld  []string `json:"withheld,omitempty"`
}

// auditTail is the end of the audit of this user, of all agents, by time.
func (d Deps) auditTail() []byte {
	files, _ := filepath.Glob(filepath.Join(globless(d.Layout.AuditDir()), "*.jsonl"))
	slices.SortFunc(files, func(a, b string) int { return changed(b).Compare(changed(a)) })
	var all []archivedAudit
	for _, file := range files[:min(len(files), mostAuditFiles)] {
		for _, text := range linesOf(file, mostAudit) {
			var l archivedAudit
			if json.Unmarshal([]byte(text), &l) != nil || !shaped().moment.MatchString(l.Time) {
				continue
			}
			l.Outcome, l.Code = known(l.Outcome), known(l.Code)
			l.Reference = asReference(l.Reference)
			if !shaped().uuid.MatchString(l.RequestID) {
				l.RequestID = ""
			}
			for i := range l.Withheld {
				l.Withheld[i] = known(l.Withheld[i])
			}
			all = append(all, l)
		}
	}
	slices.SortStableFunc(all, func(a, b archivedAudit) int { return strings.Compare(a.Time, b.Time) })
	return joined(all[max(len(all)-mostAuditLines, 0):], func(l archivedAudit) string {
		text, _ := json.Marshal(l) // strings and numbers
		return string(text)
	})
}

func globless(path string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func changed(file string) time.Time {
	info, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// The messages with which the agent ends a launch, and the stages in their order.
const (
	launchOpened = "launch opened"
	launchEnded  = "launch ended"
)

var stageNames = []string{string(view.Received), string(view.SigningIn), string(view.Creating), string(view.Opening), string(view.Opened)}

// Stages says how long launches took.
type Stages struct {
	// Opened and NotOpened are how many launches stand in the log.
	Opened    int `json:"opened"`
	NotOpened int `json:"not_opened"`
	// Stages are the stages of the launches that opened, in milliseconds from the end
	// of the stage before; "whole" is from the click to the browser.
	Stages map[string]Times `json:"stages"`
}

// Times are milliseconds of many launches.
type Times struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50_ms"`
	P95   float64 `json:"p95_ms"`
	Most  float64 `json:"max_ms"`
}

func stagesOf(log []logLine) Stages {
	s := Stages{Stages: map[string]Times{}}
	took := map[string][]float64{}
	for _, l := range log {
		switch {
		case l.ms == nil:
			continue
		case !l.opened:
			s.NotOpened++
			continue
		}
		s.Opened++
		before := 0.0
		for _, stage := range stageNames[1:] {
			if at, ok := l.ms[stage]; ok && at >= before {
				took[stage] = append(took[stage], at-before)
				before = at
			}
		}
		if at, ok := l.ms[string(view.Opened)]; ok {
			took["whole"] = append(took["whole"], at)
		}
	}
	for stage, all := range took {
		slices.Sort(all)
		s.Stages[stage] = Times{len(all), rank(all, 50), rank(all, 95), all[len(all)-1]}
	}
	return s
}

// rank is the nearest-rank percentile of sorted numbers.
func rank(sorted []float64, percent int) float64 {
	return sorted[max((len(sorted)*percent+99)/100, 1)-1]
}

// archivedSystem is what is known of the computer; never its name or its environment.
type archivedSystem struct {
	Version      string `json:"version"`
	Go           string `json:"go"`
	Revision     string `json:"revision,omitempty"`
	System       string `json:"system"`
	Architecture string `json:"architecture"`
	Release      string `json:"release"`
	Desktop      string `json:"desktop"`
	Session      string `json:"session"`
	Language     string `json:"language"`
	Locale       string `json:"locale"`
	Processors   int    `json:"processors"`
	LogBytes     int64  `json:"log_bytes"`
}

func (d Deps) system() archivedSystem {
	language := text.System()
	words := text.For(language)
	s := archivedSystem{
		Version: asVersion(d.Version), Go: runtime.Version(), System: systemName, Architecture: runtime.GOARCH, Release: release(),
		Language: words.Language(), Locale: locale(words.Language()), Processors: runtime.NumCPU(),
	}
	s.Desktop, s.Session = desktop()
	s.Desktop, s.Session = known(s.Desktop), known(s.Session)
	if info, err := os.Stat(d.Layout.LogFile()); err == nil {
		s.LogBytes = info.Size()
	}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range build.Settings {
			if setting.Key == "vcs.revision" && len(setting.Value) >= 12 && strings.Trim(setting.Value, "0123456789abcdef") == "" {
				s.Revision = setting.Value[:12]
			}
		}
	}
	return s
}

// locale is how times are written, such as "en-GB": a language and a region.
func locale(language string) string {
	l := text.SystemLocale(language)
	if region, ok := strings.CutPrefix(l, language+"-"); l != language && (!ok || len(region) != 2 || strings.Trim(region, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
		return redacted
	}
	return l
}

const readme = `Encounter Launcher: what support needs to know about one computer.

  doctor.json   what every check found, with its code, a sentence and a next step
  policy.json   every key of the policy that is in force, with its source, and why
                values were not taken
  agent.log     the end of the agent's log, at most 2 MB
  audit.jsonl   the last 200 lines of the audit, without persons and without hashes
  stages.json   how long the stages of the launches in the log took, p50 and p95
  system.json   versions, system, desktop and language

What is not in it: patients, clinicians, links, one-time addresses, tokens, passwords,
the recent encounters, the person's environment and the names of the person's files.
The only addresses are those that the policy names and that of the proxy. Free text is taken over word by
word, and only words that the program itself uses in its messages; everything else
reads [redacted].

An organisation's policy and the names of its servers are in it: treat it as internal.
`
