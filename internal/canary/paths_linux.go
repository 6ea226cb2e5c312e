package canary

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"encounterlauncher/internal/sandbox"
	"encounterlauncher/internal/stage"
)

// step is one path that is gone.
type step struct {
	name string
	// end is how it should end: a code, a stage, or what happens; for the report.
	end string
	// full leaves it out of the short form.
	full bool
	do   func(context.Context) error
}

// crash has Go's runtime end a process that crashes as others end, with a core where
// the process lets the system write one.
const crash = "GOTRACEBACK=crash"

const linkStart = "encounter-launcher://launch?"

// paths goes every path.
func (r *run) paths(ctx context.Context) error {
	for _, s := range slices.Concat(r.launches(), r.commands(), r.callbacks(), r.refusals(), r.failures(), r.more(), r.endings()) {
		if s.full && r.Short {
			continue
		}
		r.tell(s.name)
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		r.sweep(ctx)
		r.tried = append(r.tried, Path{s.name, s.end})
	}
	return nil
}

func ada() sandbox.Person { return sandbox.People()[0] }
func ben() sandbox.Person { return sandbox.People()[1] }

// ids are those of one launch.
type ids struct{ encounter, patient string }

func (r *run) newIDs() ids {
	plain := func(before string) string { return strings.ReplaceAll(word(before), "_", "-") }
	i := ids{plain("ENC-"), plain("PAT-")}
	r.marks.Add(EncounterID, i.encounter)
	r.marks.Add(PatientID, i.patient)
	return i
}

// mint has the EHR's server register a launch, through what listens to it.
func (r *run) mint(ctx context.Context, who sandbox.Person, i ids) (link string, err error) {
	status, answer, err := r.ehr(ctx, stage.EHRSecret, map[string]any{
		"provider_email": who.Email, "external_provider_id": who.ProviderID, "external_patient_id": i.patient, "external_encounter_id": i.encounter,
		"structured_context": map[string]any{"patient_demographics": map[string]any{
			"name": givenName + " " + familyName, "birth_date": birthDate, "gender": "female", "pronouns": nil,
		}},
		"unstructured_context": freeText,
	})
	if err != nil || status != http.StatusOK {
		return "", fmt.Errorf("POST /launches answered %d, %w", status, because(err))
	}
	return texts(answer)["link"], nil
}

func (r *run) ehr(ctx context.Context, secret string, body any) (int, []byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	return r.ask(ctx, http.MethodPost, "/launches", "Bearer "+secret, text)
}

