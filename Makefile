# Every target works on a fresh machine with only python3 and make: .venv is made on the way.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
N ?= 50
JOBS ?= 2

.PHONY: setup lock run test test-slow test-faults test-cluster faults fuzz lint format bench clean

setup: $(STAMP)

# From requirements.lock, every file checked by its hash; elsewhere than on Linux with CPython 3.11 from the ranges of
# pyproject.toml, which is said.
$(STAMP): pyproject.toml requirements.lock install.py
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) install.py
	touch $@

# Renew both locks: today's versions within the ranges of pyproject.toml.
lock:
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) install.py --lock

run: setup
	$(PY) experiments/run.py --preset demo

# In two processes, each with a Ray of its own; each takes whole files, so that what a file's tests share is made once.
test: setup
	$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 40

test-slow: setup
	$(PY) -m pytest -m slow

test-faults: setup
	$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m faults

# Several hosts on this machine: Linux, root and iproute2.
test-cluster: setup
	$(PY) -m pytest -m cluster

# make faults N=200 JOBS=2: kills at random instants, damage, signals, full disks, an object store; prints a table.
faults: setup
	$(PY) tests/faults/harness.py --kills $(N) --jobs $(JOBS)

# make fuzz N=10000 JOBS=2: random inputs for each test of tests/fuzz, of which make test draws forty; says how many, how long.
fuzz: N = 10000
fuzz: setup
	FUZZ_CASES=$(N) $(PY) -m pytest tests/fuzz -m fuzz -n $(JOBS) -v --timeout 0 --durations 0 --hypothesis-show-statistics

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

format: setup
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: setup
	$(PY) experiments/bench.py floor
	$(PY) experiments/bench.py sampling
	$(PY) experiments/bench.py training

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
