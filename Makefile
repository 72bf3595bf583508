# corekit: every target sets up what it needs. `make` lists them.
#
# Needed: Python >= 3.11 with venv, Rust as new as Cargo.toml says, a C compiler. All
# else goes into .venv. PYTHON=... names another interpreter to make .venv with.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUST := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
TOOLS := $(VENV)/tools.stamp
WHEEL := $(VENV)/wheel.stamp
SOURCES := $(shell find rust python -name __pycache__ -prune -o -type f -print) \
	$(wildcard Cargo.toml Cargo.lock pyproject.toml README.md)

# rustup's own directory comes last, for shells that have not been started anew.
export PATH := $(PATH):$(HOME)/.cargo/bin

# The bindings are compiled for .venv's Python and never linked to libpython, which
# needs headers and libraries that a plain interpreter does not come with.
CARGO := PYO3_PYTHON=$(abspath $(BIN)/python) PYO3_BUILD_EXTENSION_MODULE=1 cargo

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test rust python lint format types docs bench wheel clean needs needs-lint

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(WHEEL) ## shuffle 256 MB of real text under a 64 MiB limit, and prove nothing was lost
	@$(BIN)/python examples/demo.py

test: lint types rust python ## everything: formatting, lints, types, cargo test, pytest

rust: $(TOOLS) ## cargo test
	$(CARGO) test --workspace --locked --no-fail-fast

python: $(WHEEL) ## pytest on the installed release wheel
	$(BIN)/python -m pytest -n auto

lint: $(TOOLS) needs-lint ## formatting, clippy and ruff
	cargo fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(BIN)/ruff format --check
	$(BIN)/ruff check

format: $(TOOLS) needs-lint ## rewrite the sources in the house's format
	cargo fmt --all
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

types: $(WHEEL) ## mypy --strict, and the stubs against the built wheel
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest corekit --mypy-config-file pyproject.toml \
	  --allowlist tests/boundary/stubtest.txt

docs: $(WHEEL) ## run the examples of the docstrings and the pages
	$(BIN)/python -m pytest tests/boundary/test_docstrings.py tests/docs

bench: $(WHEEL) ## measure corekit beside its peers (takes about two hours)
	$(BIN)/python benches/run.py shuffle
	$(BIN)/python benches/run.py projection
	$(BIN)/python benches/run.py attention

wheel: $(WHEEL) ## build the release wheel into target/wheels and install it into .venv

clean: ## remove everything that was built, .venv included
	rm -rf target $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find python tests examples benches -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(TOOLS): pyproject.toml | needs
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

# Built in one place and installed from there, as a user gets it: the tests never
# import the source tree.
$(WHEEL): $(TOOLS) $(SOURCES) | needs
	@rm -rf target/wheels
	$(BIN)/maturin build --release --out target/wheels --interpreter $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall target/wheels/corekit-*.whl
	@touch $@

# $(call require,command that must succeed,what is missing,how to get it)
require = @{ $(1); } >/dev/null 2>&1 || { printf 'make: %s\n      %s\n' $(2) $(3) >&2; exit 1; }

needs:
	$(call require,$(PYTHON) -c 'import sys; assert sys.version_info >= (3$(,) 11)',\
	  "Python 3.11 or newer is needed: '$(PYTHON)' is missing or older",\
	  "get it from your system (apt install python3) or https://www.python.org; or name one: make PYTHON=/path/to/python3")
	$(call require,$(PYTHON) -c 'import venv$(,) ensurepip',\
	  "this Python comes without venv",\
	  "Debian and Ubuntu have it apart: apt install python3-venv")
	$(call require,printf '%s\n' $(RUST) "$$(cargo --version | cut -d ' ' -f 2)" | sort -V -C,\
	  "Rust $(RUST) or newer is needed: 'cargo' is missing or older",\
	  "get it from https://rustup.rs$(,) or bring it up to date: rustup update")
	$(call require,cc --version,\
	  "a C compiler is needed for linking: 'cc' was not found",\
	  "get one from your system: apt install gcc libc6-dev")

needs-lint: needs
	$(call require,cargo fmt --version,\
	  "rustfmt is needed: 'cargo fmt' does not work",\
	  "rustup component add rustfmt")
	$(call require,cargo clippy --version,\
	  "clippy is needed: 'cargo clippy' does not work",\
	  "rustup component add clippy")

, := ,
