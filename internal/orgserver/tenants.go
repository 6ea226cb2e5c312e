package orgserver

import (
	"context"

	"encounterlauncher/internal/problem"
)

// Nabla knows a clinician by external_provider_id and an encounter by its own id
// alone, so what it answers or calls back does not say of which tenant they are. Where
// the organisation has tenants we remember that for every encounter that was opened,
// and where it is not known (after two days, or after a restart of a backend without
// a cluster) nothing is told and nothing reopened: the clinician opens it from the
// EHR again.

// belongs remembers whose an encounter is that Nabla has just made or found.
func (s *Server) belongs(ctx context.Context, who clinician, encounterID string) {
	if s.tenants == nil {
		return
	}
	if err := s.tenants.Remember(ctx, who.providerID, encounterID, who.tenant); err != nil {
		// The clinician is waiting, and has a way back through the EHR.
		s.log.WarnContext(ctx, "the tenant of an encounter is not remembered: it cannot be reopened from the recent ones", "problem", problem.Of(err))
	}
}

// tenantOf returns the tenant of an encounter that was opened; false says that it is
// not known. Without tenants it is known to be none.
func (s *Server) tenantOf(ctx context.Context, providerID, encounterID string) (tenant string, known bool, err error) {
	if s.tenants == nil {
		return "", true, nil
	}
	return s.tenants.Of(ctx, providerID, encounterID)
}

// mayOpen refuses an encounter that a clinician of the same id has opened for another
// tenant: for Nabla it is one encounter, whatever the two EHRs mean by its id, so that
// one's patient would be shown to the other, and its exports told there.
func (s *Server) mayOpen(ctx context.Context, who clinician, encounterID string) error {
	tenant, known, err := s.tenantOf(ctx, who.providerID, encounterID)
	if err == nil && known && s.tenants != nil && tenant != who.tenant {
		err = problem.New(problem.ProviderMismatch, nil)
	}
	return err
}

// mayReopen refuses an encounter of another tenant's clinician of the same id.
func (s *Server) mayReopen(ctx context.Context, who clinician, encounterID string) error {
	tenant, known, err := s.tenantOf(ctx, who.providerID, encounterID)
	switch {
	case err != nil:
		return err
	case !known:
		return problem.New(problem.EncounterUnknown, nil)
	case s.tenants != nil && tenant != who.tenant:
		return problem.New(problem.ProviderMismatch, nil)
	}
	return nil
}
