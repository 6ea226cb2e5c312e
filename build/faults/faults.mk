# Launches while things go wrong, at the real programs. The short form is a test of internal/faults.

.PHONY: faults
faults: setup-test ## click 10,000 links while things go wrong; SEED=N for another schedule, ONLY=STEPS for single presses of it
	@mkdir -p build/out
	$(GO) run ./internal/cmd/faults -seed $(or $(SEED),1) -n $(or $(LAUNCHES),10000) $(if $(ONLY),-only $(ONLY)) -out build/out/faults.json
