# Everything here starts from a fresh clone with Python 3.11 or newer, Git and make. `make help` lists the targets.
# Package indexes are the ones that pip or uv are configured for on this machine (pip.conf, PIP_*, uv.toml, UV_*).

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
MODEL ?= digits
PAGE_OF_digits := walkthrough
PAGE_OF_flight-delay := flight-delay
BIN := .venv/bin
# The stamp's name says what the environment was made from, so nothing is installed twice and nothing is forgotten.
STAMP := .venv/.made-from-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)
# uv does not read pip's settings: hand it the index and the certificates that pip would use.
UV = export VIRTUAL_ENV="$(CURDIR)/.venv"; \
	index=$$($(BIN)/python -m pip config list | sed -n "s/^[^=]*[.]index-url='\(.*\)'$$/\1/p" | head -1); \
	test -z "$$index$${UV_DEFAULT_INDEX-}" || export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$index}"; \
	test -z "$${PIP_CERT-}" || export SSL_CERT_FILE="$${SSL_CERT_FILE:-$$PIP_CERT}"; \
	$(BIN)/uv

export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help setup demo walkthrough tutorial pictures test test-browser servers test-forge test-cluster test-platform check generate
.PHONY: bench lock locks clean test-story test-gates test-clocked

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 18

setup: $(STAMP)  ## Make .venv with the `reconcile` command

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "trueup needs Python 3.11 or newer, and '$(PYTHON)' is not: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "hint: install one and name it, as in: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments." >&2; \
	  echo "hint: on Debian and Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/pip || { echo "making .venv (about 6 GB with torch; once)"; $(PYTHON) -m venv .venv; }
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt
	@test -t 2 && quiet= || quiet=--quiet; \
	$(UV) pip install $$quiet --compile-bytecode --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --no-deps --no-build-isolation -e .
	@rm -f .venv/.made-from-*
	@touch $@

