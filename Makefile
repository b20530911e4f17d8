# Two commands need nothing but Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sightline needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

.PHONY: claims demo docs test test-all fuzz lint wheel clean

demo: .venv/installed  ## five encoders on Python's own library; writes report.html
	$(BIN)/sightline compare scope --report report.html

test: .venv/installed lint docs  ## lint, types, the site and the tests, in minutes
	$(TEST)

test-all: .venv/installed lint docs  ## also those that take long
	$(TEST) -m ''

fuzz: .venv/installed  ## random batches of attention against a dense oracle: make fuzz SECONDS=600, or BATCHES=100000
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.attention.fuzz $(if $(BATCHES),--batches $(BATCHES),--seconds $(or $(SECONDS),60)) --first $(or $(FIRST),0)

lint: .venv/installed  ## rules, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

docs: .venv/installed  ## the site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --site-dir build/site

claims: .venv/installed  ## the ten claims about self-attention, in minutes; python -m studies.claims has the rest
	$(BIN)/python -m studies.claims --quick

wheel: .venv/installed
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf .venv build dist *.egg-info
