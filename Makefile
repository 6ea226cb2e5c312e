# Encounter Launcher. `make` alone shows what there is.

VERSION ?= 0.1.0
GO      ?= go
BIN     := build/bin
LDFLAGS := -s -w -X main.version=$(VERSION)
DEMO    := -X encounterlauncher/internal/ground.flavour=demo
WINDOW_TAGS  := desktop,production,webkit2_41
WINDOWS_TAGS := desktop,production,wv2runtime.error

export GOFLAGS ?= -mod=readonly
BUILD = CGO_ENABLED=0 $(GO) build -trimpath
BUILD_WINDOW = CGO_ENABLED=1 $(GO) build -trimpath -buildmode=pie -tags $(WINDOW_TAGS)

.PHONY: help
help: ## show this
	@echo "make demo          try it: sample EHR, backend, sign-in and launcher on this machine (Ctrl-C ends it)"
	@echo "make test          prove it: format, vet, units, front end, builds, played demo, Wine, packages, end to end"
	@echo
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  \1\t\2/' | expand -t 20

# --- what the machine needs -------------------------------------------------------

.PHONY: setup-window setup-test
setup-window:
	@build/setup.sh window
setup-test:
	@build/setup.sh test

frontend/node_modules/.stamp: frontend/package-lock.json
	cd frontend && npm ci --no-audit --no-fund
	@touch $@

# --- programs -----------------------------------------------------------------------

FRONT := $(shell find frontend/src frontend/index.html frontend/vite.config.ts frontend/public -type f 2>/dev/null)
frontend/dist/index.html: frontend/node_modules/.stamp $(FRONT)
	cd frontend && npm run --silent build

.PHONY: build build-agent build-window build-servers build-demo frontend
build: build-agent build-window build-servers ## build every program for this machine into build/bin
build-agent:
	$(BUILD) -ldflags "$(LDFLAGS)" -o $(BIN)/encounter-launcher .
build-window: setup-window frontend/dist/index.html
	$(BUILD_WINDOW) -ldflags "$(LDFLAGS) -bindnow" -o $(BIN)/encounter-launcher-window .
build-servers:
	$(BUILD) -ldflags "$(LDFLAGS)" -o $(BIN)/ ./internal/cmd/org-backend ./internal/cmd/nabla-sim
build-demo:
	$(BUILD) -ldflags "$(LDFLAGS) $(DEMO)" -o $(BIN)/encounter-launcher-demo .
	$(BUILD) -ldflags "$(LDFLAGS)" -o $(BIN)/encounter-launcher-sandbox ./internal/cmd/sandbox
build-demo-window: setup-window frontend/dist/index.html
	$(BUILD_WINDOW) -ldflags "$(LDFLAGS) $(DEMO) -bindnow" -o $(BIN)/encounter-launcher-demo-window .
frontend: frontend/dist/index.html ## build the window's pages

# --- run -----------------------------------------------------------------------------

.PHONY: demo
ifeq ($(PLAY)$(DISPLAY)$(WAYLAND_DISPLAY),)
demo: PLAY := 1
endif
demo: build-demo ## run the whole on this machine; PLAY=1 plays it without display, keyring or browser
	@if [ -n "$(PLAY)" ]; then $(BIN)/encounter-launcher-sandbox --play; \
	else $(MAKE) --no-print-directory build-demo-window && $(BIN)/encounter-launcher-sandbox; fi

.PHONY: window-dev
window-dev: setup-window frontend/node_modules/.stamp ## the window with live reload, against a running `make demo`
	$(GO) run github.com/wailsapp/wails/v2/cmd/wails@v2.16.0 dev -m -tags webkit2_41

# --- prove ---------------------------------------------------------------------------

.PHONY: test check format vet unit test-cluster frontend-check bindings builds play e2e
test: setup-test check unit test-cluster test-fhir test-idp frontend-check bindings builds play wine test-msi msi-reproducible test-sign test-deb test-rpm test-backend-deb test-supply test-attackers e2e ## everything that must pass before anything lands

check: format vet

format:
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi

vet: setup-window
	$(GO) vet ./...
	CGO_ENABLED=1 $(GO) vet -tags $(WINDOW_TAGS) .
	CGO_ENABLED=0 $(GO) vet -tags bindings .
	GOOS=windows CGO_ENABLED=0 $(GO) vet -tags $(WINDOWS_TAGS) ./...
	GOOS=windows CGO_ENABLED=0 $(GO) vet -tags console . ./internal/cli
	GOOS=darwin CGO_ENABLED=0 $(GO) vet ./...
	$(GO) vet -tags cluster,fhirserver,identityprovider ./internal/delivery ./internal/fhir ./internal/orgserver

unit: ## every Go test with the race detector; fuzz targets run their seeds
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 15m ./...

test-cluster: ## three NATS servers and three backends, each killed under load; by itself, because elections want a quiet machine
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 10m -p 2 -tags cluster -run 'InACluster|WhateverDies' ./internal/delivery ./internal/orgserver

frontend-check: setup-test frontend/node_modules/.stamp ## the window's pages: types, units, then every view in every state in a real browser
	cd frontend && npm run --silent check && npm run --silent test && npm run --silent build && npm run --silent pages

# Wails' own generator writes nothing and ends with 0 when the bound file is not in the build: so the result is looked for.
bindings: ## generate the window's bindings anew and compare them with those committed
	@build/bindings.sh check

builds: build build-demo build-windows build-windows-arm64

play: build-demo ## play the demo: no display, bus, keyring or browser needed
	$(BIN)/encounter-launcher-sandbox --play

e2e: setup-test build-demo build-demo-window frontend/node_modules/.stamp ## a real browser, keyring, tray and identity provider
	build/e2e/run.sh

.PHONY: bench
bench: setup-test frontend/dist/index.html ## measure against peers, as ratios in one run; writes build/out/bench.json
	$(GO) run ./internal/cmd/bench

# Each folder of build/ may bring targets of its own.
include $(wildcard build/*/*.mk)

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN) build/out frontend/dist/assets frontend/dist/index.html