# The demo runs from the wheel that a user would install, beside the dependencies that .venv has already.
# FORGE=gitea tells it with pull requests on a real Gitea, for a browser to look at; needs Go and gcc once.
# MODEL=flight-delay tells the longer one: a year of flights, new data, a mistake, drift.
demo: setup  ## Tell the whole story on this machine, from training to rollback (about 5 minutes)
	@rm -rf .demo/wheel
	@$(UV) build --quiet --wheel --no-build-isolation --out-dir .demo/wheel
	@$(BIN)/python -m venv --clear --without-pip .demo/venv
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(.demo/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"
	@$(UV) pip install --quiet --offline --no-deps --python .demo/venv/bin/python .demo/wheel/*.whl
	@.demo/venv/bin/python demo/story.py --model $(MODEL) $(if $(FORGE),--forge $(FORGE)) $(DEMO)

walkthrough:  ## Tell the story, write its page in docs/ from it, and renew what the README quotes of it
	@$(MAKE) demo DEMO="--transcript docs/$(PAGE_OF_$(MODEL)).md"
	@$(BIN)/python demo/quote.py

tutorial: setup  ## Go the newcomer's path on this machine and write docs/tutorial.md from it (about 2 minutes)
	@$(BIN)/python demo/tutorial.py --transcript docs/tutorial.md

pictures:  ## Tell the stories and write the pictures in docs/ from them, also on Gitea (needs Chromium)
	@$(MAKE) demo FORGE=gitea DEMO="--pictures docs/pictures"
	@$(MAKE) demo MODEL=flight-delay
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python demo/pages.py flight-delay evaluate.auc docs/pictures

test: setup  ## Run every test that needs nothing but Python and Git
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(TESTS)

test-story: setup  ## Tell the stories of the pages again, and those of five bad versions (about 15 minutes)
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup -m long tests $(TESTS)

# What looks at a clock is alone: a server that has to answer in time needs a core that nobody else wants.
CLOCKED = $(addprefix tests/gates/,test_load.py test_speed.py)

test-gates: setup  ## Plant faults in real models and their data, and see which gate catches each
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m gates tests/gates $(addprefix --ignore=,$(CLOCKED)) $(TESTS)

test-clocked: setup  ## The same for what looks at a clock, on a quiet machine (about 7 minutes)
	@$(BIN)/python -m pytest -m gates $(CLOCKED) $(TESTS)

test-browser: setup  ## Run the tests that look at pages (needs Chromium)
	@$(BIN)/python -m pytest -m browser tests $(TESTS)

servers: setup  ## Build what is missing of the real servers for tests (Go, gcc, npm; about 15 minutes, once)
	@$(BIN)/python -m tests.servers

test-forge: setup  ## Run the tests that need a real Gitea (builds it once: Go, gcc, about 6 minutes)
	@$(BIN)/python -m pytest -m forge tests $(TESTS)

# Servers that listen on every address do so in a network namespace, which no other machine reaches and which ends with the run.
ISOLATED = $(if $(filter 0,$(shell id -u)),unshare --net sh -c 'ip link set lo up; exec "$$@"' -)

test-cluster: setup  ## Run the tests that need a Kubernetes control plane (builds it once: Go, about 10 minutes; root)
	@$(BIN)/python -m tests.servers cluster || test "$${CI-}" != true
	@$(ISOLATED) $(BIN)/python -m pytest -m cluster tests $(TESTS)

test-platform: setup  ## Tell the whole story on all the real servers at once (those of both, and PostgreSQL; about 8 minutes)
	@$(BIN)/python -m tests.servers gitea cluster || test "$${CI-}" != true
	@$(ISOLATED) $(BIN)/python -m pytest -m platform tests $(TESTS)

bench: setup  ## Measure how quick things are, on a quiet machine, and write docs/benchmarks.md (BENCH=data: only that; gates: half an hour)
	@$(BIN)/python -m tests.bench $(BENCH)

check: setup  ## Format, lint, types, layers, workflows, and whether documents and generated files are up to date
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m workflows.templates --check
	@$(BIN)/python docs/generate.py --check
	@$(BIN)/reconcile validate
	@$(BIN)/reconcile policy test --coverage-min 100
	@$(BIN)/zizmor --offline --quiet .github >/dev/null || $(BIN)/zizmor --offline .github
	@if command -v go >/dev/null; then $(MAKE) --quiet $(BIN)/actionlint && $(BIN)/actionlint; \
	elif test -n "$${CI-}"; then echo "actionlint needs Go to be built: https://go.dev/doc/install" >&2; exit 1; \
	else echo "left out: actionlint, which needs Go to be built" >&2; fi

# Taken from the Go module proxy, by the versions and hashes beside its go.mod.
$(BIN)/actionlint: .github/actionlint/go.mod .github/actionlint/go.sum | $(STAMP)
	@go -C .github/actionlint build -o "$(CURDIR)/$@" github.com/rhysd/actionlint/cmd/actionlint

generate: setup  ## Rewrite what `make check` compares: workflows/rendered, docs/schemas, generated pages
	@$(BIN)/ruff format --quiet .
	@$(BIN)/python -m workflows.templates --write
	@$(BIN)/python docs/generate.py

lock: setup  ## Resolve pyproject.toml again into requirements.lock (UPGRADE=1 takes newer versions)
	@export UV_CUSTOM_COMPILE_COMMAND="make lock"; $(UV) pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --all-extras $(if $(UPGRADE),--upgrade) \
	  pyproject.toml --output-file requirements.lock
	@$(MAKE) locks

# What each image of deploy/Containerfile installs: the part of requirements.lock that it needs, hashes and all.
locks: setup
	@mkdir -p deploy/locks; export UV_CUSTOM_COMPILE_COMMAND="make lock"; \
	slice="pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --constraint requirements.lock"; \
	$(UV) $$slice pyproject.toml --output-file deploy/locks/reconciler.txt; \
	$(UV) $$slice pyproject.toml --extra steps --output-file deploy/locks/steps.txt; \
	$(UV) $$slice pyproject.toml --extra server --output-file deploy/locks/server.txt; \
	echo hatchling > .venv/build.in; $(UV) $$slice .venv/build.in --output-file deploy/locks/build.txt

clean:  ## Remove everything that make made, .venv too
	rm -rf .venv .demo dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
