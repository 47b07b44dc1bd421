# Two commands are all one needs:
#   go run ./cmd/tallygate demo    the main job, nothing to prepare
#   make test                      everything that is checked, here and in CI

# Tools are pinned here and stay out of go.mod.
GOLANGCI_LINT_VERSION := v2.13.1
GOTESTSUM_VERSION     := v1.13.0
HELM_VERSION          := v4.3.1
UNITTEST_VERSION      := v1.1.2
PEBBLE_VERSION        := v2.10.1
H2SPEC_VERSION        := v2.2.1
KEYCLOAK_VERSION      := 26.7.3
VULNCHECK_VERSION     := v1.9.0
AXE_VERSION           := 4.14.1
SBOM_VERSION          := v1.10.0

LINT    := .tools/golangci-lint-$(GOLANGCI_LINT_VERSION)
TESTSUM := .tools/gotestsum-$(GOTESTSUM_VERSION)
HELM    := .tools/helm-$(HELM_VERSION)
UNITTEST := .tools/helm-unittest-$(UNITTEST_VERSION)
PEBBLE  := .tools/pebble-$(PEBBLE_VERSION)
H2SPEC  := .tools/h2spec-$(H2SPEC_VERSION)
KEYCLOAK := .tools/keycloak-$(KEYCLOAK_VERSION)
VULNCHECK := .tools/govulncheck-$(VULNCHECK_VERSION)
SBOM := .tools/cyclonedx-gomod-$(SBOM_VERSION)
AXE := .tools/axe-core-$(AXE_VERSION)
UPSTREAMS := .tools/upstreams-1
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# The Go release that go.mod names, or the local one where that is newer, or where the other
# cannot be had.
RELEASE_GO = $(shell GOTOOLCHAIN=auto go version >/dev/null 2>&1 && echo auto || \
  { echo "cannot get the Go release that go.mod names: going on with the local one" >&2; echo local; })

# A process with the race detector sleeps a second before it exits, which is for races at exit. A test
# run ends some 300 such processes.
export GORACE ?= atexit_sleep_ms=20

.PHONY: build licenses packaging pin-images newest test test-quick lint tidy checks unit unit-race unit-gate allocations drill fleet tour chart console console-pictures pebble keycloak servers upstreams fuzz bench bench-figures bench-quick bench-tokens bench-test bench-own clean

build: export GOTOOLCHAIN = $(RELEASE_GO)
build: ## the binary, version stamped
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/tallygate/tallygate/internal/buildinfo.Version=$(VERSION)" -o tallygate ./cmd/tallygate

licenses: ## the licence texts of what is linked into the binary, as the image carries them
	rm -rf licenses
	CGO_ENABLED=0 go run ./internal/licenses -o licenses ./cmd/tallygate

newest: export GOTOOLCHAIN = $(RELEASE_GO)
newest: ## the attacks on HTTP/2, on a binary built by the Go release that go.mod names
	@go version
	TALLYGATE_STRESS=10s go test -count=1 -run '^TestHTTP2' ./cmd/tallygate

test: $(LINT) $(VULNCHECK) $(TESTSUM) $(HELM) $(UNITTEST) $(PEBBLE) $(H2SPEC) $(AXE) $(SBOM) $(UPSTREAMS)/python ## everything; the drill comes last, alone on the machine
	$(MAKE) -j3 checks unit-race unit-gate
	$(MAKE) drill

checks: ## what runs beside the tests, one after the other
	$(MAKE) lint
	$(MAKE) tidy
	$(MAKE) tour
	$(MAKE) allocations
	$(MAKE) chart
	$(MAKE) packaging
	$(MAKE) console
	$(MAKE) bench-test

test-quick: ## what finds most mistakes in a minute or so: no race detector, no load, no real peers, no lint
	go test -short ./...

lint: $(LINT) $(VULNCHECK) ## linters, import directions, retired words, known vulnerabilities
	$(LINT) run ./...
	cd charts/test && ../../$(LINT) run ./...
	cd internal/console/browsertest && ../../../$(LINT) run ./...
	cd charts/test/kubernetes && ../../../$(LINT) run ./...
	cd deploy/test && ../../$(LINT) run ./...
	cd bench && ../$(LINT) run ./...
	go test -count=1 -run '^TestRetiredPhrases$$' ./docs
	GOTOOLCHAIN=$(RELEASE_GO) deploy/vulncheck $(VULNCHECK)

tidy: ## go.mod and go.sum say exactly what is used
	go mod tidy -diff
	cd charts/test && go mod tidy -diff
	cd internal/console/browsertest && go mod tidy -diff
	cd charts/test/kubernetes && go mod tidy -diff && GOFLAGS=-modfile=1.34.mod go mod tidy -diff
	cd deploy/test && go mod tidy -diff
	cd bench && go mod tidy -diff

