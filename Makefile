PYTHON ?= python

.PHONY: check lint slow environments gpu fix test docs
check: lint  ## everything that must hold before a commit
	$(PYTHON) -m pytest -m "not slow"

lint:  ## format, style, types, and which room imports which
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -c "import sys; from importlinter.cli import lint_imports_command as lint; sys.exit(lint())"

slow:  ## the tests that `check` leaves out, so that it stays near five minutes
	$(PYTHON) -m pytest -m slow

environments:  ## the quick tests with Python 3.11 to 3.14 and the newest dependencies, and with the oldest (needs uv)
	.ci/environments

gpu:  ## what needs a CUDA GPU: its tests, then both measurements, into reports/gpu/ (about 15 minutes)
	$(PYTHON) -c "import torch; assert torch.cuda.is_available(), 'torch sees no GPU here'"
	$(PYTHON) -m pytest -n 0 tests/gpu
	$(PYTHON) tests/benchmarks/gpu_frozen.py --out reports/gpu/frozen.json
	$(PYTHON) tests/benchmarks/gpu_finetune.py --out reports/gpu/finetune.json

docs:  ## the documentation, into site/; any warning or broken link is an error (needs the extra `docs`)
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --clean --site-dir site

fix:  ## apply the fixes that the tools can make themselves
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

test:  ## all tests
	$(PYTHON) -m pytest
