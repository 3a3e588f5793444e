# `make run` does the main job, `make test` passes the tests; both set up .venv first.
# `make PYTHON=/path/to/python test` picks the Python (3.11.5 to 3.13).

PYTHON ?= python3
BIN := .venv/bin

# .venv is made again when this changes: the Python, the packages or their versions
KEY := $(shell $(PYTHON) -c "import hashlib, pathlib, sys; print(hashlib.sha256(repr( \
	[sys.version, sys.base_prefix, *(pathlib.Path(name).read_text('utf-8') \
	for name in ('pyproject.toml', 'constraints.txt'))]).encode()).hexdigest()[:12])")
READY := .venv/ready-$(KEY)
BENCH := .venv/bench-$(KEY)
BROWSER := .venv/browser-$(KEY)
CLEAN := env -u DOGTL_PHOTOS -u DOGTL_MODULE -u DOGTL_SIZE -u DOGTL_DOGS_URL -u DOGTL_STYLE TQDM_DISABLE=1
ONE_CORE := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1
PYTEST := $(ONE_CORE) PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest
QUIET := env TQDM_DISABLE=1
NOTEBOOKS := notebooks published pages execute

.PHONY: run test test-all test-lowest test-newest pages refresh lab browser setup bench bench-readme

run: $(READY)
	@$(QUIET) $(BIN)/python notebooks/execute.py run

setup: $(READY)

$(READY):
	@$(PYTHON) -c "import sys; sys.exit(None if (3, 11, 5) <= sys.version_info < (3, 14) \
	else 'dogtl needs Python 3.11.5 or later, 3.12 or 3.13: say which with' \
	' make PYTHON=/path/to/python')"
	@echo "setting up .venv (some minutes)"
	@base=$$($(PYTHON) -c "import sys; print(sys._base_executable)") && \
	rm -rf .venv && "$$base" -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	-c constraints.txt -e ".[notebooks,test]"
	@touch $@

# the lessons as a small site in data/pages, to read or to serve from any folder
pages: $(READY)
	@$(BIN)/python notebooks/execute.py pages

refresh: $(READY)
	@$(QUIET) $(BIN)/python notebooks/execute.py refresh

lab: $(READY)
	@$(BIN)/python notebooks/execute.py lab

# the kennel is drawn on both cores; two workers test, a core and a file each; then the
# figures that the notebooks drew are compared; test-all kills and damages far more
test test-all: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && \
	export DOGTL_HOME="$$home" DOGTL_FIGURES="$$home/lessons" && \
	$(CLEAN) $(ONE_CORE) $(BIN)/dogtl train --quiet && \
	$(CLEAN) $(PYTEST) $(if $(findstring all,$@),--all) -n 2 --dist loadfile --durations 20 --nbval-lax --nbval-current-env notebooks tests && \
	$(CLEAN) DOGTL_FRESH="$$home/lessons" $(PYTEST) tests/test_published.py -k afresh

# the lowest or the newest versions that pyproject.toml allows; without the notebooks and
# figures, whose stored text and pixels are those of the versions in constraints.txt
OTHER = .venv-$(@:test-%=%)
test-lowest: BOUNDS = s/.*"([A-Za-z0-9-]+)>=([0-9.]+),.*/\1==\2/p
test-lowest test-newest:
	@$(PYTHON) -m venv --clear $(OTHER)
	@sed -nE '$(BOUNDS)' pyproject.toml > $(OTHER)/constraints.txt
	@$(OTHER)/bin/python -m pip install --quiet --disable-pip-version-check \
	-c $(OTHER)/constraints.txt -e ".[notebooks,test]"
	@$(OTHER)/bin/python -m pip list --disable-pip-version-check
	@$(CLEAN) $(ONE_CORE) PATH="$(CURDIR)/$(OTHER)/bin:$$PATH" $(OTHER)/bin/python \
	-m pytest -n 2 --dist loadfile tests -k "not constraints" \
	$(NOTEBOOKS:%=--ignore tests/test_%.py)

# every notebook in JupyterLab, in a real browser; needs Chromium or Chrome
browser: $(BROWSER)
	@env -u DOGTL_PHOTOS -u DOGTL_MODULE -u DOGTL_SIZE $(BIN)/python -m pytest -v tests/browser.py

$(BROWSER): $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	-c constraints.txt -e ".[browser]"
	@touch $@

# each step beside another way to do it, in one table; about ten minutes
bench bench-readme: $(BENCH)
	@$(CLEAN) $(BIN)/python tests/bench.py $(if $(findstring readme,$@),--readme)

# what `make bench` compares with; nothing else needs it
$(BENCH): $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	-c constraints.txt -e ".[bench]"
	@touch $@
