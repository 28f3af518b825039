# Every step of work on this project. `make` alone explains them.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The bundled model fills no more than a core, and four of them take 4 GiB.
PROCESSES ?= $(shell $(PYTHON) -c 'import os; print(min(4, os.cpu_count() or 1))')

# One thread per process: the tests run in parallel, and threads of tiny models only get in each other's way.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.DEFAULT_GOAL := help
.PHONY: help setup lock demo real quick arena test check docs reports bench soak clean

help: ## list all targets
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: $(STAMP) ## create .venv and install the project with pinned dependencies

$(STAMP): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	sed -e 's/ \\$$//' -e '/--hash=/d' requirements.lock > $(VENV)/constraints.txt # docs/decisions/0021-lock.md
	$(BIN)/python -m pip install --quiet --constraint $(VENV)/constraints.txt --editable '.[dev,docs]'
	touch $@

lock: $(STAMP) ## update requirements.lock from pyproject.toml; versions that still fit are kept
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --extra dev --extra docs --generate-hashes --no-annotate \
		--no-emit-package pip pyproject.toml --output-file requirements.lock

demo: $(STAMP) ## run the demonstration experiment and print its tables
	rm -rf reports/demo # what is shipped there is a run already, and would not be run again
	$(BIN)/lift-eval run reports/demo.yaml --processes $(PROCESSES)

real: $(STAMP) ## fetch a small pretrained model (93 MB) and run LIFT and other methods on documents that it has never seen
	$(BIN)/lift-eval model fetch smollm2
	$(BIN)/lift-eval run reports/real.yaml

quick: $(STAMP) ## the same with two documents, in a few minutes
	$(BIN)/lift-eval model fetch smollm2
	$(BIN)/lift-eval run reports/real_quick.yaml

arena: $(STAMP) ## tune every method on development documents, then compare all of them (hours; can be resumed)
	$(BIN)/lift-eval model fetch smollm2
	$(BIN)/lift-eval tune reports/arena.yaml
	$(BIN)/lift-eval run reports/arena.yaml

test: $(STAMP) ## run all tests and print the coverage of lift_eval (90 % of lines or more)
	$(TEST_ENV) $(BIN)/python -m pytest --numprocesses=auto --dist=worksteal --cov --cov-report=term --cov-fail-under=90

check: $(STAMP) ## lint, check formatting and types, and check pinned versions for known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/audit.py

docs: $(STAMP) ## build the documentation site in build/site; broken links are errors
	$(BIN)/mkdocs build --strict --quiet

reports: $(STAMP) ## render every experiment file of reports/ from its results
	set -e; for experiment in $(filter-out reports/published.yaml,$(wildcard reports/*.yaml)); do $(BIN)/lift-eval report "$$experiment"; done

bench: $(STAMP) ## print the figures of the scripts in perf/
	set -e; for script in $(filter-out perf/soak.py perf/extremes.py,$(wildcard perf/*.py)); do echo "== $$script"; $(BIN)/python "$$script"; done

soak: $(STAMP) ## process 500 small documents while failures are injected
	$(BIN)/python perf/soak.py

clean: ## remove files left by builds and tests, but not .venv
	rm -rf build dist htmlcov .cache .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
