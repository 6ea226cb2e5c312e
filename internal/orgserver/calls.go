package orgserver

import (
	"context"
	"errors"
	"net/http"

	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgaudit"
	"encounterlauncher/internal/orgstore"
	"encounterlauncher/internal/problem"
)

const (
	// handleBytes makes handles of 192 bits, 32 characters.
	handleBytes = 24
	// maxRequestText is the length of the longest link (design §4).
	maxRequestText = 2048
)

// launch is POST /launches: an EHR server registers a context and gets a handle.
func (s *Server) launch(w http.ResponseWriter, r *http.Request) (int, any, error) {
	from, err := s.ehrs.of(r)
	if err != nil {
		return 0, nil, err
	}
	if err := s.servers.take("", from.name); err != nil {
		return 0, nil, err
	}
	text, err := readText(w, r)
	if err != nil {
		return 0, nil, err
	}
	body, err := readLaunch(text)
	if err != nil {
		return 0, nil, err
	}
	if err := checkLaunch(body); err != nil {
		return 0, nil, err
	}
	storyOf(r).registers(from, body)
	if !from.speaksFor(body.ExternalProviderID) {
		return 0, nil, problem.With(problem.ProviderMismatch, "The field external_provider_id is not one of this EHR's.", nil)
	}
	handle := random(handleBytes)
	ctx, done := s.stage(r.Context(), stageStore)
	err = s.handles.Mint(ctx, handle, orgstore.Launch{EHR: from.name, Tenant: from.tenant, Request: body})
	if done(err); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, orgapi.LaunchAnswer{
		Handle: handle, Link: s.scheme + "://launch?handle=" + handle, ExpiresIn: int(s.life.Seconds()),
	}, nil
}

// create is POST /encounters. It reads top to bottom: who calls, what is asked,
// whose encounter it is, and only then is anything spent.
func (s *Server) create(w http.ResponseWriter, r *http.Request) (int, any, error) {
	who, err := s.caller(r)
	if err != nil {
		return 0, nil, err
	}
	told := storyOf(r)
	told.begins(orgaudit.EncounterOpened, who)
	key, err := idempotencyKey(r)
	if err != nil {
		return 0, nil, err
	}
	var body orgapi.CreateRequest
	if err := readBody(w, r, &body); err != nil {
		return 0, nil, err
	}
	a, err := s.ask(r.Context(), body)
	if err != nil {
		return 0, nil, err
	}
	told.about(a.encounterID, a.patientID, a.providerID)
	told.EHR = a.ehr
	// One answer for both: whose encounter it is is nobody else's business.
	if a.tenant != who.tenant || a.providerID != who.providerID {
		return 0, nil, problem.New(problem.ProviderMismatch, nil)
	}
	if err := s.mayOpen(r.Context(), who, a.encounterID); err != nil {
		return 0, nil, err
	}
	ctx, done := s.stage(r.Context(), stageContext)
	known, err := a.context(ctx)
	if done(err); err != nil {
		return 0, nil, err
	}
	ctx, done = s.stage(r.Context(), stageStore)
	err = a.redeem(ctx, orgstore.Spender{Subject: who.subject, Key: key})
	if done(err); err != nil {
		return 0, nil, err
	}
	ctx, done = s.stage(r.Context(), stageCreate)
	address, err := s.nabla.Create(ctx, nabla.CreatePayload{
		ProviderEmail: who.email, ExternalProviderID: who.providerID,
		ExternalPatientID: a.patientID, ExternalEncounterID: a.encounterID,
		StructuredContext: nabla.StructuredContext{PatientDemographics: nabla.Demographics{
			Name: known.Demographics.Name, BirthDate: known.Demographics.BirthDate,
			Gender: known.Demographics.Gender, Pronouns: known.Demographics.Pronouns,
		}},
		UnstructuredContext: known.Unstructured,
	})
	if done(err); err != nil {
		return 0, nil, err
	}
	s.belongs(r.Context(), who, a.encounterID)
	return http.StatusOK, orgapi.CreateAnswer{
		EncounterURL: address.Reveal(),
		Encounter: orgapi.Encounter{
			ExternalEncounterID: a.encounterID, ExternalProviderID: who.providerID, Label: label(known.Demographics.Name),
		},
	}, nil
}

// asked is what one form of a request asks for, and how its context is found and
// its right spent. Making it spends nothing.
type asked struct {
	// tenant is that of the EHR server that the form comes from.
	tenant                             string
	encounterID, patientID, providerID string
	ehr                                string // that registered it; empty for the forms without
	context                            func(context.Context) (patientContext, error)
	redeem                             func(context.Context, orgstore.Spender) error
}

// ask reads the one form that a request has.
func (s *Server) ask(ctx context.Context, body orgapi.CreateRequest) (asked, error) {
	ids := body.ExternalEncounterID != "" || body.ExternalPatientID != "" || body.ExternalProviderID != ""
	switch {
	case body.Handle != "" && body.Request == "" && !ids:
		return s.askByHandle(ctx, body.Handle)
	case body.Request != "" && body.Handle == "" && !ids:
		return s.askByRequest(body.Request)
	case ids && body.Handle == "" && body.Request == "":
		return s.askByIdentifiers(body)
	}
	return asked{}, problem.With(problem.RequestInvalid, "The body must hold exactly one of handle, request and the three identifiers.", nil)
}

