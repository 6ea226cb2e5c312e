# Signing for Windows. What to sign with is named in the environment: see build/sign/sign.sh.

SIGNED := build/out/signed

.PHONY: sign test-sign
sign: setup-test build-windows ## sign exe, com and an MSI of both into build/out/signed (SIGN_PFX=… or another way of build/sign/sign.sh)
	@mkdir -p $(SIGNED)
	cp $(BIN)/encounter-launcher.exe $(BIN)/encounter-launcher.com $(SIGNED)/
	build/sign/sign.sh $(SIGNED)/encounter-launcher.exe $(SIGNED)/encounter-launcher.com
	build/msi/build.sh $(VERSION) $(SIGNED)/encounter-launcher.exe $(SIGNED)/encounter-launcher.com $(SIGNED)/encounter-launcher_$(VERSION)_x64.msi
	build/sign/sign.sh $(SIGNED)/encounter-launcher_$(VERSION)_x64.msi
	$(SUPPLY) sbom --version '$(VERSION)' $(SIGNED)/encounter-launcher_$(VERSION)_x64.msi

test-sign: setup-test build-windows ## sign with certificates of the test: file, token, time stamp; a changed byte is found
	build/sign/test.sh $(VERSION)