unit: unit-race unit-gate ## all tests, fuzz seeds included, race detector on

# Lint has run go vet.
unit-race: $(TESTSUM) $(PEBBLE)
	$(TESTSUM) --format pkgname-and-test-fails -- -race -vet=off -shuffle=on -parallel 4 -timeout 14m $$(go list ./... | grep -v /cmd/tallygate)

# The gates that these tests run have the race detector; the tests themselves are clients.
unit-gate: $(TESTSUM) $(HELM) $(PEBBLE) $(H2SPEC) $(SBOM) $(UPSTREAMS)/python
	TALLYGATE_RACE=1 $(TESTSUM) --format pkgname-and-test-fails -- -vet=off -shuffle=on -parallel 4 -timeout 14m -skip '^(TestOneHostilePartner|$(FLEET_DRILLS))$$' ./cmd/tallygate

# Under the race detector sync.Pool drops items on purpose, so unit-race skips these tests.
allocations: ## what a granted request allocates
	go test -count=1 -run 'Allocations' ./proxy ./internal/httpserver ./internal/upstream

# They start databases and processes while other tests measure memory, so drill runs them.
FLEET_DRILLS = TestFleet(DatabaseRestart|IssuerKilled|Failover|NotificationsLost|SidecarKilled)

drill: ## alone on the machine: one hostile partner beside an honest one, at most 0.1 % of the honest requests fail; and what breaks a fleet
	TALLYGATE_DRILL=$${TALLYGATE_DRILL:-20s} go test -count=1 -vet=off -run '^TestOneHostilePartner$$' -timeout 30m -v ./cmd/tallygate
	go test -count=1 -vet=off -run '^$(FLEET_DRILLS)$$' -timeout 10m -v ./cmd/tallygate

fleet: ## revocations in a fleet: two issuers on PostgreSQL, 50 sidecars, and everything that breaks; it needs PostgreSQL and takes ten minutes
	TALLYGATE_FLEET=$${TALLYGATE_FLEET:-50,1000} TALLYGATE_FLEET_PICTURE=$(CURDIR)/docs/scaling.svg go test -tags fleet -count=1 -vet=off -run '^TestFleet' -timeout 40m -v ./cmd/tallygate

tour: ## the demo as a newcomer sees it
	go run ./cmd/tallygate demo --tour

chart: $(HELM) $(UNITTEST) ## the Helm chart: its unit tests, and rendered in all its forms and read by the types of three Kubernetes versions
	@set -e; for values in charts/tallygate/ci/*-values.yaml; do \
	  $(HELM) lint --strict --quiet charts/tallygate --values $$values; \
	done
	$(UNITTEST) charts/tallygate
	cd charts/test && go test -count=1 ./...
	cd charts/test/kubernetes && go test -count=1 . && GOFLAGS=-modfile=1.34.mod go test -count=1 .

packaging: ## the Dockerfile and the compose file, read by the parsers that Docker uses
	cd deploy/test && go test -count=1 ./...

# An image of a registry is named by its digest, which only the registry can tell. The tag stays, to
# say what the digest is of.
pin-images: ## write the digests of the images in the Dockerfile beside their tags; it needs docker buildx
	@set -e; for image in $$(sed -nE 's/^FROM (--platform=[^ ]+ )?([a-z0-9./-]+:[^ @]+).*/\2/p' Dockerfile); do \
	  digest=$$(docker buildx imagetools inspect "$$image" --format '{{.Manifest.Digest}}'); \
	  sed -E -i "s|^(FROM .*)$$image(@sha256:[0-9a-f]+)?( .*)?$$|\1$$image@$$digest\3|" Dockerfile; \
	done; grep -n '^FROM' Dockerfile

console: $(AXE) ## the console in Chromium: every page in light and dark, by axe-core, by keyboard and without JavaScript
	cd internal/console/browsertest && TALLYGATE_AXE=$(CURDIR)/$(AXE)/axe.min.js go test -count=1 . $(CONSOLE_FLAGS)

console-pictures: ## the pictures of docs/console.md
	$(MAKE) console CONSOLE_FLAGS='-run TestPictures -args -update'

pebble: $(PEBBLE) ## the ACME server of the tests, which skip what needs it

keycloak: $(KEYCLOAK) ## the Keycloak of TestKeycloak, by Maven; it needs a JDK of 17 or newer

servers: $(KEYCLOAK) ## the gate with other real authorization servers, as docs/servers says; it needs a JDK, Maven and node
	TALLYGATE_KEYCLOAK=1 TALLYGATE_SPRING=1 go test -count=1 -run '^(TestKeycloak|TestSpring|TestForeignServer.*)$$' -timeout 30m -v ./cmd/tallygate