func (s *Server) askByHandle(ctx context.Context, handle string) (asked, error) {
	if !handleWord(handle) {
		return asked{}, problem.New(problem.RequestInvalid, errors.New("the handle is not of the form of one"))
	}
	looked, done := s.stage(ctx, stageStore)
	ticket, err := s.handles.Look(looked, handle)
	if done(err); err != nil {
		return asked{}, err
	}
	launch := ticket.Request
	return asked{
		tenant: ticket.Tenant, ehr: ticket.EHR,
		encounterID: launch.ExternalEncounterID, patientID: launch.ExternalPatientID, providerID: launch.ExternalProviderID,
		context: func(context.Context) (patientContext, error) {
			return patientContext{launch.StructuredContext.PatientDemographics, launch.UnstructuredContext}, nil
		},
		redeem: func(ctx context.Context, by orgstore.Spender) error { return s.handles.Redeem(ctx, ticket, by) },
	}, nil
}

func (s *Server) askByRequest(compact string) (asked, error) {
	if len(compact) > maxRequestText {
		return asked{}, problem.New(problem.RequestInvalid, errors.New("the signed request is longer than a link may be"))
	}
	request, err := s.requests.verify(compact, s.publicURL, s.now())
	if err != nil {
		return asked{}, err
	}
	return asked{
		tenant:      s.ehrs.tenantOf(request.issuer),
		encounterID: request.encounterID, patientID: request.patientID, providerID: request.providerID,
		context: func(ctx context.Context) (patientContext, error) { return s.contexts.find(ctx, request.patientID) },
		redeem: func(ctx context.Context, by orgstore.Spender) error {
			return s.handles.RedeemJTI(ctx, request.issuer, request.id, request.until, compact, by)
		},
	}, nil
}

func (s *Server) askByIdentifiers(body orgapi.CreateRequest) (asked, error) {
	if !s.identifier {
		return asked{}, problem.New(problem.LinkFormNotAllowed, errors.New("identifiers are not allowed by the configuration"))
	}
	if !identifier(body.ExternalEncounterID) || !identifier(body.ExternalPatientID) || !identifier(body.ExternalProviderID) {
		return asked{}, problem.With(problem.RequestInvalid, "An identifier is missing, too long or holds control characters.", nil)
	}
	return asked{
		encounterID: body.ExternalEncounterID, patientID: body.ExternalPatientID, providerID: body.ExternalProviderID,
		context: func(ctx context.Context) (patientContext, error) {
			return s.contexts.find(ctx, body.ExternalPatientID)
		},
		redeem: func(ctx context.Context, by orgstore.Spender) error {
			return s.handles.Once(ctx, by, "create", body.ExternalEncounterID, body.ExternalPatientID, body.ExternalProviderID)
		},
	}, nil
}

// handleWord is the grammar of design §4: [A-Za-z0-9_-]{22,64}.
func handleWord(s string) bool {
	if len(s) < 22 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// reopen is POST /encounters/url: a fresh URL for an encounter of the caller's.
func (s *Server) reopen(w http.ResponseWriter, r *http.Request) (int, any, error) {
	who, err := s.caller(r)
	if err != nil {
		return 0, nil, err
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return 0, nil, err
	}
	told := storyOf(r)
	told.begins(orgaudit.EncounterReopened, who)
	var body orgapi.ReopenRequest
	if err := readBody(w, r, &body); err != nil {
		return 0, nil, err
	}
	if !identifier(body.ExternalEncounterID) || !identifier(body.ExternalProviderID) {
		return 0, nil, problem.With(problem.RequestInvalid, "An identifier is empty, too long or holds control characters.", nil)
	}
	told.about(body.ExternalEncounterID, "", body.ExternalProviderID)
	if body.ExternalProviderID != who.providerID {
		return 0, nil, problem.New(problem.ProviderMismatch, nil)
	}
	if err := s.mayReopen(r.Context(), who, body.ExternalEncounterID); err != nil {
		return 0, nil, err
	}
	ctx, done := s.stage(r.Context(), stageStore)
	err = s.handles.Once(ctx, orgstore.Spender{Subject: who.subject, Key: key}, "reopen", body.ExternalProviderID, body.ExternalEncounterID)
	if done(err); err != nil {
		return 0, nil, err
	}
	ctx, done = s.stage(r.Context(), stageRefresh)
	address, err := s.nabla.Refresh(ctx, who.providerID, body.ExternalEncounterID)
	if done(err); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, orgapi.ReopenAnswer{EncounterURL: address.Reveal()}, nil
}

// me is GET /me.
func (s *Server) me(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	who, err := s.caller(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, orgapi.Me{Subject: who.subject, ProviderEmail: who.email, ExternalProviderID: who.providerID}, nil
}

func (s *Server) openAPI(http.ResponseWriter, *http.Request) (int, any, error) {
	return http.StatusOK, raw{"application/yaml", orgapi.OpenAPI}, nil
}

func (s *Server) jwks(http.ResponseWriter, *http.Request) (int, any, error) {
	return http.StatusOK, raw{"application/jwk-set+json", s.JWKS()}, nil
}

func (s *Server) health(http.ResponseWriter, *http.Request) (int, any, error) {
	return http.StatusOK, raw{"application/json", []byte(`{"status":"ok"}`)}, nil
}
