# make demo     all four flows on the bundled model: demo/index.html  (PROMPT="…" and IMAGE=path are yours to choose)
# make test     lint, types and every test
# make docs     the site of the documentation, with a gallery: build/site/index.html
# make package  the sdist and the wheel, in dist
# make setup    only what `make demo` needs, in .venv
# make clean    removes .venv and what was made
PYTHON ?= python3
WORKERS ?= auto
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
export override PROMPT := $(value PROMPT)
export override IMAGE := $(value IMAGE)

.PHONY: demo test types suite docs package setup clean
.DEFAULT_GOAL := demo

demo: setup
	@$(VENV)/bin/vd demo --overwrite $${PROMPT:+--prompt "$$PROMPT"} $${IMAGE:+--image "$$IMAGE"}

test: $(VENV)/.dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	@$(MAKE) --no-print-directory --jobs 2 types suite

types: $(VENV)/.dev
	$(VENV)/bin/pyright

suite: $(VENV)/.dev
	PYTHONDONTWRITEBYTECODE= $(VENV)/bin/pytest -n $(WORKERS) --dist loadgroup --max-worker-restart 0

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --config-file website/mkdocs.yml

package: $(VENV)/.package
	$(VENV)/bin/hatchling build --directory dist

setup: $(VENV)/.demo

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Say which: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV), which takes some minutes"
	@$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV), which takes some minutes"
	@$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV), which takes some minutes"
	@$(PIP) install --quiet -c constraints.txt -e '.[docs]'
	@touch $@ $(VENV)/.demo

$(VENV)/.package: constraints.txt | $(VENV)/bin/python
	@$(PIP) install --quiet -c constraints.txt hatchling
	@touch $@

clean:
	rm -rf $(VENV) demo outputs build dist .pytest_cache .ruff_cache .hypothesis
