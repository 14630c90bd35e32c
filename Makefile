# train   set up, then train the bundled math agent      make train ARGS="trainer.steps=20 seed=1"
# refine  set up, then train answers and second attempts  make refine ARGS="refine.credit=replace name=replace"
# bench   set up, then let four agents improve it        make bench ARGS="--budget 5m --seeds 3"
# test    set up, then run the tests, two at a time      make test PYTEST_ARGS="tests/config -x -n 0"
# lint    set up, then ruff and the type checker
# clean   remove caches and the virtual environment (runs in saved_experiments/ stay)

PYTHON ?= python3
# For pip, e.g. PIP_FLAGS="--extra-index-url URL" with the address of PyTorch's CPU packages.
PIP_FLAGS ?=
ARGS ?=
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# A change of either file sets up again; a new checkout of the same files doesn't.
KEY := $(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
RUN_READY := $(VENV)/.ready-run-$(KEY)
BENCH_READY := $(VENV)/.ready-bench-$(KEY)
DEV_READY := $(VENV)/.ready-dev-$(KEY)

.PHONY: train refine bench test test-slow lint clean

train: $(RUN_READY)
	@$(BIN)/astuner --conf tutorial/example_math_agent/math_agent.yaml --backbone local $(ARGS)

refine: $(RUN_READY)
	@$(BIN)/astuner --conf tutorial/example_self_refine/self_refine.yaml --backbone local $(ARGS)

bench: $(BENCH_READY)
	@$(BIN)/autorl-bench run --conf configs/bench.yaml $(ARGS)

test: $(DEV_READY)
	@$(BIN)/python -m pytest -m "not slow" -n 2 $(PYTEST_ARGS)

test-slow: $(DEV_READY)
	@$(BIN)/python -m pytest -m slow -n 2 $(PYTEST_ARGS)

lint: $(DEV_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "On Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }

$(RUN_READY): | $(BIN)/python
	@echo "Setting up $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e ".[agentscope]"
	@rm -f $(VENV)/.ready-run-* && touch $@

$(BENCH_READY): | $(BIN)/python
	@echo "Setting up $(VENV) for the benchmark (a few minutes the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e ".[agentscope,bench]"
	@rm -f $(VENV)/.ready-bench-* && touch $@ $(RUN_READY)

$(DEV_READY): | $(BIN)/python
	@echo "Setting up $(VENV) for tests (a few minutes the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e ".[dev]"
	@rm -f $(VENV)/.ready-dev-* && touch $@ $(RUN_READY) $(BENCH_READY)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -not -path './saved_experiments/*' -prune -exec rm -rf {} +