// ask calls the backend by the address that launchers know.
func (r *run) ask(ctx context.Context, method, path, authorization string, body []byte, headers ...string) (int, []byte, error) {
	q, err := http.NewRequestWithContext(ctx, method, r.hospital.backend.URL+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Authorization", authorization)
	q.Header.Set("Idempotency-Key", word("key-"))
	for i := 0; i+1 < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	client := r.hospital.authority.Client()
	defer client.CloseIdleConnections()
	answer, err := client.Do(q)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	return answer.StatusCode, said, err
}

// admitted waits until the agent takes another new link: five in ten seconds.
func (r *run) admitted(ctx context.Context) error {
	const most, window = 5, 10*time.Second + 300*time.Millisecond
	if n := len(r.taken); n >= most {
		if err := stage.Sleep(ctx, window-time.Since(r.taken[n-most])); err != nil {
			return err
		}
	}
	r.taken = append(r.taken, time.Now())
	return nil
}

// click hands a link over and waits for the end of the launch.
func (r *run) click(ctx context.Context, link string) (launched, error) {
	if err := r.admitted(ctx); err != nil {
		return launched{}, err
	}
	before := r.last(ctx)
	status, said, err := r.launcher(ctx, "", link)
	if err != nil {
		return launched{}, err
	}
	var end launched
	err = stage.Await(ctx, "the end of the launch", func() bool {
		if status != 0 {
			end = launched{Stage: "refused", Code: codeIn(said)}
			return true
		}
		end = r.last(ctx)
		return end.ID != before.ID && end.over()
	})
	return end, err
}

// because is an error, or says that there was none.
func because(err error) error {
	if err == nil {
		return errors.New("which is not the end that it should have")
	}
	return err
}

// codeIn is the code that the handler prints with a refusal.
func codeIn(said string) string {
	for _, word := range strings.FieldsFunc(said, func(c rune) bool { return c != '_' && (c < 'a' || c > 'z') }) {
		if strings.Contains(word, "_") {
			return word
		}
	}
	return ""
}

// ends clicks a link and says when it ended otherwise than with a code; "opened" is
// the end of a launch that goes well.
func (r *run) ends(link func(context.Context) (string, error), code string) func(context.Context) error {
	return func(ctx context.Context) error {
		text, err := link(ctx)
		if err != nil {
			return err
		}
		end, err := r.click(ctx, text)
		if err != nil {
			return err
		}
		if end.Code != code && (code != "opened" || end.Stage != "opened") {
			return fmt.Errorf("it ended with stage %q and code %q instead of %q", end.Stage, end.Code, code)
		}
		return nil
	}
}

func (r *run) fresh(ctx context.Context) (string, error) { return r.mint(ctx, ada(), r.newIDs()) }

func (r *run) signed(ctx context.Context) (string, error) {
	i := r.newIDs()
	request, err := r.hospital.secrets.Request(r.hospital.backend.URL, i.encounter, i.patient, ada().ProviderID)
	if err != nil {
		return "", err
	}
	r.marks.Add(SignedRequest, request)
	return linkStart + "request=" + request, nil
}

func (r *run) identifiers(context.Context) (string, error) {
	i := r.newIDs()
	return linkStart + url.Values{"external_encounter_id": {i.encounter}, "external_patient_id": {i.patient}, "external_provider_id": {ada().ProviderID}}.Encode(), nil
}

// signIn goes with a sign-in page that was opened.
func (r *run) signIn(ctx context.Context, person string) error {
	page, err := r.opened(ctx)
	if err != nil {
		return err
	}
	if !r.hospital.issuer.IsSignIn(page) {
		return errors.New("what was opened is no sign-in page")
	}
	return r.hospital.issuer.SignIn(ctx, page, person)
}

// first is a launch that waits for the sign-in.
func (r *run) first(ctx context.Context, person, code string) error {
	link, err := r.fresh(ctx)
	if err != nil {
		return err
	}
	return r.held(ctx, link, person, code)
}

func (r *run) held(ctx context.Context, link, person, code string) error {
	if err := r.admitted(ctx); err != nil {
		return err
	}
	if status, said, err := r.launcher(ctx, "", link); err != nil || status != 0 {
		return fmt.Errorf("the handler ended with %d (%s), %w", status, codeIn(said), because(err))
	}
	if err := r.signIn(ctx, person); err != nil {
		return err
	}
	var end launched
	if err := stage.Await(ctx, "the end of the launch", func() bool { end = r.last(ctx); return end.over() }); err != nil {
		return err
	}
	if end.Code != code {
		return fmt.Errorf("it ended with %q instead of %q", end.Code, code)
	}
	return nil
}

func (r *run) launches() []step {
	return []step{
		{"start of the agent at logon", "it listens", false, func(ctx context.Context) error { return r.startAgent(ctx) }},
		{"launch by handle, signed out: sign-in, create, open", "opened", false, func(ctx context.Context) error { return r.first(ctx, ada().Key, "") }},
		{"launch by handle, signed in", "opened", false, r.ends(r.fresh, "opened")},
		{"launch by signed request", "opened", false, r.ends(r.signed, "opened")},
		{"launch by identifiers", "opened", false, r.ends(r.identifiers, "opened")},
		{"a recent encounter again", "opened", false, func(ctx context.Context) error { return r.does(ctx, 0, "open-recent", "--last") }},
		{"a link of an encounter that is open", "opened", true, func(ctx context.Context) error {
			link, err := r.fresh(ctx)
			if err != nil {
				return err
			}
			for range 2 {
				if end, err := r.click(ctx, link); err != nil || end.Stage != "opened" {
					return fmt.Errorf("it ended with %q, %w", end.Code, because(err))
				}
				if err := stage.Sleep(ctx, 3200*time.Millisecond); err != nil { // later it opens anew
					return err
				}
			}
			return nil
		}},
	}
}

// does runs a command that should end with a status.
func (r *run) does(ctx context.Context, status int, args ...string) error {
	return r.doesWith(ctx, "", status, args...)
}

func (r *run) doesWith(ctx context.Context, in string, status int, args ...string) error {
	got, _, err := r.launcher(ctx, in, args...)
	if err == nil && got != status {
		err = fmt.Errorf("%s ended with %d instead of %d", args[0], got, status)
	}
	return err
}

func (r *run) commands() []step {
	anyway := func(args ...string) func(context.Context) error {
		return func(ctx context.Context) error { _, _, err := r.launcher(ctx, "", args...); return err }
	}
	return []step{
		{"status, recents, policy, settings and audit", "answers", false, func(ctx context.Context) error {
			for _, args := range [][]string{
				{"status"}, {"status", "--json"}, {"recents"}, {"recents", "--json"}, {"policy"}, {"policy", "--json"}, {"settings"}, {"audit", "verify"}, {"version"},
			} {
				if err := anyway(args...)(ctx); err != nil {
					return err
				}
			}
			return nil
		}},
		{"name and password for the proxy, from a pipe", "stored", false, func(ctx context.Context) error {
			return errors.Join(
				r.doesWith(ctx, proxyName+"\n"+proxyWord+"\n", 0, "proxy-credential", "set", "--proxy", "proxy.canary.example"),
				r.does(ctx, 0, "proxy-credential", "status", "--proxy", "proxy.canary.example", "--json"))
		}},
		{"doctor and its archive for support", "archive", false, func(ctx context.Context) error {
			archive := filepath.Join(r.dir, "support.zip")
			if err := anyway("doctor", "--json", "--bundle", archive)(ctx); err != nil {
				return err
			}
			data, err := os.ReadFile(archive)
			if err != nil {
				return err
			}
			r.evidence.add(Bundle, "support.zip", data)
			return os.Remove(archive)
		}},
		{"check-link of an integrator", "answers", false, func(ctx context.Context) error {
			link, err := r.fresh(ctx)
			if err != nil {
				return err
			}
			return errors.Join(r.does(ctx, 0, "check-link", link, "--json"), r.does(ctx, 1, "check-link", link+"&name="+url.QueryEscape(familyName)))
		}},
		{"a recent encounter removed and brought back", "there again", false, func(ctx context.Context) error {
			_, said, err := r.launcher(ctx, "", "recents", "--json")
			var list []struct{ ID string }
			if err != nil || json.Unmarshal([]byte(said), &list) != nil || len(list) == 0 {
				return errors.New("there is no recent encounter")
			}
			return errors.Join(r.does(ctx, 0, "recents", "remove", list[0].ID), r.does(ctx, 0, "recents", "undo"))
		}},
	}
}

// exported has the simulator export a note of the newest encounter.
func (r *run) exported(ctx context.Context, more map[string]any) (status int, err error) {
	var list struct {
		Encounters []struct {
			ID string `json:"external_encounter_id"`
		} `json:"encounters"`
	}
	if err := r.hospital.sim.Ask(ctx, http.MethodGet, "/encounters", nil, &list); err != nil || len(list.Encounters) == 0 {
		return 0, errors.Join(err, errors.New("the simulator has no encounter"))
	}
	body := map[string]any{
		"external_encounter_id": list.Encounters[0].ID, "sections": []any{map[string]any{"title": "Befund", "content": noteText, "category": nil}},
	}
	for name, v := range more {
		if v == nil {
			delete(body, name)
		} else {
			body[name] = v
		}
	}
	var answer struct{ Status int }
	err = r.hospital.sim.Ask(ctx, http.MethodPost, "/exports", body, &answer)
	return answer.Status, err
}

func (r *run) vendorFault(ctx context.Context, call, kind string, more map[string]any) error {
	body := map[string]any{"call": call, "kind": kind}
	for name, v := range more {
		body[name] = v
	}
	return r.hospital.sim.Ask(ctx, http.MethodPost, "/faults", body, nil)
}

// operator runs a command of org-backend's.
func (r *run) operator(ctx context.Context, args ...string) ([]byte, error) {
	cmd := r.session.Command(ctx, r.hospital.programs.Path(stage.BackendName), append(args, "--config", filepath.Join(r.hospital.dir, "config.yaml"))...)
	said, err := cmd.CombinedOutput()
	r.evidence.add(BackendAnswers, strings.Join(args[:1], " "), append([]byte{'\n'}, said...))
	r.evidence.add(BackendArgv, args[0], []byte(strings.Join(cmd.Args, "\x00")))
	return said, err
}

func (r *run) callbacks() []step {
	h := r.hospital
	export := func(status int, more map[string]any) func(context.Context) error {
		return func(ctx context.Context) error {
			got, err := r.exported(ctx, more)
			if err == nil && got != status {
				err = fmt.Errorf("the callback was answered %d instead of %d", got, status)
			}
			return err
		}
	}
	spoilt := func(kind string, status int) func(context.Context) error {
		return func(ctx context.Context) error {
			if err := r.vendorFault(ctx, "export", kind, nil); err != nil {
				return err
			}
			return export(status, nil)(ctx)
		}
	}
	return []step{
		{"a note exported: to the webhook, the folder and the FHIR server", "delivered", false, func(ctx context.Context) error {
			if err := export(http.StatusOK, nil)(ctx); err != nil {
				return err
			}
			return stage.Await(ctx, "the note in every place", func() bool { return h.received.Load() > 0 && h.documents.Load() > 0 })
		}},
		{"instructions for the patient", "200", false, export(http.StatusOK, map[string]any{"type": "PATIENT_INSTRUCTIONS_EXPORT", "sections": nil, "instructions": noteText})},
		{"a callback with a wrong signature", "401", false, spoilt("bad_signature", http.StatusUnauthorized)},
		{"a callback that is too old", "401", false, spoilt("stale", http.StatusUnauthorized)},
		{"a callback of an unknown type", "400", false, spoilt("unknown_type", http.StatusBadRequest)},
		{"a callback twice", "409", false, spoilt("replay", http.StatusConflict)},
		{"a note that the webhook does not take and the EHR's record refuses", "waits; put aside", false, func(ctx context.Context) error {
			h.webhookFails.Store(true)
			h.recordFails.Store(true)
			if err := export(http.StatusOK, nil)(ctx); err != nil {
				return err
			}
			var listed []byte
			if err := stage.Await(ctx, "a note that was put aside or waits", func() bool {
				listed, _ = r.operator(ctx, "deliveries", "--json")
				return bytes.Contains(listed, []byte(`"attempts"`)) || bytes.Contains(listed, []byte("status_"))
			}); err != nil {
				return err
			}
			for _, args := range [][]string{{"deliveries"}, {"deliveries", "list", "--all"}, {"deliveries", "list", "--all", "--json"}} {
				if _, err := r.operator(ctx, args...); err != nil {
					return err
				}
			}
			return nil
		}},
		{"org-backend ended with SIGQUIT while notes wait, and started again", "goroutines printed, no core", false, func(ctx context.Context) error { return r.backendCrash(ctx, syscall.SIGQUIT) }},
		{"the notes that waited, once the EHR is well again", "delivered", false, func(ctx context.Context) error {
			h.webhookFails.Store(false)
			h.recordFails.Store(false)
			before := h.received.Load()
			if _, err := r.operator(ctx, "deliveries", "replay", "--all-aside"); err != nil {
				_ = err // where none was put aside there is nothing to replay
			}
			return stage.Await(ctx, "the notes", func() bool { return h.received.Load() > before })
		}},
		{"the backend's audit, searched by its command", "lines", false, func(ctx context.Context) error {
			if _, err := r.operator(ctx, "audit"); err != nil {
				return errors.New("its command failed")
			}
			return nil
		}},
	}
}

// backendCrash ends org-backend as a crash does and starts it again.
func (r *run) backendCrash(ctx context.Context, with syscall.Signal) error {
	b := r.hospital.backend
	if err := syscall.Kill(b.PID(), with); err != nil {
		return err
	}
	if err := stage.Await(ctx, "the end of the backend", b.Ended); err != nil {
		return err
	}
	if with != syscall.SIGKILL {
		said := b.Said()
		if !strings.Contains(said, "goroutine ") {
			return errors.New("the crash printed no goroutines, so it shows nothing")
		}
		r.evidence.add(CrashSays, "org-backend", []byte(said))
	}
	return b.Start(ctx)
}

func (r *run) refusals() []step {
	refused := func(args ...string) func(context.Context) error {
		return func(ctx context.Context) error { return r.does(ctx, 2, args...) }
	}
	handle := word("")
	r.marks.Add(Handle, handle)
	odd := r.newIDs()
	return []step{
		{"malformed links with everything in them", "link_invalid", false, func(ctx context.Context) error {
			for _, link := range []string{
				linkStart + "handle=" + handle + "&name=" + url.QueryEscape(givenName+" "+familyName),
				linkStart + "handle=" + handle + "%00", linkStart + "handle=" + handle + "#" + birthDate, "encounter-launcher://" + odd.patient + "@launch?handle=" + handle,
				linkStart + "external_patient_id=" + odd.patient + "&external_patient_id=" + odd.patient, linkStart + "request=" + handle + "." + handle,
				linkStart + "handle=" + strings.Repeat(handle, 200),
			} {
				if err := r.does(ctx, 2, link); err != nil {
					return err
				}
			}
			return nil
		}},
		{"a link beside another argument", "request_invalid", false, refused(linkStart+"handle="+handle, "--verbose")},
		{"a verb with a link and an unknown verb with a name", "request_invalid", false, func(ctx context.Context) error {
			return errors.Join(r.does(ctx, 2, "status", linkStart+"handle="+handle), r.does(ctx, 2, familyName), r.does(ctx, 2, "status", "--"+familyName))
		}},
		{"a configuration of the backend with secrets in place of the names of their files", "refused", false, func(ctx context.Context) error {
			seal, err := os.ReadFile(filepath.Join(r.hospital.secrets.Dir, "seal.key"))
			if err != nil {
				return err
			}
			file := filepath.Join(r.dir, "pasted.yaml")
			text := fmt.Sprintf("listen: 127.0.0.1:0\npublic_url: %[1]q\nehrs: [{name: ehr, secret_file: %[2]q}, {name: %[2]q, secret: %[2]q}]\ncallbacks: {secret_files: [%[3]q]}\n"+
				"nats: {seal_key_files: [%[4]q]}\ntraces: {endpoint: %[5]q}\nlog_level: %[2]q\n%[2]s: 1\n",
				"https://user:"+stage.EHRSecret+"@x.example", stage.EHRSecret, stage.CallbackSecret, strings.TrimSpace(string(seal)), "https://u:"+stage.EHRSecret+"@otel.example")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				return err
			}
			for _, verb := range []string{"check-config", "serve"} {
				said, err := r.session.Command(ctx, r.hospital.programs.Path(stage.BackendName), verb, "--config", file).CombinedOutput()
				if err == nil {
					return errors.New(verb + " took it")
				}
				r.evidence.add(BackendAnswers, verb, said)
			}
			return nil
		}},
		{"bad bodies at POST /launches", "400 and so on", false, func(ctx context.Context) error {
			for _, body := range []any{
				map[string]any{familyName: givenName}, map[string]any{"provider_email": familyName}, []string{familyName, birthDate, freeText},
				map[string]any{"provider_email": ada().Email, "external_provider_id": ada().ProviderID, "external_patient_id": odd.patient, "external_encounter_id": odd.encounter,
					"structured_context": map[string]any{"patient_demographics": map[string]any{"name": familyName, "birth_date": " ", "gender": givenName, "pronouns": birthDate}}},
				map[string]any{"unstructured_context": strings.Repeat(freeText, 4000)},
			} {
				if status, _, err := r.ehr(ctx, stage.EHRSecret, body); err != nil || status < 400 || status > 499 {
					return fmt.Errorf("a bad body was answered %d, %w", status, because(err))
				}
			}
			return nil
		}},
		{"headers full of the patient at the backend, good calls and bad", "as without them", false, func(ctx context.Context) error {
			i := r.newIDs()
			trace := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
			headers := []string{
				"User-Agent", familyName, "Referer", "https://ehr.example/" + i.patient, "Tracestate", "ehr=" + i.patient, "Traceparent", trace, "Baggage", "patient=" + i.patient,
				"Cookie", "patient=" + url.QueryEscape(givenName), "X-Forwarded-For", familyName, "Forwarded", "for=" + familyName, "X-Patient", birthDate,
			}
			for _, c := range []struct {
				path, bearer, body string
				status             int
			}{
				{"/encounters", r.hospital.bearerSeen(), fmt.Sprintf(`{"external_encounter_id":%q,"external_patient_id":%q,"external_provider_id":%q}`, i.encounter, i.patient, ada().ProviderID), http.StatusOK},
				{"/encounters/url", r.hospital.bearerSeen(), fmt.Sprintf(`{"external_encounter_id":%q,"external_provider_id":%q}`, i.encounter, ada().ProviderID), http.StatusOK},
				{"/encounters/url", r.hospital.bearerSeen(), fmt.Sprintf(`{"external_encounter_id":%q,"external_provider_id":%q}`, i.encounter, ben().ProviderID), http.StatusForbidden},
				{"/launches", "Bearer " + stage.EHRSecret, `{"name":"` + familyName + `"}`, http.StatusBadRequest},
			} {
				if status, _, err := r.ask(ctx, http.MethodPost, c.path, c.bearer, []byte(c.body), headers...); err != nil || status != c.status {
					return fmt.Errorf("%s was answered %d, %w", c.path, status, because(err))
				}
			}
			_, _, err := r.ask(ctx, http.MethodPost, "/launches", "Bearer "+stage.EHRSecret, nil, "X-Request-Id", familyName+" "+birthDate)
			return err
		}},
		{"wrong credentials, routes, queries and headers at the backend", "401, 404, 405", false, func(ctx context.Context) error {
			for _, c := range []struct{ method, path, bearer, body string }{
				{http.MethodPost, "/launches", "Bearer " + handle, `{"a":"` + familyName + `"}`}, {http.MethodPost, "/encounters", "Bearer " + handle, `{"handle":"` + handle + `"}`},
				{http.MethodPost, "/encounters", "Basic " + handle, `{"handle":"` + handle}, {http.MethodGet, "/" + familyName + "?id=" + odd.patient, "Bearer " + handle, ""},
				{http.MethodDelete, "/encounters?patient=" + odd.patient, "Bearer " + handle, ""}, {http.MethodGet, "/me?" + birthDate, "Bearer " + handle, ""},
				{http.MethodPost, "/nabla/callbacks", "Bearer " + handle, `{"note":"` + noteText + `"}`},
			} {
				if status, _, err := r.ask(ctx, c.method, c.path, c.bearer, []byte(c.body)); err != nil || status < 400 {
					return fmt.Errorf("%s %s was answered %d, %w", c.method, c.path[:3], status, because(err))
				}
			}
			return nil
		}},
	}
}

