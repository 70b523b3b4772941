# `make demo`, `make test` and `make trust` do all the set-up in a virtual environment of their own.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test lint types docs tables pages trust clean

# A small network of each domain, with and without CoMHE, on built-in data.
demo: $(VENV)/installed
	rm -rf $(VENV)/demo
	$(BIN)/python -P -m comhe demo --output $(VENV)/demo

# No command puts this folder on the import path: `datasets` is also the name of somebody else's package.
test: lint
	$(PYTEST)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The type checker alone; it is one of the tests.
types: $(VENV)/installed
	$(BIN)/pytest tests/test_types.py

# The documentation as web pages, without a network; any warning is an error.
docs: $(VENV)/installed-docs
	$(BIN)/python -P -m sphinx --fail-on-warning --keep-going --quiet docs $(VENV)/docs
	@echo "open $(VENV)/docs/index.html"

# The tables and figures of the README and the documentation, from committed results and weights.
tables: $(VENV)/installed
	$(BIN)/python -P docs/tables.py
	$(BIN)/python -P docs/figures.py

# The page of the committed results, and the README's figures; fresh seeds are not pooled with those before, nor are harder tasks.
pages: $(VENV)/installed
	$(BIN)/comhe report $(filter-out results/fresh/% results/harder/%,$(sort $(wildcard results/*/*-runs.csv))) --output results/index.html --figures results/figures --overwrite

# The long forms of the tests, an hour on two cores, and how their cases ended.
trust: $(VENV)/installed
	$(PYTEST) -m long --tally tests/trust/long.json
	$(BIN)/python -P tests/tally_table.py tests/trust/long.json

# The stamp is newer than pyproject.toml only after an install that went through.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[test]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) *.egg-info build
