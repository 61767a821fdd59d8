# Everything from a fresh machine with Python >= 3.11, git and make. `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CODE := kit catalog completions recommenders services stack cli bench tests protos/generate.py

# Compile each module once, whatever this shell is set to: tests and services are hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: install
install: $(READY) ## Make .venv with exactly what locks/dev.txt says

$(READY): locks/dev.txt pyproject.toml scripts/install.sh
	@PYTHON="$(PYTHON)" bash scripts/install.sh $(VENV) locks/dev.txt
	@touch $@

.PHONY: up
up: $(READY) ## Start a whole Turnout on this machine and print how to call it; Ctrl-C stops it
	@$(BIN)/turnout up $(ARGS)

.PHONY: demo
demo: $(READY) ## Show the main job: two prompts and two recommenders, called and measured; KEEP=1 leaves it running
	@$(BIN)/turnout demo $(if $(KEEP),--keep) $(ARGS)

.PHONY: check
check: lint test-fast ## Format, lint, types, imports, contracts, fast tests: under two minutes

.PHONY: lint
lint: $(READY)
	$(BIN)/ruff format --check --quiet $(CODE)
	$(BIN)/ruff check --quiet $(CODE)
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy $(CODE)
	@$(MAKE) --no-print-directory protos-check

.PHONY: test-fast
test-fast: $(READY)
	$(BIN)/pytest -q -m "not slow and not thorough" --numprocesses 2 --dist loadfile

.PHONY: test-thorough
test-thorough: $(READY)
	$(BIN)/pytest -q -m "thorough and not slow" --numprocesses 2 --dist loadfile

.PHONY: test
test: test-fast test-thorough ## All tests: first those that run side by side, then whole installations two at a time
	$(BIN)/pytest -q -m slow --numprocesses 2 --dist loadfile

.PHONY: protos
protos: $(READY) ## Generate protos/gen from the contracts
	@cd protos && ../$(BIN)/buf format -w
	@$(BIN)/python protos/generate.py

.PHONY: protos-check
protos-check: $(READY) ## Lint the contracts; fail if protos/gen is not what they say
	@cd protos && ../$(BIN)/buf format -d --exit-code
	@$(BIN)/python protos/generate.py --check
	@cd protos && ../$(BIN)/buf lint gen/image.binpb --config buf.yaml

BENCHMARKS := $(patsubst bench/%.py,%,$(shell grep -lE '^"""[^"]*`make bench( WHAT|`)' bench/*.py))

.PHONY: bench
bench: $(READY) ## Benchmarks; WHAT=run by default
	@case " $(BENCHMARKS) " in *" $(or $(WHAT),run) "*) ;; *) \
		echo "no benchmark is called '$(WHAT)'; there are: $(BENCHMARKS)" >&2; exit 2;; esac
	@$(BIN)/python -m bench.$(or $(WHAT),run) $(ARGS)

.PHONY: bench-peers
bench-peers: $(READY) ## Install the gateways that `make bench WHAT=http` is measured beside, into .peers
	@PYTHON="$(PYTHON)" bash scripts/bench_peers.sh .peers $(VENV)

.PHONY: lock
lock: $(READY) ## Resolve pyproject.toml anew into locks/
	@$(BIN)/python scripts/lock.py

.PHONY: clean
clean: ## Remove what the targets made, data of `make up` included
	rm -rf $(VENV) .peers .turnout .mypy_cache .ruff_cache .pytest_cache .hypothesis