// instead has something else than the backend answer while a link is clicked.
func (r *run) instead(answer func(w http.ResponseWriter, q *http.Request), code string) func(context.Context) error {
	return func(ctx context.Context) error {
		link, err := r.fresh(ctx)
		if err != nil {
			return err
		}
		r.hospital.front.use(func(w http.ResponseWriter, q *http.Request) bool {
			if q.URL.Path != "/encounters" {
				return false
			}
			answer(w, q)
			return true
		})
		defer r.hospital.front.use(nil)
		return r.ends(func(context.Context) (string, error) { return link, nil }, code)(ctx)
	}
}

// problem answers as a backend does that refuses, and tells more than it may.
func problemOf(status int, code string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"type": "about:blank", "title": familyName, "detail": freeText, "status": status, "code": code, "reference": "ABCDEFGH", "instance": "/" + birthDate,
		})
	}
}

func (r *run) failures() []step {
	h := r.hospital
	html := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<html><title>%s</title><p>%s, %s", familyName, birthDate, freeText)
	}
	cut := func(w http.ResponseWriter, _ *http.Request) {
		address := "https://" + stage.PageHost + "/open/" + word("cut-")
		h.oneTime(address)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "4000")
		fmt.Fprintf(w, `{"encounter_url":%q,"encounter":{"external_encounter_id":%q`, address, familyName)
		panic(http.ErrAbortHandler)
	}
	elsewhere := func(w http.ResponseWriter, _ *http.Request) {
		address := "https://elsewhere.example/open/" + word("elsewhere-")
		h.oneTime(address)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprintf(w, `{"encounter_url":%q,"encounter":{"external_encounter_id":"E","external_provider_id":%q,"label":""}}`, address, ada().ProviderID)
	}
	vendor := func(kind string, code string) func(context.Context) error {
		return func(ctx context.Context) error {
			if err := r.vendorFault(ctx, "create", kind, map[string]any{"always": true}); err != nil {
				return err
			}
			defer func() { _ = h.sim.Ask(context.WithoutCancel(ctx), http.MethodDelete, "/faults", nil, nil) }()
			return r.ends(r.fresh, code)(ctx)
		}
	}
	return []step{
		{"SIGQUIT of the agent while the backend is asked", "goroutines printed, no core", false, func(ctx context.Context) error { return r.crashInFlight(ctx, syscall.SIGQUIT) }},
		{"the patient's name in the recents, as policy may want", "opened", false, func(ctx context.Context) error {
			if err := r.policy(map[string]any{"RecentsLabel": "name"}); err != nil {
				return err
			}
			if err := r.again(ctx); err != nil {
				return err
			}
			if err := r.ends(r.fresh, "opened")(ctx); err != nil {
				return err
			}
			err := r.inTray(ctx, familyName)
			r.sweep(ctx)
			return errors.Join(err, r.does(ctx, 0, "recents", "--json"), r.policy(nil))
		}},
		{"a handle that nobody made", "handle_expired", false, r.ends(func(context.Context) (string, error) {
			forged := word("")
			r.marks.Add(Handle, forged)
			return linkStart + "handle=" + forged + "AAAA", nil
		}, "handle_expired")},
		{"another clinician's encounter", "provider_mismatch", false, r.ends(func(ctx context.Context) (string, error) { return r.mint(ctx, ben(), r.newIDs()) }, "provider_mismatch")},
		{"the backend's answer leads to another host", "address_not_allowed", false, r.instead(elsewhere, "address_not_allowed")},
		{"SIGABRT of the agent while the backend is asked", "goroutines printed, no core", false, func(ctx context.Context) error { return r.crashInFlight(ctx, syscall.SIGABRT) }},
		{"the agent once more", "it listens, signed in", false, func(ctx context.Context) error { return r.again(ctx) }},
		{"the window, which stays open", "it is there", true, func(ctx context.Context) error {
			if !r.Window {
				return nil
			}
			if err := r.does(ctx, 0, "window"); err != nil {
				return err
			}
			return stage.Await(ctx, "the window", func() bool {
				tree, _ := r.session.Command(ctx, "xwininfo", "-root", "-tree").Output()
				return bytes.Contains(tree, []byte("Encounter Launcher"))
			})
		}},
		{"a page of HTML in place of the backend's answer", "org_answer_invalid", false, r.instead(html, "org_answer_invalid")},
		{"an opener that fails", "browser_unavailable", false, func(ctx context.Context) error {
			if err := os.WriteFile(r.folder("opener-fails"), nil, 0o600); err != nil {
				return err
			}
			defer os.Remove(r.folder("opener-fails"))
			return r.ends(r.fresh, "browser_unavailable")(ctx)
		}},
		{"the backend refuses with a text full of the patient", "context_incomplete", false, r.instead(problemOf(422, "context_incomplete"), "context_incomplete")},
		{"the same with a code that nobody knows", "org_refused", true, r.instead(problemOf(403, familyName), "org_refused")},
		{"the vendor breaks", "vendor_unavailable", true, vendor("500", "vendor_unavailable")},
		{"the vendor is busy", "org_busy or vendor_unavailable", true, vendor("429", "vendor_unavailable")},
		{"a page of HTML in place of the vendor's answer", "vendor_unavailable", false, vendor("html", "vendor_unavailable")},
		{"the vendor's answer breaks off", "vendor_unavailable", true, vendor("truncated", "vendor_unavailable")},
		{"two megabytes from the vendor", "vendor_unavailable", true, vendor("big", "vendor_unavailable")},
		{"the backend's answer breaks off", "org_unreachable", true, r.instead(cut, "org_unreachable")},
		{"the EHR's record cannot be read", "context_unavailable", true, func(ctx context.Context) error {
			h.recordFails.Store(true)
			defer h.recordFails.Store(false)
			return r.ends(r.signed, "context_unavailable")(ctx)
		}},
		{"the EHR's record has no birth date", "context_incomplete", true, func(ctx context.Context) error {
			h.recordIncomplete.Store(true)
			defer h.recordIncomplete.Store(false)
			return r.ends(r.signed, "context_incomplete")(ctx)
		}},
		{"a policy that cannot be used", "policy_invalid", true, func(ctx context.Context) error {
			if err := r.policy(map[string]any{"BackendURL": "http://" + familyName}); err != nil {
				return err
			}
			defer func() { _ = r.policy(nil) }()
			if err := stage.Await(ctx, "the new policy", func() bool {
				_, said, _ := r.launcher(ctx, "", "status", "--json")
				return strings.Contains(said, `"ok": false`) || strings.Contains(said, `"ok":false`)
			}); err != nil {
				return err
			}
			return r.ends(r.identifiers, "policy_invalid")(ctx)
		}},
		{"a flood of links", "too_many_links", true, func(ctx context.Context) error {
			for range 8 {
				link, err := r.identifiers(ctx)
				if err != nil {
					return err
				}
				if status, said, err := r.launcher(ctx, "", link); err != nil {
					return err
				} else if status == 2 && codeIn(said) == "too_many_links" {
					r.taken = append(r.taken, time.Now(), time.Now(), time.Now(), time.Now(), time.Now())
					return nil
				}
			}
			return errors.New("eight links at once were taken")
		}},
		{"a launch that the person cancels", "cancelled", true, func(ctx context.Context) error {
			link, err := r.fresh(ctx)
			if err != nil {
				return err
			}
			release := r.hold()
			defer release()
			if err := r.admitted(ctx); err != nil {
				return err
			}
			if err := r.does(ctx, 0, link); err != nil {
				return err
			}
			if err := r.does(ctx, 0, "cancel"); err != nil {
				return err
			}
			return stage.Await(ctx, "the end of the launch", func() bool { return r.last(ctx).Code == "cancelled" })
		}},
		{"an agent that does not answer", "agent_unreachable", true, func(ctx context.Context) error {
			a, err := r.session.Agent()
			if err != nil {
				return err
			}
			link, err := r.fresh(ctx)
			if err != nil {
				return err
			}
			if err := a.Pause(); err != nil {
				return err
			}
			err = r.does(ctx, 3, link)
			return errors.Join(err, a.Resume())
		}},
	}
}

