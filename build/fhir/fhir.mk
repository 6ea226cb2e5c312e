# Our FHIR client against a server of others.
.PHONY: test-fhir
test-fhir: frontend/node_modules/.stamp ## the FHIR client, and the backend with it, against an independent FHIR server (Medplum's) with SMART Backend Services
	GO=$(GO) build/fhir/run.sh
