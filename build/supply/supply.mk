# The supply chain: what is in the artefacts, under which licences, what is known against
# it, and whether the same tree makes the same bytes. docs/supply-chain.md tells the rest.

GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
SUPPLY := $(GO) run ./internal/cmd/supply
SBOM := build/out/sbom
PROGRAMS := $(addprefix $(BIN)/,encounter-launcher encounter-launcher-window org-backend nabla-sim encounter-launcher-demo encounter-launcher-demo-window encounter-launcher-sandbox \
  encounter-launcher.exe encounter-launcher.com arm64/encounter-launcher.exe arm64/encounter-launcher.com)
# The addresses of the databases of advisories; empty: the public ones.
VULNDB ?=
NPM_REGISTRY ?=
# Not empty: that a database cannot be asked is a failure too.
STRICT ?=
# $(call asked,COMMAND): a database that cannot be asked (75) is no failure, unless STRICT says so.
asked = @mkdir -p build/out/supply; $(1) || { s=$$?; [ $$s -eq 75 ] && [ -z '$(STRICT)' ] || exit $$s; }

.PHONY: vulncheck npm-audit licences sbom test-supply reproducible reproducible-one
vulncheck: setup-window ## ask Go's database of advisories about every program; says so where it cannot be reached (STRICT=1: and fails)
	@$(GO) build -o build/out/supply/supply ./internal/cmd/supply
	$(call asked,build/out/supply/supply vulncheck --tool $(GOVULNCHECK) $(if $(VULNDB),--db '$(VULNDB)') --report build/out/supply/vulncheck.json)

npm-audit: frontend/node_modules/.stamp ## ask the npm registry for advisories about the whole lock file; says so where it cannot be reached (STRICT=1: and fails)
	@$(GO) build -o build/out/supply/supply ./internal/cmd/supply
	$(call asked,build/out/supply/supply npm-audit $(if $(NPM_REGISTRY),--registry '$(NPM_REGISTRY)') --report build/out/supply/npm-audit.json)

# What is asked of every program wants every program, and the demo's window is in no other target.
.PHONY: programs
programs: builds build-demo-window

licences: programs ## hold the licences of everything in every program against build/supply/rules.json
	@$(SUPPLY) licences $(PROGRAMS)

sbom: programs ## write the bill of materials (CycloneDX) of every program into build/out/sbom, and check each
	@rm -rf $(SBOM)
	@$(SUPPLY) sbom --version '$(VERSION)' --into $(SBOM) $(PROGRAMS)

test-supply: licences sbom reproducible-one ## licences, bills of materials, one program built twice, and that an advisory would be found
	$(GO) vet -tags supply ./internal/cmd/supply
	GOVULNCHECK=$(GOVULNCHECK) $(GO) test -count=1 -tags supply ./internal/cmd/supply

reproducible-one: build-agent ## build the launcher for Linux again elsewhere, with nothing compiled before, and compare
	@VERSION='$(VERSION)' build/supply/reproducible.sh build-agent -- build/bin/encounter-launcher

reproducible: programs package package-backend-deb sbom ## build every program, page, package and bill of materials again elsewhere, with nothing compiled before, and compare
	@VERSION='$(VERSION)' MAINTAINER='$(MAINTAINER)' build/supply/reproducible.sh programs package package-backend-deb sbom -- $(PROGRAMS) frontend/dist \
	  $(DEB) $(RPM) $(MSI) $(BACKEND_DEB) $(foreach p,$(DEB) $(RPM) $(MSI) $(BACKEND_DEB),$(p).cdx.json) $(SBOM) build/out/linux build/out/backend