// afresh ends the agent and starts one under a policy that is changed as said.
func (r *run) afresh(ctx context.Context, change map[string]any) error {
	if err := r.does(ctx, 0, "quit"); err != nil {
		return err
	}
	if err := r.policy(change); err != nil {
		return err
	}
	r.taken = nil
	return r.startAgent(ctx, crash)
}

// under goes a way under another policy, and then brings the first one back.
func (r *run) under(change map[string]any, do func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := r.afresh(ctx, change); err != nil {
			return err
		}
		if err := do(ctx); err != nil {
			return err
		}
		r.sweep(ctx)
		return errors.Join(r.does(ctx, 0, "quit"), r.policy(nil), r.again(ctx))
	}
}

// requestOf is a signed request whose time and id are chosen.
func (r *run) requestOf(at time.Time, id string) (string, error) {
	i := r.newIDs()
	request, err := jwt.Signed(r.hospital.secrets.Link).Claims(map[string]any{
		"iss": stage.LinkIssuer, "aud": r.hospital.backend.URL, "iat": at.Unix(), "exp": at.Add(4 * time.Minute).Unix(), "jti": id,
		"external_encounter_id": i.encounter, "external_patient_id": i.patient, "external_provider_id": ada().ProviderID,
	}).Serialize()
	if err == nil {
		r.marks.Add(SignedRequest, request)
	}
	return request, err
}

