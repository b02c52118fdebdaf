PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo docs gallery lowest test test-all test-cuda hunt lint format bench bench-cuda bench-scale screenshots clean

help:
	@echo "make demo        run probe filters on the embedded ImageNet network and print the report's path"
	@echo "make docs        build the site into build/site, links checked"
	@echo "make gallery     make the reports of the site's gallery (many minutes)"
	@echo "make lowest      run the tests with the oldest versions that pyproject.toml allows"
	@echo "make test        run the test suite"
	@echo "make test-all    run it with the slow tests"
	@echo "make test-cuda   run the tests that need a CUDA card"
	@echo "make hunt        try generated networks, checkpoints, folders and command lines for MINUTES (30)"
	@echo "make lint        ruff (lint and format) and mypy"
	@echo "make format      let ruff fix what it can"
	@echo "make bench       measure against the peers"
	@echo "make bench-cuda  measure the attacks, the feature pictures and the lesions on a CUDA card"
	@echo "make bench-scale  measure workers, reading, and large data (some 15 minutes)"
	@echo "make screenshots  make the README's pictures again (ONLY=demo: one of them)"
	@echo "make clean       remove the environment and the caches"

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "probe needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/probe filters

# The site has its own environment: mkdocs-material and torchattacks want different versions of requests.
docs: .venv-docs/.installed
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --clean --quiet
	@echo build/site/index.html

# Real reports beside the site, which links them.
gallery: $(STAMP) docs
	$(BIN)/python docs/gallery.py

# The oldest versions that pyproject.toml allows: all but browsers, and a page whose charts are those of the newest matplotlib.
lowest:
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) tests/lowest.py > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check -r .venv-lowest/constraints.txt
	PYTHONPATH=$(CURDIR) OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n auto --dist loadfile --ignore tests/browser -W default \
		--deselect tests/report/test_report_page.py::test_small_report_is_golden $(PYTEST_ARGS)

.venv-docs/.installed: docs/requirements.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	@touch $@

# One process a core with one thread each: faster than one process with all threads, on networks as small as the tests'.
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

test: $(STAMP)
	$(PARALLEL) --dist loadfile $(PYTEST_ARGS)

# The slow tests of a file need not share a process: most of them are in one file.
test-all: test
	$(PARALLEL) --dist worksteal -m slow -rA $(PYTEST_ARGS)

test-cuda: $(STAMP)
	$(BIN)/python -m pytest -m cuda tests/cuda

hunt: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python tests/hunt/hunt.py --minutes $(or $(MINUTES),30) --seed $(or $(SEED),0)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	for script in tests/benchmarks/bench_*.py; do \
		case $$script in *scale*) ;; *) $(BIN)/python $$script || exit 1;; esac; done

bench-cuda: $(STAMP)
	for part in attacks features lesions; do PROBE_BENCH_DEVICE=cuda $(BIN)/python tests/benchmarks/bench_$$part.py || exit 1; done

bench-scale: $(STAMP)
	$(BIN)/python tests/benchmarks/bench_scale.py

screenshots: $(STAMP)
	$(BIN)/python tests/browser/screenshots.py $(ONLY)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
