# Everything that a newcomer or the build needs. `make run` and `make test` set themselves up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What running needs, and what developing needs besides.
READY := $(VENV)/.ready
TOOLS := $(VENV)/.tools
# TORCH=cpu gets torch without the libraries for NVIDIA's cards, from this index; another one may be named.
TORCH ?=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
NPM := $(BIN)/python tools/npm.py
COMMA := ,
PAGE := src/convoscope/studio/page/index.html
PAGE_SOURCES := $(shell find web -name node_modules -prune -o -type f -print)

.NOTPARALLEL:
.PHONY: run test check coverage docs format types clean help

help: ## List these commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

# The installation builds the page, too, and leaves npm's packages in web/node_modules.
$(READY) $(TOOLS): pyproject.toml hatch_build.py tools/npm.py
	$(PYTHON) -m venv $(VENV)
	$(if $(filter cpu,$(TORCH)),$(INSTALL) --index-url $(TORCH_INDEX) 'torch>=2.10' 'torchvision>=0.25')
	$(INSTALL) --editable '.$(if $(filter $(TOOLS),$@),[dev$(COMMA)docs])'
	touch $(READY) $@

# Without a Node, which the tools bring, the installation gets one for the time of the build.
$(PAGE): $(PAGE_SOURCES) | $(READY)
	$(NPM) run build || $(INSTALL) --no-deps --editable .

run: $(READY) $(PAGE) ## Train on built-in drawings, test on drawings it has not seen, write a report; in a terminal, open the studio
	$(BIN)/convoscope train builtin:drawings/apple,banana --model quickdraw
	@if [ -t 1 ]; then $(BIN)/convoscope studio || [ $$? -eq 130 ]; fi # Ctrl-C ends it

test: $(TOOLS) $(PAGE) ## Run every test; get a browser for those of the page
	$(BIN)/python tools/browser.py
	$(BIN)/python -m pytest tests/browser # by themselves: what a page shows while it trains needs a free processor
	$(BIN)/python -m pytest --ignore tests/browser --numprocesses auto --dist loadfile
	$(NPM) run test

check: $(TOOLS) ## Check formatting, run linters and strict types, of Python and of the page
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tools/systems.py
	$(NPM) run lint
	$(NPM) run check

# Not part of `make test`: on Python 3.11 counting lines makes the tests take 1.6 to 1.9 times as long.
coverage: $(TOOLS) $(PAGE) ## Run every Python test and say how much of the source they run
	$(BIN)/python tools/browser.py
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

docs: $(TOOLS) ## Build the handbook as a site in build/handbook; a broken link is an error
	$(BIN)/zensical build --strict --clean
	@echo 'Open build/handbook/index.html; to search in it, serve it: python3 -m http.server --directory build/handbook'

format: $(TOOLS) ## Format everything, and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(NPM) run format

types: $(TOOLS) ## Write the page's types again after a change of the server's messages
	$(BIN)/python -m convoscope.studio.schema > web/openapi.json
	$(NPM) run types
	rm web/openapi.json

clean: ## Remove everything that can be made again
	rm -rf $(VENV) build dist .cache .coverage* .pytest_cache .ruff_cache .mypy_cache .hypothesis web/node_modules src/convoscope/studio/page