// more are the rest of the codes that can be provoked from outside.
func (r *run) more() []step {
	again := ""
	busy := func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Retry-After", "120")
		problemOf(http.StatusTooManyRequests, "org_busy")(w, q)
	}
	return []step{
		{"a new agent", "it listens, signed in", true, func(ctx context.Context) error { return errors.Join(r.does(ctx, 0, "quit"), r.again(ctx)) }},
		{"a signed request that is too old", "link_expired", true, r.ends(func(context.Context) (string, error) {
			request, err := r.requestOf(time.Now().Add(-time.Hour), word("jti-"))
			return linkStart + "request=" + request, err
		}, "link_expired")},
		{"a signed request, for the first time", "opened", true, r.ends(func(context.Context) (string, error) {
			again = word("jti-")
			request, err := r.requestOf(time.Now(), again)
			return linkStart + "request=" + request, err
		}, "opened")},
		{"another signed request with the id of that one", "link_replayed", true, r.ends(func(context.Context) (string, error) {
			request, err := r.requestOf(time.Now(), again)
			return linkStart + "request=" + request, err
		}, "link_replayed")},
		{"a handle, for the first time", "opened", true, r.ends(func(ctx context.Context) (link string, err error) {
			again, err = r.fresh(ctx)
			return again, err
		}, "opened")},
		{"the same handle under another key, as a thief of the link and the token would", "handle_spent", true, func(ctx context.Context) error {
			_, handle, _ := strings.Cut(again, "handle=")
			status, said, err := r.ask(ctx, http.MethodPost, "/encounters", r.hospital.bearerSeen(), fmt.Appendf(nil, `{"handle":%q}`, handle))
			if err == nil && (status != http.StatusGone || texts(said)["code"] != "handle_spent") {
				err = fmt.Errorf("it was answered %d, %s", status, texts(said)["code"])
			}
			return err
		}},
		{"a new agent once more", "it listens, signed in", true, func(ctx context.Context) error { return errors.Join(r.does(ctx, 0, "quit"), r.again(ctx)) }},
		{"the backend is busy", "org_busy", true, r.instead(busy, "org_busy")},
		{"the backend does not know the clinician", "identity_unmapped", true, r.instead(problemOf(403, "identity_unmapped"), "identity_unmapped")},
		{"Nabla knows the clinician otherwise", "provider_conflict", true, r.instead(problemOf(409, "provider_conflict"), "provider_conflict")},
		{"an encounter that is not known any more", "encounter_unknown", true, func(ctx context.Context) error {
			if err := r.hospital.sim.Ask(ctx, http.MethodPost, "/reset", nil, nil); err != nil {
				return err
			}
			if _, _, err := r.launcher(ctx, "", "open-recent", "--last"); err != nil {
				return err
			}
			return stage.Await(ctx, "the refusal", func() bool { return r.last(ctx).Code == "encounter_unknown" })
		}},
		{"the window, which is not installed", "window_unavailable", true, func(ctx context.Context) error {
			if r.Window {
				return nil // here it is
			}
			return r.does(ctx, 2, "window")
		}},
		{"a policy into which somebody has written a password", "policy_invalid", false, r.under(
			map[string]any{"ProxyMode": "manual", "ProxyURL": "http://" + proxyName + ":" + proxyWord + "@proxy.canary.example:3128", "Language": proxyWord},
			func(ctx context.Context) error {
				archive := filepath.Join(r.dir, "support.zip")
				for _, args := range [][]string{{"policy"}, {"policy", "--json"}, {"status", "--json"}, {"doctor"}, {"doctor", "--json", "--bundle", archive}} {
					if _, _, err := r.launcher(ctx, "", args...); err != nil {
						return err
					}
				}
				data, err := os.ReadFile(archive)
				if err != nil {
					return err
				}
				r.evidence.add(Bundle, "support.zip", data)
				return errors.Join(os.Remove(archive), r.ends(r.identifiers, "policy_invalid")(ctx))
			})},
		{"no policy", "policy_missing", true, r.under(map[string]any{"BackendURL": nil}, r.ends(r.identifiers, "policy_missing"))},
		{"a backend whose authority is not known", "tls_untrusted", true, r.under(map[string]any{"ExtraCAFile": nil}, r.ends(r.fresh, "tls_untrusted"))},
		{"a keyring that is locked", "keyring_locked", true, func(ctx context.Context) error {
			if err := r.session.LockKeyring(ctx); err != nil {
				return err
			}
			return r.under(nil, func(ctx context.Context) error {
				return errors.Join(r.ends(r.fresh, "keyring_locked")(ctx), r.session.UnlockKeyring(ctx))
			})(ctx)
		}},
	}
}

