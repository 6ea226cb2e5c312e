package orgserver

import (
	"context"
	"net/http"

	"encounterlauncher/internal/delivery"
	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgaudit"
	"encounterlauncher/internal/problem"
)

// story is what the audit will say of one call, as far as it is known: a call
// writes down who asks for what as it learns it, and ServeHTTP how it ended. Until
// the action is set there is nothing to tell: who is not known to us is a matter of
// the access log.
type story struct{ orgaudit.Record }

type storyKey struct{}

// storyOf is the story of a call.
func storyOf(r *http.Request) *story {
	if s, ok := r.Context().Value(storyKey{}).(*story); ok {
		return s
	}
	return &story{}
}

// begins notes who asks, which makes the call one for the audit.
func (s *story) begins(action string, who clinician) {
	s.Action, s.Subject, s.Email, s.Provider, s.Tenant = action, who.subject, who.email, who.providerID, who.tenant
}

// about notes what is asked for. providerID is that of the encounter.
func (s *story) about(encounterID, patientID, providerID string) {
	s.Encounter, s.Patient = encounterID, patientID
	if providerID != s.Provider {
		s.AskedProvider = providerID
	}
}

// registers notes that an EHR server registers a launch.
func (s *story) registers(ehr *ehrServer, l orgapi.LaunchRequest) {
	s.Action, s.EHR, s.Tenant, s.Provider = orgaudit.LaunchRegistered, ehr.name, ehr.tenant, l.ExternalProviderID
	s.Encounter, s.Patient = l.ExternalEncounterID, l.ExternalPatientID
}

// hears notes that Nabla told of an export.
func (s *story) hears(c nabla.Callback) {
	s.Action, s.Provider, s.Encounter, s.Patient = orgaudit.CallbackReceived, c.ExternalProviderID, c.ExternalEncounterID, c.ExternalPatientID
}

// delivered writes down that every place has an export. What is there is there: a
// failure of the audit's is only logged.
func (s *Server) delivered(encounterID, providerID string) {
	_ = s.audits.Record(orgaudit.Record{Action: orgaudit.Delivered, Outcome: orgaudit.Done, Provider: providerID, Encounter: encounterID})
}

// discarded writes down that an export was given up; of is nil where its content could
// not be opened any more.
func (s *Server) discarded(of *delivery.Encounter) {
	r := orgaudit.Record{Action: orgaudit.Discarded, Outcome: orgaudit.Done}
	if of != nil {
		r.Provider, r.Encounter = of.ProviderID, of.EncounterID
	}
	_ = s.audits.Record(r)
}

// audit writes down how a call ended, before it is answered. An error means that
// the call must not be granted.
func (s *Server) audit(told *story, err error) error {
	if told.Action == "" {
		return nil
	}
	r := told.Record
	r.Outcome = orgaudit.Done
	if err != nil {
		p := problem.Of(err)
		r.Code, r.Outcome = p.Code, orgaudit.Failed
		if p.Row().Status < http.StatusInternalServerError {
			r.Outcome = orgaudit.Refused
		}
	}
	return s.audits.Record(r)
}

// audited is audit as a stage of the call.
func (s *Server) audited(ctx context.Context, told *story, err error) error {
	if told.Action == "" || s.audits == nil {
		return nil
	}
	_, done := s.stage(ctx, stageAudit)
	unrecorded := s.audit(told, err)
	done(unrecorded)
	if told.Action == orgaudit.CallbackReceived {
		return nil // it was kept and is delivered, whatever Nabla is told
	}
	return unrecorded
}
