package orgserver

import (
	"context"
	"errors"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgstore"
	"encounterlauncher/internal/problem"
)

// Probed is how one service answered. Err is nil when it is as it should be, and else
// says what is wrong and how it is mended. It is for an administrator, not for a log.
type Probed struct {
	// Key is that of the configuration which names the service.
	Key string
	Err error
}

// Probe asks the services that a usable configuration names whether they answer us:
// it fetches the issuer's keys and access tokens of Nabla and the FHIR server, and asks
// the NATS cluster for its state. It creates and changes nothing there.
func Probe(ctx context.Context, cfg orgconfig.Config, deps Deps) []Probed {
	p, err := assemble(cfg, deps)
	if err != nil {
		return nil // Check has said so
	}
	_, _, err = p.tokens.current(ctx, true)
	all := []Probed{{"issuer", mend(err, "ask for its discovery document from this machine; proxies and firewalls are the usual reason")}}
	if !p.ehrs.shared {
		_, _, err = p.ehrs.tokens.current(ctx, true)
		all = append(all, Probed{"ehr_tokens.issuer", mend(err, "ask for its discovery document from this machine; proxies and firewalls are the usual reason")})
	}
	all = append(all, Probed{"nabla.client_id", mend(p.nabla.Authenticate(ctx), "compare the client id, and see that Nabla can fetch our keys from /.well-known/jwks.json below public_url, which takes a backend that serves")})
	if p.fhir != nil {
		all = append(all, Probed{"fhir.client_id", mend(p.fhir.Authenticate(ctx), "compare the client id, and see that the server can fetch our keys from /.well-known/jwks.json below public_url, which takes a backend that serves")})
	}
	if len(cfg.NATS.Servers) > 0 {
		all = append(all, Probed{"nats.servers", mend(probeStore(ctx, cfg.NATS), "compare its address, credentials and authorities with those of the cluster")})
	}
	return all
}

func probeStore(ctx context.Context, cfg orgconfig.NATS) error {
	conn, err := orgstore.Connect(cfg)
	if err != nil {
		return err
	}
	return errors.Join(conn.Check(ctx), conn.Close())
}

// mend adds to a fault what an administrator can do.
func mend(err error, advice string) error {
	if err == nil {
		return nil
	}
	// The cause of a problem is for administrators, which its sentence is not.
	var p *problem.Problem
	if errors.As(err, &p) && errors.Unwrap(p) != nil {
		err = errors.Unwrap(p)
	}
	return errors.New(err.Error() + "; " + advice)
}
