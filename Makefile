# Everything a contributor or CI does, as targets. The virtual environment is built from
# the hashed lock and rebuilt when the lock changes; nothing else is needed beforehand
# but Python >= 3.11 with venv.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where it is set, each of some hundred processes compiles the product anew, and each
# process of tests all tests.
export PYTHONDONTWRITEBYTECODE :=
ARGS   ?=
# Processes of tests: two for each core, since much of it is waiting, and six at most.
# `make test WORKERS=0` is one after the other.
WORKERS ?= $(shell n=$$(( $$(nproc 2>/dev/null || echo 2) * 2 )); echo $$(( n < 6 ? n : 6 )))
# Without Ray, a browser, a server of Valkey's or a process of ours.
PURE    := $(wildcard tests/test_*.py tests/cfmessenger/test_*.py) \
  $(addprefix tests/cfmessenger/,chat wire link bots load) \
  tests/actors/test_gates.py tests/actors/test_heat.py tests/actors/test_kinds.py

.DEFAULT_GOAL := help
.PHONY: help install run test test-long test-fast lint lint-js types format load bench capacity chaos \
  machines machines-smoke sim clean lock

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 18

install: $(STAMP) ## build .venv from the lock, if it is not there or the lock has changed

run: $(STAMP) ## install what is missing, then start everything (cfmessenger up)
	@exec $(BIN)/cfmessenger up $(ARGS)

test: $(STAMP) ## run the tests (ARGS="-k room" narrows them, WORKERS=0 is one by one)
	$(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder \
	  --durations 20 --durations-min 1 $(ARGS)

test-long: export TESTS := long
test-long: test ## ... with every random example and seed, and what takes minutes

test-fast: $(STAMP) ## the tests of the pure parts, in less than a minute
	$(BIN)/python -m pytest -n $(WORKERS) -q $(PURE) --ignore tests/test_packaging.py \
	  $(addprefix --ignore tests/cfmessenger/load/test_,sabotage.py scenarios.py) $(ARGS)

lint: $(STAMP) ## ruff: rules and formatting; vulture: what nothing calls
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/vulture

lint-js: node_modules/.package-lock.json ## eslint and the types of the web client (npm)
	npm run --silent lint

types: $(STAMP) ## mypy --strict on the three packages
	$(BIN)/mypy

format: $(STAMP) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

load: $(STAMP) ## the load harness (cfmessenger load)
	@exec $(BIN)/cfmessenger load $(ARGS)

bench: $(STAMP) ## our figures beside peers', ~30 min each time (ARGS="--quick", "--write")
	@$(BIN)/python -m tests.bench $(ARGS)

capacity: $(STAMP) ## the cost model's page, ~40 min (ARGS="--write", "--sweeps presence")
	@$(BIN)/python -m tests.bench.cost $(ARGS)

chaos: $(STAMP) ## kill everything under load and check (SECONDS= SEED= GATEWAYS= PLACEMENT=)
	@$(BIN)/python -m tests.system.chaos --seconds $(or $(SECONDS),60) \
	  --gateways $(or $(GATEWAYS),2) --placement $(or $(PLACEMENT),auto) \
	  $(if $(POOL_SIZE),--pool-size $(POOL_SIZE)) \
	  $(if $(SEED),--seed $(SEED)) $(ARGS)

machines: $(STAMP) ## break a cluster of three machines (ROW= RUNS=; root; ARGS="--list")
	@$(BIN)/python -m tests.system.machines $(if $(ROW),--row $(ROW)) \
	  --runs $(or $(RUNS),1) $(ARGS)

machines-smoke: $(STAMP) ## ... a few rows of it, as tests
	MACHINES=1 $(BIN)/python -m pytest -q tests/system/machines $(ARGS)

sim: $(STAMP) ## simulate (SEEDS=20000; SEED=n traces one; SABOTAGE=all is the proof)
	@$(BIN)/python -m tests.system.sim $(if $(SEEDS),--seeds $(SEEDS)) \
	  $(if $(SEED),--seed $(SEED)) $(if $(SABOTAGE),--sabotage $(SABOTAGE)) $(ARGS)

node_modules/.package-lock.json: package-lock.json
	npm ci --no-audit --no-fund
	@touch $@

clean: ## remove the environment, caches and builds (never .cfmessenger, the data)
	rm -rf $(VENV) node_modules dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find cfmessenger actors gateway tests -name __pycache__ -prune -exec rm -rf {} +

lock: # needs uv; UPGRADE=--upgrade takes newer releases
	uv pip compile --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --quiet $(UPGRADE) \
	  --group dev pyproject.toml -o requirements.lock

# Built from scratch each time: an environment that was half-way through an install, or
# still holds what the lock dropped, is not one to repair.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; say which: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Installing into $(VENV) (once; Ray alone is 70 MB)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip check
	@touch $@
