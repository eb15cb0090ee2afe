# The front door. `make` alone lists what there is; each target sets up what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := $(CURDIR)/.cache/venv/bin
GATES := $(VENV)/python tools/gates.py

# Everything that is made outside the checkout goes into the same cache, also where HOME cannot be written to.
export XDG_CACHE_HOME := $(shell $(PYTHON) tools/cache.py)
export HOME := $(shell $(PYTHON) tools/cache.py --home 2>/dev/null)
export PATH := $(VENV):$(PATH)

.PHONY: help setup demo demo-down estimate test lab-up lab-down lint units molecule sanity docs bench money soak clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | while IFS=$$'\t' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: ## make the virtual environment and the checkout's links
	@$(PYTHON) tools/setup.py

demo: setup ## rehearse the whole job on a lab: a cluster, shared GPUs, a capacity report, a second run without changes
	@$(VENV)/python tools/demo.py

demo-down: setup ## stop the demo's lab and remove all that it made
	@$(VENV)/python tools/demo.py --down

estimate: setup ## what the clusters of INVENTORY=path cost in a month, without credentials; with prices of REGION=us-east-1
	@$(VENV)/python tools/estimate.py $(if $(REGION),--region $(REGION)) "$(or $(INVENTORY),$(error say which one: make estimate INVENTORY=inventories/time_slicing))"

test: setup ## run every gate that a change has to pass
	@$(GATES)

lab-up: setup ## start a lab and leave it running
	@$(VENV)/python -m lab up

lab-down: setup ## stop that lab
	@$(VENV)/python -m lab down

lint: setup ## format, lint, types and ansible-lint
	@$(GATES) format lint types ansible-lint

units: setup ## unit and wire tests
	@$(GATES) units

molecule: setup ## Molecule's short set on a lab
	@$(GATES) molecule

sanity: setup ## ansible-test sanity on what users of the collection get
	@$(GATES) sanity

docs: setup ## lint the documentation, build the archive and hand it to Galaxy's importer
	@$(GATES) docs galaxy

bench: setup ## measure speed and memory
	@$(VENV)/python tests/bench/run.py

money: setup ## what pools cost by a decision model, with and without what is derived from sharing; writes docs/money.md
	@$(VENV)/python tests/bench/money/tables.py

soak: setup ## every Molecule scenario and every test, the long ones too
	@$(GATES) molecule-all tests-all

clean: ## remove what was made inside the checkout; the cache stays
	@rm -rf .ansible .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build collections gpuops-eks-*.tar.gz
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "clean: the cache stays in $(XDG_CACHE_HOME)/gpuops.eks"
