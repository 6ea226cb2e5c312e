package orgstore

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// TenantsAge is how long it is known whose an encounter is: longer than recents
	// are kept by default, and than an export is told.
	TenantsAge = 48 * time.Hour

	tenantStream  = "tenants"
	tenantSubject = "tenants."
	// tenantBytes is about a quarter of a million encounters; the oldest goes first.
	tenantBytes = 64 << 20
)

// Tenants remembers of which tenant the clinician is who opened an encounter, for
// Nabla knows nothing of tenants: neither its callbacks nor its refresh name one. It
// is in memory, sealed, and addressed by hash, and keeps nothing of a patient. It is
// safe for concurrent use. Every error is a Problem, org_busy.
type Tenants struct {
	conn   *Conn
	stream jetstream.Stream
}

// OpenTenants makes the stream, or takes the one that another backend made.
func OpenTenants(ctx context.Context, conn *Conn) (*Tenants, error) {
	stream, err := conn.Stream(ctx, jetstream.StreamConfig{
		Name: tenantStream, Subjects: []string{tenantSubject + "*"}, Storage: jetstream.MemoryStorage,
		MaxMsgsPerSubject: 1, MaxAge: TenantsAge, MaxBytes: tenantBytes, Discard: jetstream.DiscardOld,
	})
	if err != nil {
		return nil, err
	}
	return &Tenants{conn, stream}, nil
}

// Remember keeps the tenant, which may be empty, of an encounter that was opened.
func (t *Tenants) Remember(ctx context.Context, providerID, encounterID, tenant string) error {
	subject := tenantSubject + Name("encounter", providerID, encounterID)
	sealed := t.conn.Seal(subject, []byte(tenant))
	return patiently(ctx, "keeping a tenant", func(ctx context.Context) error {
		_, err := t.conn.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: sealed})
		return err
	})
}

// Of returns the tenant that was remembered; false says that none was, or that it is
// too long ago.
func (t *Tenants) Of(ctx context.Context, providerID, encounterID string) (tenant string, known bool, err error) {
	subject := tenantSubject + Name("encounter", providerID, encounterID)
	err = patiently(ctx, "reading a tenant", func(ctx context.Context) error {
		m, err := t.stream.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		value, err := t.conn.Open(subject, m.Data)
		tenant, known = string(value), err == nil
		return err
	})
	return tenant, known, err
}
