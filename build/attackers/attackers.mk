.PHONY: test-attackers
# ATTACKERS= (empty) presses a thousand links in every way; with -short in the worst one only.
ATTACKERS ?= -short
test-attackers: setup-test ## what another user of the computer can do to the real programs, and a thousand links; needs root, or sudo
	CGO_ENABLED=0 $(GO) vet -tags attackers ./internal/attackers
	@if [ "$$(id -u)" -eq 0 ]; then as_root=; elif sudo -n true 2>/dev/null; then as_root="sudo -n env PATH=$$PATH GOFLAGS=$$GOFLAGS GOCACHE=$$($(GO) env GOCACHE) GOMODCACHE=$$($(GO) env GOMODCACHE)"; \
	else echo "NOT TRIED: what another user of the computer can do; it needs root, or sudo without a password" >&2; exit 1; fi; \
	$$as_root $(GO) test -tags attackers -count=1 -timeout 10m $(ATTACKERS) ./internal/attackers

.PHONY: test-attackers-pages
test-attackers-pages: setup-test build-demo build-demo-window frontend/node_modules/.stamp ## what a page in a real browser, and a squatter on the sign-in's port, can do; a part of e2e, by itself
	E2E_PARTS=attackers build/e2e/run.sh
