package doctor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/transport"
)

// soonEnds is how long before its end a certificate is worth a word.
const soonEnds = 14 * 24 * time.Hour

// mostCAFile bounds what is read of ExtraCAFile, as transport bounds it.
const mostCAFile = 1 << 20

// publicRoot reports whether browsers bring an authority along: it is on Mozilla's list
// as this program was built with it. A key is compared, not a certificate: authorities
// renew theirs.
func publicRoot(c *x509.Certificate) bool {
	wanted := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	for root := range bundle.Roots() {
		known, err := x509.ParseCertificate(root.Certificate)
		if err == nil && sha256.Sum256(known.RawSubjectPublicKeyInfo) == wanted {
			return true
		}
	}
	return false
}

// chain is what is known of the certificates of a server.
type chain struct {
	place *place
	met   met
	leaf  *x509.Certificate
	root  *x509.Certificate
}

// checkTLS says from which authority each server's certificate comes. One that no
// browser brings along is the organisation's own: that is how an organisation's own
// servers are, and how a device looks that reads the connections of all others. Only
// where encounters open tells the two apart: that server is the vendor's.
func checkTLS(ctx context.Context, w *world, c check) []Finding {
	var chains []chain
	var found []Finding
	for _, p := range w.places() {
		if p.secure() {
			chains = append(chains, chain{place: p})
		}
	}
	if len(chains) == 0 || w.unconnected() {
		return []Finding{w.say(c, "no_policy")}
	}
	places := make([]*place, len(chains))
	for i := range chains {
		places[i] = chains[i].place
	}
	each(places, func(p *place) []Finding { p.meet(ctx); return nil })
	for i := range chains {
		m := chains[i].place.meet(ctx)
		chains[i].met = m
		if m.tls != nil && len(m.tls.VerifiedChains) > 0 {
			verified := m.tls.VerifiedChains[0]
			chains[i].leaf, chains[i].root = verified[0], verified[len(verified)-1]
		}
	}
	extra := certificatesOf(w.Policy.ExtraCAFile)
	for _, ch := range chains {
		found = append(found, w.trusted(c, ch, chains, extra))
	}
	return found
}

func (w *world) trusted(c check, ch chain, all []chain, extra []*x509.Certificate) Finding {
	host := ch.place.host()
	if ch.met.unmet() {
		if ch.place.encounters {
			return w.say(c, "encounter_host", "host", host).because(causeOf(ch.met.err))
		}
		return w.say(c, "unreached", "host", host)
	}
	if ch.met.err != nil {
		return w.untrusted(c, host, ch.met.err)
	}
	if ch.root == nil {
		return w.say(c, "not_tls", "host", host)
	}
	issuer := nameOf(ch.root)
	left := ch.leaf.NotAfter.Sub(w.Now())
	switch {
	case left < soonEnds && !livesShortly(ch):
		return w.say(c, "ends_soon", "host", host, "days", strconv.Itoa(max(int(left.Hours()/24), 0)))
	case w.PublicRoot(ch.root):
		return w.say(c, "fine", "host", host, "issuer", issuer)
	case ch.place.encounters, signsEncounters(ch.root, all):
		return w.say(c, "intercepted", "host", host, "issuer", issuer)
	case holds(extra, ch.root):
		return w.say(c, "extra_ca", "host", host, "issuer", issuer)
	}
	return w.say(c, "own_authority", "host", host, "issuer", issuer)
}

// livesShortly reports whether a certificate is one of those that live so short
// that their end is always near: a device that reads connections makes its own anew,
// and public authorities give some for six days.
func livesShortly(ch chain) bool {
	return ch.leaf.NotAfter.Sub(ch.leaf.NotBefore) < 3*soonEnds
}

// untrusted names the authority of a certificate that was refused.
func (w *world) untrusted(c check, host string, err error) Finding {
	issuer := "?"
	shown := transport.Presented(err)
	if len(shown) > 0 {
		issuer = nameOfIssuer(shown[len(shown)-1])
	}
	var (
		name    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
	)
	code := "untrusted"
	switch {
	case errors.As(err, &name):
		code = "wrong_name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		code = "expired"
	case errors.As(err, &unknown), len(shown) > 0:
	default:
		return w.say(c, "not_tls", "host", host).because(causeOf(err))
	}
	return w.say(c, code, "host", host, "issuer", issuer).because(causeOf(err))
}

// signsEncounters reports whether one authority signed every server that was met, one
// where encounters open among them.
func signsEncounters(root *x509.Certificate, all []chain) bool {
	encounters := false
	for _, ch := range all {
		if ch.root == nil {
			continue
		}
		if !bytes.Equal(ch.root.RawSubjectPublicKeyInfo, root.RawSubjectPublicKeyInfo) {
			return false
		}
		encounters = encounters || ch.place.encounters
	}
	return encounters
}

func holds(certificates []*x509.Certificate, c *x509.Certificate) bool {
	for _, known := range certificates {
		if bytes.Equal(known.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo) {
			return true
		}
	}
	return false
}

func nameOf(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return c.Subject.CommonName
	}
	if len(c.Subject.Organization) > 0 {
		return c.Subject.Organization[0]
	}
	return c.Subject.String()
}

func nameOfIssuer(c *x509.Certificate) string {
	if c.Issuer.CommonName != "" {
		return c.Issuer.CommonName
	}
	if len(c.Issuer.Organization) > 0 {
		return c.Issuer.Organization[0]
	}
	return c.Issuer.String()
}

// certificatesOf reads what it can of ExtraCAFile: whether the file can be used is
// transport's to say.
func certificatesOf(file string) []*x509.Certificate {
	if file == "" {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, mostCAFile))
	if err != nil {
		return nil
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return all
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, c)
		}
	}
}

// asError is errors.As, for errors that may be nil.
func asError[T error](err error, into *T) bool { return err != nil && errors.As(err, into) }

// quoteless keeps the errors that name what failed, without the address that they
// quote.
func quoteless(err error) error {
	if err == nil {
		return nil
	}
	if p := problem.Of(err); p != nil && p.Code != problem.Internal {
		return causeOf(err)
	}
	return err
}
