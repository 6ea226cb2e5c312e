# The package of org-backend for Debian and its relatives. nabla-sim and the sandbox are
# for development and are in no package.

BACKEND_DEB := build/out/org-backend_$(VERSION)_amd64.deb
backend-nfpm = $(packed) GOFLAGS=-mod=mod $(GO) run $(NFPM) package --config build/backend/nfpm.yaml

.PHONY: package-backend-deb backend-docs test-backend-deb
backend-docs: build-servers
	rm -rf build/out/backend
	mkdir -p build/out/backend/all
	$(BIN)/org-backend manual >build/out/backend/org-backend.8
	$(BIN)/org-backend completion bash >build/out/backend/org-backend.bash
	$(BIN)/org-backend config-reference >build/out/backend/configuration.md
	$(GO) run ./internal/cmd/linux-docs --version '$(VERSION)' --maintainer '$(MAINTAINER)' build/out/backend/all
	sed 's/^encounter-launcher (/org-backend (/' build/out/backend/all/changelog >build/out/backend/changelog
	rm -r build/out/backend/all
	$(SUPPLY) notices --of org-backend $(BIN)/org-backend >build/out/backend/third-party-notices
	{ cat build/backend/copyright && $(SUPPLY) notices --form debian $(BIN)/org-backend; } >build/out/backend/copyright
	gzip -9n build/out/backend/org-backend.8 build/out/backend/changelog build/out/backend/third-party-notices build/out/backend/configuration.md

package-backend-deb: backend-docs ## build the package of org-backend for Debian and its relatives into build/out
	$(backend-nfpm) --packager deb --target $(BACKEND_DEB)
	$(SUPPLY) sbom --version '$(VERSION)' $(BACKEND_DEB)

test-backend-deb: setup-test package-backend-deb ## look into org-backend's deb; install, serve, upgrade, remove and purge it (as root), in layers over the machine
	$(packed) GO='$(GO)' build/backend/test-deb.sh $(BACKEND_DEB)
