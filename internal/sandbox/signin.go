package sandbox

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

//go:embed page
var pages embed.FS

// signInView is what the sign-in page shows.
type signInView struct {
	CSS     template.CSS
	Nonce   string
	Request string
	People  []clinician
}

// showSignIn is the pick-your-name page. GET changes nothing.
func (is *issuer) showSignIn(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("request")
	if _, err := is.AuthRequestByID(r.Context(), id); err != nil {
		http.Error(w, "This sign-in is not known any more. Start again from the launcher.", http.StatusNotFound)
		return
	}
	// Browsers apply form-action to every redirect after the form, and the last
	// one goes to the launcher's own port on loopback (RFC 8252 §7.3).
	showPage(w, "sign-in.html", "form-action 'self' http://127.0.0.1:*", func(css template.CSS, nonce string) any {
		return signInView{CSS: css, Nonce: nonce, Request: id, People: clinicians()}
	})
}

// chooseClinician ends a sign-in: with the person whose button was pressed, or
// with access_denied for the cancel button.
func (is *issuer) chooseClinician(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	id, choice := r.PostFormValue("request"), r.PostFormValue("clinician")
	if choice == "" {
		is.cancelSignIn(w, r, id)
		return
	}
	person, ok := clinicianByKey(choice)
	if !ok {
		http.Error(w, "Nobody of that name works in this sandbox.", http.StatusBadRequest)
		return
	}
	is.mu.Lock()
	request, ok := is.requests[id]
	if ok {
		// A copy: the library may be reading the old one for another press.
		chosen := *request
		chosen.subject, chosen.authTime, chosen.done = person.subject(), is.now(), true
		is.requests[id] = &chosen
	}
	is.mu.Unlock()
	if !ok {
		http.Error(w, "This sign-in is not known any more. Start again from the launcher.", http.StatusNotFound)
		return
	}
	ctx := op.ContextWithIssuer(r.Context(), is.provider.IssuerFromRequest(r))
	http.Redirect(w, r, op.AuthCallbackURL(is.provider)(ctx, id), http.StatusSeeOther)
}

func (is *issuer) cancelSignIn(w http.ResponseWriter, r *http.Request, id string) {
	is.mu.Lock()
	request, ok := is.requests[id]
	delete(is.requests, id)
	is.mu.Unlock()
	if !ok {
		http.Error(w, "This sign-in is not known any more. Start again from the launcher.", http.StatusNotFound)
		return
	}
	op.AuthRequestError(w, r, request, oidc.ErrAccessDenied().WithDescription("The person cancelled."), is.provider)
}

func showSignedOut(w http.ResponseWriter, _ *http.Request) {
	showPage(w, "signed-out.html", "form-action 'none'", func(css template.CSS, nonce string) any {
		return signInView{CSS: css, Nonce: nonce}
	})
}

// showPage writes one of the sandbox's own pages under a policy that lets
// nothing in but its own style, its own script and its own server.
func showPage(w http.ResponseWriter, name, formAction string, view func(css template.CSS, nonce string) any) {
	t, err := template.ParseFS(pages, "page/"+name)
	if err == nil {
		var css []byte
		if css, err = pages.ReadFile("page/sandbox.css"); err == nil {
			nonce := randomText()
			var out bytes.Buffer
			// The style is a file of this program, not input.
			if err = t.Execute(&out, view(template.CSS(css), nonce)); err == nil {
				h := w.Header()
				h.Set("Content-Type", "text/html; charset=utf-8")
				h.Set("Cache-Control", "no-store")
				h.Set("Referrer-Policy", "no-referrer")
				h.Set("X-Content-Type-Options", "nosniff")
				h.Set("Content-Security-Policy", fmt.Sprintf(
					"default-src 'none'; style-src 'nonce-%[1]s'; script-src 'nonce-%[1]s'; connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'; %[2]s", nonce, formAction))
				_, _ = w.Write(out.Bytes())
				return
			}
		}
	}
	http.Error(w, "The sandbox cannot make this page.", http.StatusInternalServerError)
}
