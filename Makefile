# Everything that is done with this repository. `make help` lists it.

GO        ?= go
TOOL       = $(GO) tool -modfile=tools/go.mod
FUZZTIME  ?= 10s
SIMTIME   ?= 1m
CRASHES   ?= 200
IMAGES    ?= 20000
CUTS      ?= 1000
FAILOVERS ?= 20
HISTORIES ?= 100
BUGS      ?= .
TIME      ?= 2h

# SEED draws what the long forms do. Without it they do the same as the test suite, and more of it.
seed       = $(if $(SEED),-seed $(SEED))

.PHONY: help run demo test race lint bench fuzz crash failover sim faults images failures cuts histories bugs record build

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## serve on 127.0.0.1:8420 from ./holdfast.db
	$(GO) run ./cmd/holdfast serve

demo: ## watch a sale with a crash in the middle, and the audit
	$(GO) run ./cmd/holdfast demo

test: lint race ## everything that must pass: linters, then all tests with the race detector

race: ## all tests with the race detector; it says loudly which databases it cannot test
	@$(GO) test -count=1 -v -run '^TestServers$$' ./internal/dbtest | grep SKIPPED || true
	$(GO) test -race -timeout 20m ./...

lint: ## go vet, staticcheck, gofumpt
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	@unformatted=$$($(TOOL) gofumpt -l .); test -z "$$unformatted" || { echo "not formatted (run: $(TOOL) gofumpt -w .):"; echo "$$unformatted"; exit 1; }

bench: ## how fast it is here; docs/PERFORMANCE.md says how to read it
	$(GO) run ./cmd/holdfast bench
	$(GO) run ./cmd/holdfast bench compare
	$(GO) test -run '^$$' -bench . -benchmem ./internal/...

# Go's fuzzer now and then ends with "context deadline exceeded" where it should end well: then once more. An input that fails is kept in
# testdata and fails again.
fuzz: ## every fuzz target for FUZZTIME (default 10s)
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			run="$(GO) test -run ^$$ -fuzz ^$$target$$ -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$package"; \
			echo "fuzz $$package $$target"; $$run || { echo "once more"; $$run; }; \
		done; done

crash: ## CRASHES rounds (default 200) of SIGKILL under load; the test suite does 20
	$(GO) test ./cmd/holdfast -run TestCrash -v -timeout 0 -crash-rounds $(CRASHES) $(seed)

failover: ## FAILOVERS rounds (default 20) of a PostgreSQL primary killed under load, its standby promoted; the test suite does 2
	$(GO) test ./cmd/holdfast -run TestFailover -v -timeout 0 -failover-rounds $(FAILOVERS) $(seed)

# A seed that fails prints itself. Once its cause is mended, it goes into internal/sim/testdata/seeds.txt.
sim: ## the core in worlds drawn from new seeds for SIMTIME (default 1m; the test suite runs 1,000)
	$(GO) test ./internal/sim -run TestSeeds -v -timeout 0 -simtime $(SIMTIME)

faults: images failures ## power losses and failing operations below SQLite

images: ## IMAGES images of power losses below SQLite (default 20,000; the test suite opens 1,000)
	$(GO) test ./internal/faultdisk -run TestPowerLoss -v -timeout 0 -images $(IMAGES) $(seed)

failures: ## every operation below SQLite fails, one a run (the test suite does fewer)
	$(GO) test ./internal/faultdisk -run TestFailures -v -timeout 0 -failures 0 $(seed)

cuts: ## CUTS connections (default 1,000) cut at a commit, on PostgreSQL and on MongoDB
	$(GO) test ./internal/store/postgres ./internal/store/mongodb -run TestCutCommits -v -timeout 0 -cuts $(CUTS) $(seed)

histories: ## HISTORIES linearizable histories (default 100) under kills and cuts on each store; the test suite has 3
	$(GO) test ./cmd/holdfast -run TestLinearizableUnderFaults -v -timeout 0 -histories $(HISTORIES) $(seed)

# Each bug is a patch in internal/bugs/patches. One that is not caught lacks a test.
bugs: ## plant bugs, one at a time: the tests must find each (BUGS=^audit plants those of a name)
	$(GO) run ./internal/bugs -run '$(BUGS)'

record: ## all of these in turn for TIME (default 2h); adds what was counted to docs/RELIABILITY.md
	@mkdir -p .cache && $(GO) build -o .cache/record ./internal/record
	@exec nice -n 10 .cache/record -time $(TIME)

build: ## build ./holdfast
	$(GO) build -o holdfast ./cmd/holdfast
