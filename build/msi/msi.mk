# The MSI: what IT deploys on Windows.

MSI := build/out/encounter-launcher_$(VERSION)_x64.msi
# The test installs two versions that differ, release and demo of each.
MSI_TEST := build/out/msi
MSI_NEXT := 99.0.1

.PHONY: package-msi msi-reproducible test-msi msi-pairs
package-msi: setup-test build-windows ## build the MSI for Windows into build/out
	build/msi/build.sh $(VERSION) $(BIN)/encounter-launcher.exe $(BIN)/encounter-launcher.com $(MSI)
	$(SUPPLY) sbom --version '$(VERSION)' $(MSI)

msi-reproducible: package-msi ## build the MSI again and compare
	build/msi/reproducible.sh $(VERSION) $(BIN)/encounter-launcher.exe $(BIN)/encounter-launcher.com

# $(call msi_pair,FOLDER,VERSION)
define msi_pair
@$(MAKE) --no-print-directory BIN=$(MSI_TEST)/$(1) VERSION=$(2) build-windows build-windows-demo
build/msi/build.sh $(2) $(MSI_TEST)/$(1)/encounter-launcher.exe $(MSI_TEST)/$(1)/encounter-launcher.com $(MSI_TEST)/$(1)/encounter-launcher_$(2)_x64.msi
build/msi/build.sh $(2) $(MSI_TEST)/$(1)/encounter-launcher-demo.exe $(MSI_TEST)/$(1)/encounter-launcher-demo.com $(MSI_TEST)/$(1)/encounter-launcher-demo_$(2)_x64.msi demo
endef

msi-pairs: setup-test
	$(call msi_pair,old,$(VERSION))
	$(call msi_pair,new,$(MSI_NEXT))

test-msi: msi-pairs build-demo ## try the MSI under Wine: install, use, repair, upgrade, uninstall
	build/msi/test.sh $(MSI_TEST)/old $(VERSION) $(MSI_TEST)/new $(MSI_NEXT) $(BIN)/encounter-launcher-sandbox
