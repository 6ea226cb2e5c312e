# Access tokens of EHR servers, by an identity provider of others.
.PHONY: test-idp
test-idp: frontend/node_modules/.stamp ## access tokens of EHR servers and persons, issued by an independent identity provider (oidc-provider)
	GO=$(GO) build/idp/run.sh