// hold keeps the backend's answers to launches back until release is called.
func (r *run) hold() (release func()) {
	held := make(chan struct{})
	r.hospital.front.use(func(_ http.ResponseWriter, q *http.Request) bool {
		if q.URL.Path == "/encounters" {
			select {
			case <-held:
			case <-q.Context().Done():
			}
		}
		return false
	})
	return func() { close(held); r.hospital.front.use(nil) }
}

// crashInFlight ends the agent while it waits for the backend: link, token and key are
// in its memory.
func (r *run) crashInFlight(ctx context.Context, with syscall.Signal) error {
	link, err := r.fresh(ctx)
	if err != nil {
		return err
	}
	release := r.hold()
	defer release()
	if err := r.admitted(ctx); err != nil {
		return err
	}
	if err := r.does(ctx, 0, link); err != nil {
		return err
	}
	if err := stage.Await(ctx, "the call to the backend", func() bool { return r.last(ctx).Stage == "creating" }); err != nil {
		return err
	}
	return r.endAgent(ctx, with)
}

// again starts an agent that finds its sign-in in the keyring.
func (r *run) again(ctx context.Context) error {
	r.taken = nil
	if err := r.startAgent(ctx, crash); err != nil {
		return err
	}
	return stage.Await(ctx, "the sign-in from the keyring", func() bool {
		_, said, _ := r.launcher(ctx, "", "status", "--json")
		var s struct {
			SignedIn bool `json:"signed_in"`
		}
		return json.Unmarshal([]byte(said), &s) == nil && s.SignedIn
	})
}