upstreams: $(UPSTREAMS)/python $(UPSTREAMS)/java ## the gate before 16 real servers; it needs nginx, apache2, lighttpd, h2o, varnish, node, puma, a JDK and Maven
	TALLYGATE_UPSTREAMS=1 go test -count=1 -run '^TestRealUpstreams$$' -timeout 10m -v ./cmd/tallygate

fuzz: ## 30 s of every fuzz target
	@set -e; for package in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	    echo "$$package $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime 30s $$package; \
	  done; \
	done

bench: ## side by side with other proxies, which are installed where that is allowed; about an hour
	cd bench && go run . -install

bench-figures: ## the main figures alone; about ten minutes
	cd bench && go run . -install -figures -rounds 5

bench-quick: ## the ratios against nginx, in less than a minute
	cd bench && go run . -quick

bench-tokens: ## the token endpoint on a file and on PostgreSQL, beside Node's oidc-provider; it needs node, npm and PostgreSQL
	cd bench && TALLYGATE_BENCH_TOKENS=1 go test -count=1 -run '^TestTokens$$' -timeout 20m -v ./tokens

bench-test: ## the tests of the benchmark
	cd bench && go test -count=1 ./...

bench-own: ## our own work on the hot path, and at the token endpoint
	go test -run '^$$' -bench . -benchmem ./mtls ./proxy ./validate ./policy ./issuer/...

clean:
	rm -rf .tools tallygate licenses share dist

$(LINT):
	GOBIN=$(CURDIR)/.tools go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv .tools/golangci-lint $@

$(VULNCHECK):
	GOTOOLCHAIN=$(RELEASE_GO) GOBIN=$(CURDIR)/.tools go install golang.org/x/vuln/cmd/govulncheck@$(VULNCHECK_VERSION)
	mv .tools/govulncheck $@

$(SBOM):
	GOBIN=$(CURDIR)/.tools go install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(SBOM_VERSION)
	mv .tools/cyclonedx-gomod $@

$(TESTSUM):
	GOBIN=$(CURDIR)/.tools go install gotest.tools/gotestsum@$(GOTESTSUM_VERSION)
	mv .tools/gotestsum $@

$(HELM):
	GOBIN=$(CURDIR)/.tools go install helm.sh/helm/v4/cmd/helm@$(HELM_VERSION)
	mv .tools/helm $@

# Its go.mod has a replace directive, which go install refuses.
$(UNITTEST):
	cd "$$(go mod download -json github.com/helm-unittest/helm-unittest@$(UNITTEST_VERSION) | sed -n 's/^\t"Dir": "\(.*\)",*$$/\1/p')" && \
	  go build -o $(CURDIR)/$@ ./cmd/helm-unittest

$(PEBBLE):
	GOBIN=$(CURDIR)/.tools go install github.com/letsencrypt/pebble/v2/cmd/pebble@$(PEBBLE_VERSION)
	mv .tools/pebble $@

$(H2SPEC):
	GOBIN=$(CURDIR)/.tools go install github.com/summerwind/h2spec/cmd/h2spec@$(H2SPEC_VERSION)+incompatible
	mv .tools/h2spec $@

# axe-core is for tests alone. Its licence, MPL-2.0, is beside it.
$(AXE):
	npm install --silent --no-save --ignore-scripts --no-audit --no-fund --prefix $@.new axe-core@$(AXE_VERSION)
	mv $@.new/node_modules/axe-core $@
	rm -r $@.new

# Maven's own settings name the registry. The options of build are those that Keycloak fixes
# when it is built: a database in memory, and client certificates.
$(KEYCLOAK):
	mkdir -p $@.new
	mvn -q -B dependency:copy -Dartifact=org.keycloak:keycloak-quarkus-dist:$(KEYCLOAK_VERSION):zip -DoutputDirectory=$(CURDIR)/$@.new
	cd $@.new && jar xf keycloak-quarkus-dist-$(KEYCLOAK_VERSION).zip && chmod +x keycloak-$(KEYCLOAK_VERSION)/bin/*.sh
	$@.new/keycloak-$(KEYCLOAK_VERSION)/bin/kc.sh build --db=dev-mem --https-client-auth=request
	mv $@.new/keycloak-$(KEYCLOAK_VERSION) $@
	rm -r $@.new

# The versions are in the files of testdata/upstreams. A new one there needs a new folder here and in
# upstream_servers_test.go.
$(UPSTREAMS)/python:
	python3 -m venv $(UPSTREAMS)/venv
	$(UPSTREAMS)/venv/bin/pip install --quiet --disable-pip-version-check --requirement cmd/tallygate/testdata/upstreams/requirements.txt
	touch $@

$(UPSTREAMS)/java:
	mvn -q -B -f cmd/tallygate/testdata/upstreams/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$@.new
	mv $@.new $@
