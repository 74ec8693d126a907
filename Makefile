# Two commands do everything on a machine with Python 3.11+, git and make:
#   make report   run the notebooks and write a report    (DATA=folder PRESET=name RUN=folder OVERWRITE=1)
#   make test     run every test                          (WORKERS=number of tests at a time)
# Of a finished run, `make book` makes a site, and `make browser` looks at all its pages in Chromium.
# The newest Python that runs: pyenv puts a python3.12 on the PATH that only fails unless that version is chosen, and
# Debian one that cannot make environments. From 3.12 on there is a JAX that convolves faster (see README.md).
PYTHON  ?= $(shell for python in python3.14 python3.13 python3.12 python3.11 python3; do \
  if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; done)
VENV    := .venv
BIN     := $(VENV)/bin
# PyTorch, TensorFlow and what they want of other packages stay out of the environment of the course.
BENCH_VENV := .venv-bench
BROWSER_VENV := .venv-browser

PRESET  ?= quick
BENCH   ?= inference
WORKERS ?= 2
RUN     ?= runs/$(basename $(notdir $(PRESET)))
BOOK    ?= $(RUN)-book

.PHONY: report test lint lab book browser bench presets box lock clean

# Messages then name RUN= and OVERWRITE=1 instead of the options of the command line.
report: export TILEDSEG_MAKE = 1
report: $(VENV)/installed
	$(BIN)/python -m tiledseg_utils report --preset "$(PRESET)" --run "$(RUN)" $(if $(DATA),--data "$(DATA)") $(if $(OVERWRITE),--overwrite)

test: lint
	$(BIN)/python -m pytest --cov --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify --keep-id notebooks/*.ipynb

lab: $(VENV)/installed
	$(BIN)/python -m tiledseg_utils.course.edition

book: $(VENV)/installed
	$(BIN)/python -m tiledseg_utils book "$(RUN)" --out "$(BOOK)" $(if $(OVERWRITE),--overwrite)

# CHROMIUM=path chooses the browser; otherwise it is the one on the PATH.
browser: $(VENV)/installed $(BROWSER_VENV)/installed
	$(BROWSER_VENV)/bin/python -m tests.browser --python $(BIN)/python --run "$(RUN)" $(if $(CHROMIUM),--chromium "$(CHROMIUM)")

# For instance make bench BENCH="memory --square 16384"
bench: $(BENCH_VENV)/installed
	$(BENCH_VENV)/bin/python -m tests.benchmarks $(BENCH)

# Renews the list of all parameters, and what tells editors about them; commit the result.
presets: $(VENV)/installed
	$(BIN)/python -m tiledseg_utils.settings.page

# Makes the model that comes with the package, anew; commit the result, and its numbers in smears.md beside it.
box: $(VENV)/installed
	$(BIN)/python -m tiledseg_utils.training.box runs/box
	cp runs/box/smears.keras tiledseg_utils/models/box/

# Renews the pinned versions; commit the result. The extras bench and browser are left out: see pyproject.toml.
lock: $(VENV)/installed
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra notebooks --extra cluster --extra export --extra book --extra test --extra build --universal --python-version 3.11 \
	  --fork-strategy fewest --upgrade --no-emit-index-url --custom-compile-command "make lock" --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) $(BENCH_VENV) $(BROWSER_VENV) build .pytest_cache .ruff_cache .hypothesis .coverage *.egg-info

# An environment that is there keeps its Python; make clean for another.
$(VENV)/installed: requirements.lock pyproject.toml
	@$(if $(PYTHON),,echo "Python 3.11 or newer is needed, and none is found; try make PYTHON=/path/to/python3.12" >&2; exit 1)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, and $(PYTHON) is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# TensorFlow 2.21 wants an older h5py than the lock has.
$(BENCH_VENV)/installed: requirements.lock pyproject.toml
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	grep -v '^h5py==' requirements.lock > $(BENCH_VENV)/constraints.txt
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(BENCH_VENV)/constraints.txt --editable ".[bench,cluster]"
	@touch $@

$(BROWSER_VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(BROWSER_VENV)
	$(BROWSER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep --only-matching 'playwright==[0-9.]*' pyproject.toml)"
	@touch $@
