# baton: make run starts a working system; make test tries all of it.
GO ?= go
SOURCES = $(shell find . -name '*.go' -not -path './.git/*' -not -path './web/page/*')
PAGE = web/page/dist/index.html
PAGE_SOURCES = $(shell find web/page -type f -not -path '*/node_modules/*' -not -path '*/dist/*' -not -path '*/dev/*')
# The tests of calls wait far more than they compute: many run at once, whatever the processors; fewer where the race detector computes.
# Those in test/e2e wait, too, for phones and browsers, which compute: four at once, and alone those that take the time of others.
ATONCE = 24
PAGETEST = @if [ -d web/page/node_modules ]; then cd web/page && npm test --silent; else echo "the page's tests are left out: make build installs what they need"; fi
TOOL = $(GO) tool -modfile=tools.mod
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)

.PHONY: run build unit test bench soak faults fmt lint clean setup

run: build
	./baton serve --demo --data ./data

build: baton

baton: go.mod go.sum $(SOURCES) $(PAGE)
	CGO_ENABLED=0 $(GO) build -buildvcs=false -ldflags '-X main.built=$(VERSION)' -o baton ./cmd/baton

# Without Node.js this only says so.
$(PAGE): $(PAGE_SOURCES)
	@web/page/build

unit:
	$(GO) vet ./...
	$(GO) test -parallel $(ATONCE) $$($(GO) list ./... | grep -v /test/ ) ./test/house
	$(PAGETEST)

test: setup build
	$(GO) vet ./...
	$(PAGETEST)
	$(GO) test -race -parallel 12 $$($(GO) list ./... | grep -v /test/ ) ./test/house
	$(GO) test -timeout 40m -parallel 4 ./test/...

setup:
	.ci/setup

# The figures of this machine. BENCH names a part (relay, register, callrate, setup, memory, move, leak, redis …), COMPARE a report of
# an earlier run, of test/bench/out, PROFILE a directory for profiles of the node under the loads.
# REALTIME=1 puts relay and load of the limits before other work on the machine.
bench: setup build
	.ci/setup peers
	$(GO) test ./test/bench -run '(?i)$(subst |,|(?i),$(or $(BENCH),.))' -v -timeout 90m -count 1 -args -bench $(if $(REALTIME),-realtime) $(if $(COMPARE),-compare $(abspath $(COMPARE))) $(if $(PROFILE),-profile $(abspath $(PROFILE)))

# Every fuzz target for SOAK seconds, one after the other; ONLY names some (an expression on package and target). Then calls to which
# everything happens at once, in SEQUENCES random orders. Then a cluster that is broken again and again.
soak:
	$(GO) run ./test/soak -for $(or $(SOAK),60)s -only '$(ONLY)'
	$(GO) test ./call -run '^TestInterleavings$$' -count 1 -v -timeout 120m -args -sequences $(or $(SEQUENCES),20000)
	$(MAKE) faults

# Three nodes with the race detector, Redis with sentinels and phones, for FAULTS (10m, 24h) with one fault after the other; SEED draws the
# same ones again, KIND those alone whose names fit an expression. The nodes' logs are kept in LOGS, or where something was broken.
faults: setup
	$(GO) test ./test/faults -run '^TestFaults$$' -count 1 -v -timeout 0 -args -for $(or $(FAULTS),5m) -seed $(or $(SEED),0) -only '$(KIND)' -logs '$(LOGS)'

fmt:
	$(TOOL) gofumpt -w .

lint:
	@out=$$($(TOOL) gofumpt -l .); [ -z "$$out" ] || { echo "not formatted (make fmt):"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(GO) test -count 1 ./test/house

clean:
	rm -f baton
	rm -rf web/page/dist/index.html web/page/dist/assets
