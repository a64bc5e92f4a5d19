# Everything a newcomer or the build needs. `make run` and `make test` set themselves up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test check format clean help

help: ## Say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(READY)

run: $(READY) ## Train on built-in drawings, test on drawings it has not seen, write a report
	$(BIN)/convoscope train builtin:drawings/apple,banana --model quickdraw

test: $(READY) ## Run every test
	$(BIN)/python -m pytest

check: $(READY) ## Formatter, linter, strict types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY) ## Let the formatter decide
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove what can be made again
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
