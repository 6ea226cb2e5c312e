# What the README claims, shown in figures.

PROOF_ONLY ?=
.PHONY: proof
proof: setup-test frontend/dist/index.html ## show in figures what the README claims; writes build/out/proof. PROOF_ONLY=faults,canary runs some parts, PROOF_SHORT=1 the short forms
	@mkdir -p build/out
	$(GO) build -o build/out/prove ./internal/cmd/proof
	build/out/prove $(if $(PROOF_ONLY),-only $(PROOF_ONLY)) $(if $(PROOF_SHORT),-short)
