# The Windows program: two files from one source. encounter-launcher.exe has every
# role and no console; encounter-launcher.com is what a shell finds first: it gives
# the commands a console, and holds no window.

.PHONY: build-windows build-windows-arm64 build-windows-demo windows-reproducible
build-windows: $(BIN)/encounter-launcher.exe ## build the Windows program (x64) into build/bin
build-windows-arm64: $(BIN)/arm64/encounter-launcher.exe ## build the Windows program (arm64) into build/bin/arm64
build-windows-demo: $(BIN)/encounter-launcher-demo.exe ## build the Windows program that belongs to the sandbox

# $(call windows,ARCHITECTURE,PATH WITHOUT ENDING,MORE LINK FLAGS)
define windows
@mkdir -p $(dir $(2))
GOOS=windows GOARCH=$(1) $(BUILD) -tags $(WINDOWS_TAGS) -ldflags "$(LDFLAGS) $(3) -H windowsgui" -o $(2).exe .
GOOS=windows GOARCH=$(1) $(BUILD) -tags console -ldflags "$(LDFLAGS) $(3)" -o $(2).com .
$(GO) run ./internal/cmd/windows-resources -version $(VERSION) $(2).exe $(2).com
endef

# Go knows best what has to be compiled anew.
.PHONY: windows-always
windows-always:
$(BIN)/encounter-launcher.exe: frontend/dist/index.html windows-always
	$(call windows,amd64,$(BIN)/encounter-launcher)
$(BIN)/arm64/encounter-launcher.exe: frontend/dist/index.html windows-always
	$(call windows,arm64,$(BIN)/arm64/encounter-launcher)
$(BIN)/encounter-launcher-demo.exe: frontend/dist/index.html windows-always
	$(call windows,amd64,$(BIN)/encounter-launcher-demo,$(DEMO))

windows-reproducible: build-windows build-windows-arm64 ## build the Windows program again elsewhere and compare
	@VERSION='$(VERSION)' build/supply/reproducible.sh build-windows build-windows-arm64 -- $(addprefix $(BIN)/,encounter-launcher.exe encounter-launcher.com arm64/encounter-launcher.exe arm64/encounter-launcher.com)
