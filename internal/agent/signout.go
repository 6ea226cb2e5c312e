package agent

import (
	"context"

	"encounterlauncher/internal/audit"
	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

// SignOut does without an agent what the intent to sign out does in one: it deletes
// and revokes the sign-in that is stored, and with all wipes the recents of
// everybody who signed in here. It needs no display, opens nothing and is done when
// it returns; that nothing was stored is no error.
//
// Problems are those of the keyring. keyring_unavailable says that the keyring
// cannot be reached from here, so that nobody knows whether a sign-in is stored;
// where policy says that several people share the computer, none ever is.
func SignOut(ctx context.Context, opts Options, all bool) error {
	a, err := newAgent(opts)
	if err != nil {
		return err
	}
	p := policy.Load(opts.Layout)
	r := a.build(p, *a.words.Load())
	a.rooms = r
	a.recents.limit(p)
	if r.refuse == nil {
		a.session.use(r.id)
	}
	entry, found, unknown := a.store.Load(ctx)
	err = a.signOut(ctx, all)
	if found && p.SharedWorkstation && err == nil {
		err = a.deleteStored(ctx) // from before the computer was shared
	}
	<-a.work.close()
	if found && unknown == nil {
		record := audit.Record{Outcome: audit.SignedOut, Person: personName(flow.Person{Subject: entry.Subject, Email: entry.Email})}
		if problem.Of(err) != nil {
			record.Code, record.Reference = problem.Of(err).Code, problem.Of(err).Reference
		}
		a.recordOnce(p.AuditDestination, record)
	}
	if err == nil && problem.IsCode(unknown, problem.KeyringUnavailable) && !p.SharedWorkstation {
		err = unknown
	}
	return err
}

func (a *Agent) deleteStored(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	unlock, err := a.store.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return a.store.Delete(ctx)
}

// recordOnce writes a line of the audit as a program that ends at once.
func (a *Agent) recordOnce(destination string, r audit.Record) {
	if destination == "none" {
		return
	}
	var sink audit.Sink
	if destination == "system" {
		sink, _ = audit.SystemSink() // without it the line stands alone; the agent shows why
	}
	if err := audit.RecordOnce(a.opts.Layout.AuditDir(), sink, r, a.now); err != nil {
		a.log.Error("writing the audit", "problem", problem.Of(err))
	}
}
