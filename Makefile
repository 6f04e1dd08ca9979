# `make run` shows the product at work from nothing; `make test` proves it.
PYTHON ?= $(shell command -v /usr/bin/python3 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: install run test lint bench clean

install:
	@sh scripts/install.sh "$(PYTHON)" "$(VENV)"

run: install
	@$(BIN)/python scripts/tour.py

lint: install
	@$(BIN)/ruff check src tests scripts
	@$(BIN)/ruff format --check src tests scripts
	@$(BIN)/mypy

test: lint
	@$(BIN)/python -m pytest

bench: install
	@$(BIN)/python bench/run.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
