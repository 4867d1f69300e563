# Two commands matter: `make demo` and `make test`. Both do all their set-up on a fresh Debian 12 as root.
SHELL := /bin/sh
PY := .venv/bin/python
STAMP := .cache/setup.stamp

.PHONY: help setup demo demo-down test test-fast test-long chaos lint record lock testbed testbed-down contract mutants

help:
	@echo "make demo       bring up a federation in containers and run a real mixed load through it"
	@echo "make demo-down  remove what the demo made"
	@echo "make test       set up, lint, and run the whole suite on the real test-bed"
	@echo "make test-fast  unit tests, properties and simulation only"
	@echo "make test-long  the full form of the system tests (kill -9 at random, ten minutes of counting)"
	@echo "make contract   try the contract of a site on every adapter, and print the matrix"
	@echo "make mutants    spoil the code in a copy, once for each test of the contract, and see that test fail"
	@echo "make chaos      30 minutes of faults under load on the test-bed (SECONDS=, SEED= to choose)"
	@echo "make record     record the outputs of the real Slurm and HTCondor anew"
	@echo "make lock       pin the dependencies anew"

setup: $(STAMP)

$(STAMP): requirements-dev.txt pyproject.toml scripts/setup
	scripts/setup
	@mkdir -p .cache && touch $(STAMP)

demo: setup
	$(PY) -m aerotow demo

demo-down: setup
	$(PY) -m aerotow testbed down

testbed: setup
	$(PY) -m aerotow testbed up

testbed-down: setup
	$(PY) -m aerotow testbed down

lint: setup
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache

test: setup lint
	$(PY) -m pytest -m "not long" -n 2 --dist loadfile --basetemp=$$(mktemp -d /tmp/atw.XXXXXX)

test-fast: setup
	$(PY) -m pytest -m "not system and not long" -n 2 --dist loadfile --basetemp=$$(mktemp -d /tmp/atw.XXXXXX)

test-long: setup
	$(PY) -m pytest -m long

contract: setup
	$(PY) -m pytest tests/contract --basetemp=$$(mktemp -d /tmp/atw.XXXXXX)

mutants: setup
	$(PY) -m pytest tests/contract/test_mutations.py tests/properties/test_plan_mutations.py --basetemp=$$(mktemp -d /tmp/atw.XXXXXX)

chaos: SECONDS ?= 1800
chaos: SEED ?= 1
chaos: setup
	$(PY) -m tests.chaos.run --seconds $(SECONDS) --seed $(SEED) --report chaos-report.md --keep-log chaos-factory.log

record: setup
	scripts/record

lock: setup
	scripts/lock
