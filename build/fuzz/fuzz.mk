# Every fuzz target of the tree. FUZZTIME is for each: a duration, or executions ("5000x").

FUZZTIME  ?= 10s
FUZZLEAST ?= 0
FUZZTOTAL ?= 0

.PHONY: fuzz fuzz-full
fuzz: ## fuzz every target for FUZZTIME each, with a table and build/out/fuzz.json
	$(GO) run ./internal/cmd/fuzz -time $(FUZZTIME) -least $(FUZZLEAST) -total $(FUZZTOTAL)

fuzz-full: ## ten million executions over all targets, at least 20,000 of each
	$(GO) run ./internal/cmd/fuzz -time 5s -least 20000 -total 10000000
