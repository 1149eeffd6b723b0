# Everything a developer or a curious user needs; each target installs what it wants first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo setup test check bench clean

demo: $(VENV)/.installed  ## install gnomon and run every task once on data that ships with it
	$(BIN)/gnomon demo -o demo

setup: $(VENV)/.developer  ## install everything that tests, checks and benchmarks need

test: $(VENV)/.developer  ## all tests
	$(BIN)/python -m pytest -n auto

check: $(VENV)/.developer  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright

bench: $(VENV)/.developer  ## measurements against peers, in tables
	$(BIN)/python bench/templates.py
	$(BIN)/python bench/object_pose.py
	$(BIN)/python bench/object_pose_tracking.py

clean:
	rm -rf $(VENV) demo

# Debian keeps ensurepip in a package of its own; without it the system's pip fills the environment.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) 2>/dev/null || \
	  { rm -rf $(VENV) && $(PYTHON) -m venv --without-pip $(VENV) && \
	    $(PYTHON) -m pip --python $(VENV)/bin/python install --quiet pip; }

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	$(BIN)/gnomon methods install raster render-compare
	touch $@

$(VENV)/.developer: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[all,dev]"
	touch $@
