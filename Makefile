# `make` alone lists what there is. Variables are given behind it: make up PORT=9000 WORKERS=2
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help up setup test soak fuzz clients-test lint types proto proto-check bench compose-test wheel-test lock clean

# Of `make up` (deploy/up.py says what each means and checks them)
export PORT HOST MODEL WORKERS THREADS GPU EMBED
# Some shells use this name for something else.
ifneq ($(origin HOST),command line)
HOST := 127.0.0.1
endif

ifneq ($(filter-out cuda vulkan metal,$(GPU)),)
$(error GPU=$(GPU): not one of cuda, vulkan, metal)
endif

VENV := .venv
PY := $(VENV)/bin/python
ARGS :=

# The environment is as good as the files it was made from: their contents are in the stamp's name.
INPUTS := requirements/dev.txt deploy/llama_wheel.py deploy/setup.py
STAMP := $(VENV)/.ready-$(shell cat $(INPUTS) | cksum | cut -d' ' -f1)-$(or $(GPU),cpu)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  Variables of make up: PORT=8000 MODEL= WORKERS=1 THREADS= GPU= EMBED= HOST=127.0.0.1"

up: $(STAMP) ## set up, then run the edge and a llama worker on the demo model; Ctrl-C stops them
	@$(PY) -m deploy.up

setup: $(STAMP) ## make .venv from the hashed locks and build llama.cpp (minutes, once); start nothing
	@echo "setup: ready"

test: $(STAMP) ## set up, then run the whole test suite (ARGS="-k name" for a part)
	@$(PY) -m pytest $(ARGS)

soak: $(STAMP) ## 2,000 mixed requests to the engine over llama.cpp; a minute or two
	@$(PY) -m pytest -m soak $(ARGS)

fuzz: $(STAMP) ## 10,000 hostile bodies and requests drawn from the description; some minutes
	@$(PY) -m pytest -m fuzz $(ARGS)

lint: $(STAMP) ## formatting, lint, layering, contract style
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/buf lint

types: $(STAMP) ## strict type checking
	$(VENV)/bin/mypy

PROTO := protos/inference/v1/inference.proto
# $(call protoc,DIR): the generated modules, under DIR/protos
protoc = PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PY) -m grpc_tools.protoc -I. \
	--python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) $(PROTO)

proto: $(STAMP) ## regenerate the modules beside the contract
	$(call protoc,.)

proto-check: $(STAMP) ## fail when the committed modules are not what the contract generates
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; $(call protoc,$$dir); cd "$$dir"; \
	for made in protos/inference/v1/*; do \
		cmp -s "$(CURDIR)/$$made" "$$made" || { echo "$$made is stale: run make proto" >&2; exit 1; }; \
	done; echo "generated modules: up to date"

bench: $(STAMP) ## measure any OpenAI base URL (ARGS="--help" says how)
	@$(PY) -m bench $(ARGS)

compose-test: $(STAMP) ## build and drive the compose stack; needs Docker (BASE_IMAGE= names the Python base)
	@$(PY) -m tests.compose $(ARGS)

wheel-test: $(STAMP) ## build the package, install it elsewhere from the locks, serve one request
	@$(PY) -m deploy.wheel_test

UV := .uv/bin/uv
$(UV):
	python3 -m venv .uv && .uv/bin/pip install --quiet uv==0.13.8

clients-test: $(STAMP) $(UV) ## clients that people use, each in an environment of its own, over the demo model
	@$(PY) -m tests.clients $(ARGS)

# llama-cpp-python is left out: deploy/llama_wheel.py builds it, with a hash of its own.
LOCK := $(UV) pip compile --quiet pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-package llama-cpp-python --no-header --no-annotate
lock: $(UV) ## pin what pyproject.toml asks for, with hashes (UPGRADE=1: everything to its newest)
	@$(if $(UPGRADE),rm -f requirements/*.txt)
	$(LOCK) --extra llama --group dev -o requirements/dev.txt
	$(LOCK) --extra llama -c requirements/dev.txt -o requirements/worker.txt
	$(LOCK) -c requirements/dev.txt -o requirements/edge.txt

clean: ## remove what was built here (not the cache of llama.cpp wheels)
	rm -rf $(VENV) .uv tests/clients/.cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): $(INPUTS)
	@python3 deploy/setup.py $(VENV) $@
