# Everything happens in .venv; the targets set it up by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test soak lint types bench examples clean
.DEFAULT_GOAL := demo

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,postgres]'
	@touch $@

demo: $(STAMP)
	$(BIN)/budget-guard demo

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

SCHEDULES ?= 10000

soak: $(STAMP)
	$(BIN)/python -m tests.simulation --mutations
	$(BIN)/python -m tests.simulation --schedules $(SCHEDULES) --statistics
	$(BIN)/python -m tests.simulation --schedules 1000 --lost-commits
	$(BIN)/python -m benchmarks.kill --times 200
	$(BIN)/python -m tests.gateway.storm --seeds 300

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.reconnect
	$(BIN)/python -m benchmarks.check
	$(BIN)/python -m benchmarks.sandbox
	$(BIN)/python -m benchmarks.ledger

examples: $(STAMP)
	$(BIN)/python -m tests.examples

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
