# `make` or `make help` lists the targets. Each target installs what it needs, once.

PYTHON ?= python3
URI ?=
ARGS ?=
SECONDS ?= 600
WORKERS ?= 4
RUNBOOKS ?=
RELEASE ?= trixie
BASE ?= trixie

VENV := .venv
BIN := $(VENV)/bin
INSTALL_PACKAGES := scripts/install-packages
INSTALL_HERE := scripts/install-here $(VENV)
SHELL_SCRIPTS = $(shell grep -ls '^\#!/usr/bin/env bash' .ci/* scripts/*)

# Nova comes only from Debian's packages. On other systems make skips the comparison and says so.
NOVA := /usr/lib/python3/dist-packages/nova

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHON URI

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

.PHONY: help
help: ## List the targets
	@echo 'hypervisor-exporter: what make can do here'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo '  URI=...     what make run watches (default: a made-up hypervisor, deploy/demo/hypervisor.xml)'
	@echo '  ARGS=...    passed on to hypervisor-exporter (make run) or to pytest (make test, test-on, test-pythons)'
	@echo '  WORKERS=... how many tests run at the same time (default 4; 0: one after the other)'
	@echo '  PYTHONS=... the versions of make test-pythons, such as "3.10 3.12" (default: all that are supported)'
	@echo '  RELEASE=... the Debian of make test-on: bookworm, trixie, sid'
	@echo '  BASE=...    the Debian that make image is made of: trixie (default) or bookworm'
	@echo '  SECONDS=... how long make fuzz takes for each target (default $(SECONDS))'
	@echo '  RUNBOOKS=.. address of your copy of docs/runbooks, for the links of the Grafana boards'
	@echo '  PYTHON=...  interpreter that a new $(VENV) is made with (3.10 or newer)'

.PHONY: run
run: $(VENV)/.run ## Run the exporter: make run URI=qemu:///system
	@exec $(BIN)/python -m scripts.run $(ARGS)

.PHONY: test
test: $(VENV)/.dev ## Run all tests: make test ARGS='tests/unit -k cpu_spec'
	@$(INSTALL_PACKAGES) test image deb packages
	@scripts/fetch-engines
	@scripts/fetch-guest-kernel
	@scripts/fetch-debian-exporter
	@echo '==> Testing (pytest)'
	@left_out=; [ -d $(NOVA) ] || { left_out=--ignore=tests/conformance; \
	    echo '==> Skipped: tests/conformance compares with Nova itself, and only Debian has Nova (python3-nova)'; }; \
	$(BIN)/python -m pytest -n $(WORKERS) $$left_out $(ARGS)

.PHONY: test-pythons
test-pythons: ## Run the unit tests under every Python 3.10 to 3.14 found on this machine
	@$(INSTALL_PACKAGES) run test
	@PYTHONS='$(PYTHONS)' scripts/test-pythons $(ARGS)

.PHONY: test-on
test-on: ## Run all tests on a bare Debian, made for it: make test-on RELEASE=trixie ARGS='tests/contract'
	@$(INSTALL_PACKAGES) fresh-root
	@scripts/test-on '$(RELEASE)' $(ARGS)

.PHONY: test-bare
test-bare: ## Run all tests on bare Debian 12, 13 and unstable at the same time, as CI does
	@$(INSTALL_PACKAGES) fresh-root
	@scripts/test-bare bookworm trixie sid

.PHONY: compatibility
compatibility: $(VENV)/.dev ## Write docs/compatibility.md from the results of make test-on
	@echo '==> Writing docs/compatibility.md'
	@$(BIN)/python -m scripts.generate_compatibility

.PHONY: fuzz
fuzz: $(VENV)/.dev ## Fuzz all parsers of foreign input: make fuzz SECONDS=600 (each target)
	@for target in $$(ls tests/fuzz/corpus); do \
	    echo "==> Fuzzing $$target for $(SECONDS) s"; \
	    $(BIN)/python -m tests.fuzz.run $$target $(SECONDS) || exit 1; \
	done

.PHONY: mutants
mutants: $(VENV)/.mutants ## Count the small changes of the code that no unit test notices: make mutants ARGS=exporter/placement
	@$(BIN)/python -m scripts.mutants $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev ## Check style and types
	@$(INSTALL_PACKAGES) lint
	@echo '==> Checking style (ruff)'
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo '==> Checking types (mypy)'
	@$(BIN)/mypy
	@echo '==> Checking shell scripts (shellcheck)'
	@shellcheck $(SHELL_SCRIPTS)
	@echo '==> Looking for commits that were undone by accident (scripts/find_undone.py)'
	@$(BIN)/python -B -m scripts.find_undone

.PHONY: check
check: lint test ## Check style and types, and run all tests

.PHONY: docs
docs: $(VENV)/.dev ## Write docs/metrics.md, the tables of docs/migrating.md, the man page and the completion from the declarations
	@echo '==> Writing docs/metrics.md, docs/migrating.md, the man page and the completion'
	@$(BIN)/python -m scripts.generate_docs
	@$(BIN)/python -m scripts.generate_names
	@$(BIN)/python -m scripts.generate_manual

.PHONY: dashboards
dashboards: $(VENV)/.dev ## Write the Grafana boards from their source: make dashboards RUNBOOKS=https://...
	@echo '==> Writing grafana/dashboards'
	@$(BIN)/python -m grafana.generate $(RUNBOOKS)

.PHONY: board-pictures
board-pictures: $(VENV)/.dev ## Draw docs/images/board-*.png: make board-pictures RENDERER=PATH (scripts/draw_boards.py says what that is)
	@$(BIN)/python -m scripts.draw_boards $(RENDERER)

.PHONY: golden
golden: $(VENV)/.dev ## Write tests/golden/metrics*.txt anew, after an intended change of /metrics
	@echo '==> Writing the golden files (pytest); git diff tests/golden shows what changed'
	@$(BIN)/python -m pytest -q tests/golden --update-golden

.PHONY: bench
bench: $(VENV)/.dev ## Measure beside others on a real libvirtd: make bench ARGS='--guests 10'
	@$(INSTALL_PACKAGES) test bench
	@echo '==> Measuring (writes docs/performance.md; 15 minutes or so)'
	@$(BIN)/python -m bench $(ARGS)

.PHONY: bench-load
bench-load: $(VENV)/.dev ## Load it with 50 scrapers over TLS for ten minutes while guests start and stop
	@$(INSTALL_PACKAGES) test
	@echo '==> Loading (writes docs/performance.md; 10 minutes)'
	@$(BIN)/python -m bench.load $(ARGS)

.PHONY: bench-attacks
bench-attacks: $(VENV)/.dev ## Attack it in every way at once for ten minutes beside one Prometheus
	@$(INSTALL_PACKAGES) test
	@echo '==> Attacking (writes docs/performance.md; 10 minutes)'
	@$(BIN)/python -m bench.attacks $(ARGS)

.PHONY: image
image: ## Build the container image without a container engine: make image BASE=bookworm (with one: docker build .)
	@$(INSTALL_PACKAGES) image
	@scripts/build-image --base='$(BASE)' dist/hypervisor-exporter-image.tar

.PHONY: pin-images
pin-images: ## Pin the images that are built on and tried out to their present digests (needs the registries)
	@$(INSTALL_PACKAGES) pin
	@scripts/pin-images

.PHONY: deb
deb: ## Build the Debian package
	@$(INSTALL_PACKAGES) deb
	@scripts/build-deb

.PHONY: screenshots
screenshots: $(VENV)/.dev ## Take the screenshots in docs/images
	@$(INSTALL_PACKAGES) test
	@echo '==> Taking pictures of the page (chromium)'
	@$(BIN)/python -m scripts.screenshots

.PHONY: lock
lock: $(VENV)/.dev ## Pin what the exporter needs at run time, with hashes
	@echo '==> Writing deploy/requirements.lock'
	@scripts/lock

.PHONY: sbom
sbom: $(VENV)/.dev ## Write a bill of materials (CycloneDX)
	@scripts/sbom

.PHONY: clean
clean: ## Remove everything that make made here
	@echo '==> Removing $(VENV), .cache, dist and the tools'"'"' caches'
	@rm -rf --one-file-system $(VENV) .cache build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are in the virtual environment, so they disappear with it. Each run checks the environment. The system is
# checked only when something has to be installed.
.PHONY: FORCE
FORCE:

$(VENV)/.python: FORCE
	@GOALS='$(MAKECMDGOALS)' scripts/make-venv $(VENV)

$(VENV)/.run: pyproject.toml $(VENV)/.python
	@echo '==> Installing hypervisor-exporter into $(VENV) (pip; compiles libvirt-python)'
	@$(INSTALL_HERE) .
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.run
	@echo '==> Installing the development tools into $(VENV) (pip)'
	@$(INSTALL_HERE) '.[dev]'
	@touch $@

$(VENV)/.mutants: pyproject.toml $(VENV)/.dev
	@echo '==> Installing mutmut into $(VENV) (pip)'
	@$(INSTALL_HERE) '.[dev,mutants]'
	@touch $@
