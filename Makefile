# Everything that a newcomer or the build needs. `make run` and `make test` set themselves up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NPM := $(BIN)/python tools/npm.py
PAGE := src/convoscope/studio/page/index.html
PAGE_SOURCES := $(shell find web -name node_modules -prune -o -type f -print)

.PHONY: run test check coverage docs format types clean help

help: ## Say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

# The installation builds the page, too, and leaves npm's packages in web/node_modules.
$(READY): pyproject.toml hatch_build.py tools/npm.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,docs]'
	touch $(READY)

$(PAGE): $(PAGE_SOURCES) | $(READY)
	$(NPM) run build

run: $(READY) $(PAGE) ## Train on built-in drawings, test on drawings it has not seen, write a report; on a terminal, open the studio
	$(BIN)/convoscope train builtin:drawings/apple,banana --model quickdraw
	@if [ -t 1 ]; then $(BIN)/convoscope studio || [ $$? -eq 130 ]; fi # Ctrl-C is the way to leave it

test: $(READY) $(PAGE) ## Run every test; get a browser for those of the page
	$(BIN)/python tools/browser.py
	$(BIN)/python -m pytest
	$(NPM) run test

check: $(READY) ## Formatters, linter, strict types, of Python and of the page
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(NPM) run lint
	$(NPM) run check

# Apart from `make test`, since counting lines nearly doubles the time of the tests on Python 3.11.
coverage: $(READY) $(PAGE) ## Run every Python test and say how much of the source they run
	$(BIN)/python tools/browser.py
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

docs: $(READY) ## Build the handbook as a site in build/handbook; a broken link is an error
	$(BIN)/zensical build --strict --clean
	@echo 'Open build/handbook/index.html; to search in it, serve it: python3 -m http.server --directory build/handbook'

format: $(READY) ## Let the formatters decide
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(NPM) run format

types: $(READY) ## Make the page's types anew after a change of what the server says
	$(BIN)/python -m convoscope.studio.schema > web/openapi.json
	$(NPM) run types
	rm web/openapi.json

clean: ## Remove what can be made again
	rm -rf $(VENV) build dist .cache .coverage* .pytest_cache .ruff_cache .mypy_cache .hypothesis web/node_modules src/convoscope/studio/page
