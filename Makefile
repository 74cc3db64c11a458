# The commands of this repository. `make demo` and `make test` need Python 3.11+ and nothing else.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
WORKERS ?= 2

.PHONY: demo test check format bench clean install

demo: $(VENV)/installed
	$(RUN)/clary demo

test: $(VENV)/developed
	$(RUN)/pytest -n $(WORKERS) --dist loadfile

check: $(VENV)/developed
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/lint-imports
	$(RUN)/pyright --threads 2
	$(RUN)/pytest -q tests/architecture -p no:cacheprovider

format: $(VENV)/developed
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix .

bench: $(VENV)/developed
	$(RUN)/python -m benchmarks

install: $(VENV)/installed

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# uv comes from PyPI into the environment itself, and installs the rest in parallel.
$(VENV)/bin/uv:
	$(PYTHON) -c 'import sys; sys.exit("Clary needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet uv

$(VENV)/installed: pyproject.toml $(VENV)/bin/uv
	$(RUN)/uv pip install --quiet --python $(RUN)/python --editable .
	touch $@

$(VENV)/developed: pyproject.toml $(VENV)/installed
	$(RUN)/uv pip install --quiet --python $(RUN)/python --group dev --editable .
	touch $@
