# make demo: train, distil, sample and report, in minutes on a CPU.   make test: the test suite.
# Each target does all its own set-up; Python 3.11 or newer and make are all that is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-all lint bench bench-all clean

demo: $(VENV)/.demo
	OMP_WAIT_POLICY=passive $(BIN)/unison demo --out runs/demo --resume  # spinning threads starve a busy machine

test: $(VENV)/.test
	$(BIN)/pytest -n 2 --dist loadfile

test-all: $(VENV)/.bench
	$(BIN)/pytest -m "slow or not slow"

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# Ratios into benchmarks/results, compared with the committed ones; fails where one became worse.
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.suite --out benchmarks/results

bench-all: $(VENV)/.bench runs/masked/config.json runs/uniform/config.json
	$(BIN)/python -m benchmarks.suite --out benchmarks/results --all

runs/masked/config.json: | $(VENV)/.bench
	$(BIN)/python -m benchmarks.problem_model --plan large --out runs/masked --minutes 10

runs/uniform/config.json: | runs/masked/config.json $(VENV)/.bench
	$(BIN)/python -m benchmarks.problem_model --plan large --out runs/uniform --start runs/masked --minutes 5

clean:
	rm -rf $(VENV)

$(BIN)/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed')"
	$(PYTHON) -m venv $(VENV)

# One stamp per set of extras: installed once, again when the declarations change.
$(VENV)/.demo $(VENV)/.test $(VENV)/.lint $(VENV)/.bench: $(VENV)/.%: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e ".[$(EXTRAS_$*)]"
	touch $@

EXTRAS_demo := plot
EXTRAS_test := test
EXTRAS_lint := dev,test
EXTRAS_bench := test,plot,judge
