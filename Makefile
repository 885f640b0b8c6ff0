# What is done with the project, each as one command. The first one makes .venv, with all that the
# others need; nothing outside this folder is changed.

PYTHONS := python3 python3.15 python3.14 python3.13 python3.12 python3.11 python
# The first Python of the machine that is new enough, unless one is given: make PYTHON=/path/to/it
PYTHON ?= $(shell for python in $(PYTHONS); do $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo $$python && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# For the command that a target runs, as in: make test ARGS="-k names"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test coverage lint typing check docs matrix prerelease chaos bench format clean

help:  ## show this
	@sed -n 's/^\([a-z]*\):[^#]*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r target what; do printf '%-12s%s\n' "$$target" "$$what"; done

install: .venv/installed  ## make .venv, with all that development needs

# What runs operators is there first: a demo needs no more.
.venv/runs: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "This needs Python 3.11 or newer: none of $(PYTHONS) is." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install --constraint constraints.txt pip
	$(PIP) install --constraint constraints.txt --editable '.[testing]'
	@touch $@

.venv/installed: .venv/runs
	$(PIP) install --constraint constraints.txt --editable '.[testing,cluster]' --group dev
	@touch $@

demo: .venv/runs  ## two operators on one resource, without and with this library; ARGS="--kubeconfig PATH"
	$(BIN)/python examples/demo/demo.py $(ARGS)

test: install  ## run the tests; on a real API server too, where KUBEBUILDER_ASSETS says where it is
	$(BIN)/coverage run -m pytest $(ARGS)

coverage: test  ## run the tests, and see that no branch of the package is left out
	$(BIN)/coverage report

lint: install  ## what is written, and what imports what
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache

typing: install  ## mypy --strict
	$(BIN)/mypy

check: lint typing coverage docs  ## all of the above, and the site

docs: install  ## the site, in docs/_build/html: no warning, and no link that leads nowhere
	rm -rf docs/_build
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html
	$(BIN)/kopf-finalizers document examples/db_operator.py --check docs/db-operator-finalizers.md
	$(BIN)/kopf-finalizers document examples/db_operator.py --format prometheus --check docs/db-operator-alerts.yaml

matrix: install  ## run the tests on each Kopf and each Python that the machine has
	$(BIN)/nox $(ARGS)

lowest: install  ## run the tests with the oldest versions that the package takes, on each Python
	$(BIN)/nox --session lowest $(ARGS)

release: install  ## check and build what would be released, in dist/; ARGS="-- v1.2.3" checks a tag
	$(BIN)/nox --session release $(ARGS)

prerelease: install  ## run the tests on Kopf's newest pre-release, when there is one
	$(BIN)/nox --session prerelease -- $(ARGS)

chaos: install  ## operators killed on a real API server, and random lives; ARGS="--seconds 60" LIVES="--lives 100"
	$(BIN)/python -m tests.chaos $(ARGS)
	$(BIN)/python -m tests.chaos.lives $(LIVES)

bench: install  ## measure on a real API server, and write the figures and pictures of the docs
	$(BIN)/python -m benchmarks $(ARGS)

format: install  ## mend what can be mended by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## remove what the commands above have made
	rm -rf .venv .nox .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf docs/_build build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
