# `make run` shows the product at work from nothing; `make test` proves it.
# the interpreter of the environment; Debian's when empty (scripts/install.sh looks for it)
export PYTHON
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: install peers run unit check test test-all lint bench compat fuzz worlds mutate chaos clean

install:
	@sh scripts/install.sh "$(VENV)"

# what only the tests and the benchmark need; dockerd and its clients are Debian 13's, in a directory of their own
peers:
	@sh scripts/install.sh "$(VENV)" peers

run: install
	@$(BIN)/python scripts/tour

lint: install
	@$(BIN)/ruff check src tests scripts bench examples
	@$(BIN)/ruff format --check src tests scripts bench examples
	@$(BIN)/mypy

# under a minute, and without root
unit:
	@sh scripts/install.sh "$(VENV)" unit
	@$(BIN)/python -m pytest -q tests/unit tests/test_architecture.py tests/test_security.py

# one test file, folder or test, with its peers: `make check T=tests/e2e/test_run.py`
check: peers
	@test -n "$(T)" || { echo 'say which tests: make check T=tests/e2e/test_run.py' >&2; exit 2; }
	@$(BIN)/ruff check src tests scripts bench examples
	@$(BIN)/ruff format --check src tests scripts bench examples
	@$(BIN)/python -m pytest $(T)

test: peers lint
	@$(BIN)/python -m pytest

# everything, in hours: the long tests, each test with its largest number of rounds, all rows of the comparison
test-all: peers lint
	@WHERRY_FULL=1 WHERRY_FAULT_STEPS=all WHERRY_KILLS=200 WHERRY_STORM=100 WHERRY_MANY=200 \
		WHERRY_NAMES_CONTAINERS=200 WHERRY_POLICIES=500 WHERRY_POLICY_KILLS=20 WHERRY_RACE_ROUNDS=200 \
		WHERRY_STRESS_SECONDS=300 WHERRY_BUILDS=5000 WHERRY_BIG_LAYER=2147483648 WHERRY_FUZZ_SECONDS=600 WHERRY_CHAOS_SECONDS=600 \
		$(BIN)/python -m pytest --long
	@$(BIN)/python -m tests.compat.run

bench: peers
	@$(BIN)/python bench/run.py
	@$(BIN)/python bench/health.py
	@$(BIN)/python bench/streams.py
	@$(BIN)/python bench/images.py
	@$(BIN)/python bench/registry.py
	@$(BIN)/python bench/builds.py
	@$(BIN)/python bench/network.py

compat: peers
	@$(BIN)/python -m tests.compat.run

# README's two commands on bare Debian 12 and 13, each with cgroup v1 and v2; `make worlds WORLD=trixie-v2 T=tests/e2e`
worlds:
	@sh scripts/install.sh "$(VENV)" worlds
	@scripts/worlds $(if $(T),--tests "$(T)") $(WORLD)

# 60 one-line mistakes, each put before the tests; many hours, goes on where it was broken off; `make mutate ARGS=--report`
mutate: peers
	@scripts/mutate $(ARGS)

# random commands while wherryd, its helpers and monitors are killed at random; WHERRY_CHAOS_SECONDS=7200 for two hours
chaos: peers
	@scripts/chaos $(ARGS)

# ten minutes of random input for what reads strangers' bytes
fuzz: install
	@WHERRY_FUZZ_SECONDS=$${WHERRY_FUZZ_SECONDS:-600} $(BIN)/python -m pytest -q tests/fuzz

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