// basic reads a credential of HTTP's Basic scheme (RFC 7617).
func basic(header string) (name, password string, ok bool) {
	return (&http.Request{Header: http.Header{"Authorization": {header}}}).BasicAuth()
}

func (r *run) endings() []step {
	var told atomic.Bool
	proxy := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if _, word, ok := basic(q.Header.Get("Proxy-Authorization")); ok && word == proxyWord {
			told.Store(true)
		}
		w.Header().Set("Proxy-Authenticate", `Basic realm="`+familyName+`"`)
		http.Error(w, "no way out for "+givenName, http.StatusProxyAuthRequired)
	})
	return []step{
		{"sign-out, with the issuer's page", "the page is opened", false, func(ctx context.Context) error {
			r.sweep(ctx)
			if err := r.does(ctx, 0, "sign-out"); err != nil {
				return err
			}
			_, err := r.opened(ctx)
			return err
		}},
		{"a sign-in that the person cancels", "signin_cancelled", false, func(ctx context.Context) error { return r.first(ctx, "", "signin_cancelled") }},
		{"the issuer breaks at the exchange of the code", "signin_failed", false, func(ctx context.Context) error {
			r.hospital.signIns.use(func(w http.ResponseWriter, q *http.Request) bool {
				if q.Method != http.MethodPost || !strings.Contains(q.URL.Path, "token") {
					return false
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusBadRequest)
				form, _ := url.ParseQuery(q.URL.RawQuery)
				_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_grant", "error_description": givenName + " " + form.Get("code")})
				return true
			})
			defer r.hospital.signIns.use(nil)
			return r.first(ctx, ada().Key, "signin_failed")
		}},
		{"a proxy that is told the name and the password, and refuses them", "proxy_auth_needed", true, func(ctx context.Context) error {
			address, err := r.hospital.serve(proxy)
			if err != nil {
				return err
			}
			// What is on this computer is reached without a proxy, so the backend is not.
			if err := r.afresh(ctx, map[string]any{"ProxyMode": "manual", "ProxyURL": address, "BackendURL": "https://backend.canary.example"}); err != nil {
				return err
			}
			if err := r.doesWith(ctx, proxyName+"\n"+proxyWord+"\n", 0, "proxy-credential", "set"); err != nil {
				return err
			}
			link, err := r.identifiers(ctx)
			if err != nil {
				return err
			}
			if err := r.held(ctx, link, ada().Key, "proxy_auth_needed"); err != nil {
				return err
			}
			if !told.Load() {
				return errors.New("the proxy was not told the password, so this shows nothing")
			}
			if err := r.does(ctx, 2, "doctor"); err != nil {
				return err
			}
			return r.afresh(ctx, nil)
		}},
		{"SIGKILL of the agent", "nothing is said", false, func(ctx context.Context) error { return r.endAgent(ctx, syscall.SIGKILL) }},
		{"a link that starts the agent, without a keyring", "opened", false, func(ctx context.Context) error {
			r.session.StopKeyring()
			r.taken = nil
			return r.first(ctx, ada().Key, "")
		}},
		{"SIGKILL of org-backend in the middle of a launch", "org_unreachable", true, func(ctx context.Context) error {
			link, err := r.fresh(ctx)
			if err != nil {
				return err
			}
			release := r.hold()
			if err := r.does(ctx, 0, link); err != nil {
				return err
			}
			r.hospital.backend.Kill()
			release()
			if err := stage.Await(ctx, "the end of the launch", func() bool { return r.last(ctx).over() }); err != nil {
				return err
			}
			return r.hospital.backend.Start(ctx)
		}},
		{"quit", "no agent", false, func(ctx context.Context) error { return r.does(ctx, 0, "quit") }},
	}
}
