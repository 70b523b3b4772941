# `make demo`, `make test` and `make trust` do all the set-up in a virtual environment of their own.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test pages trust clean

demo: $(VENV)/installed
	$(BIN)/python -m comhe.train.cli.demo

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# The page of the committed results, and the README's figures.
pages: $(VENV)/installed
	$(BIN)/comhe report results/*/*-runs.csv --output results/index.html --figures results/figures

# The long forms of the tests, an hour on two cores, and how their cases ended.
trust: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m long --tally tests/trust/long.json
	$(BIN)/python tests/tally_table.py tests/trust/long.json

# The stamp is newer than pyproject.toml only after an install that went through.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) *.egg-info build
