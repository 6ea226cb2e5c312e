# The packages for Linux: Debian's and its relatives', and Red Hat's and SUSE's.

NFPM := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0
# Who answers for the package: whoever builds it for an organisation says so.
MAINTAINER ?= Encounter Launcher <it@hospital.example>
# The moment that every file of a package bears: the last commit's, so that the same
# tree makes the same bytes.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1700000000)

DEB := build/out/encounter-launcher_$(VERSION)_amd64.deb
RPM := build/out/encounter-launcher-$(VERSION)-1.x86_64.rpm
packed = VERSION='$(VERSION)' MAINTAINER='$(MAINTAINER)' NFPM=$(NFPM)
nfpm = $(packed) GOFLAGS=-mod=mod $(GO) run $(NFPM) package --config build/linux/nfpm.yaml

.PHONY: package package-deb package-rpm package-docs test-deb test-rpm
package: package-msi package-deb package-rpm ## build the packages of every system into build/out

package-docs: build-agent build-window
	rm -rf build/out/linux
	mkdir -p build/out/linux
	$(GO) run ./internal/cmd/linux-docs --version '$(VERSION)' --maintainer '$(MAINTAINER)' build/out/linux
	$(SUPPLY) notices $(BIN)/encounter-launcher $(BIN)/encounter-launcher-window >build/out/linux/third-party-notices
	{ cat build/linux/copyright && $(SUPPLY) notices --form debian $(BIN)/encounter-launcher $(BIN)/encounter-launcher-window; } >build/out/linux/copyright
	gzip -9n build/out/linux/*.1 build/out/linux/*.5 build/out/linux/changelog build/out/linux/third-party-notices

package-deb: package-docs ## build the package for Debian and its relatives into build/out
	$(nfpm) --packager deb --target $(DEB)
	$(SUPPLY) sbom --version '$(VERSION)' $(DEB)

package-rpm: package-docs ## build the package for Fedora, RHEL and SUSE into build/out
	$(nfpm) --packager rpm --target $(RPM)
	$(SUPPLY) sbom --version '$(VERSION)' $(RPM)

test-deb: setup-test package-deb ## install, use, upgrade, remove and purge the deb as docs/enterprise.md says (as root), in layers over the machine
	$(packed) build/linux/check-same.sh deb $(DEB)
	build/linux/check-deb.sh $(DEB)
	NFPM=$(NFPM) build/linux/test-deb.sh $(DEB)

test-rpm: setup-test package-rpm ## look into the rpm; install, upgrade and erase it in a root of its own
	$(packed) build/linux/check-same.sh rpm $(RPM)
	NFPM=$(NFPM) build/linux/test-rpm.sh $(RPM)
