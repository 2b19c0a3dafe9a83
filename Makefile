PYTHON ?= python

.PHONY: check slow fix test
check:  ## everything that must hold before a commit
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -c "import sys; from importlinter.cli import lint_imports_command as lint; sys.exit(lint())"
	$(PYTHON) -m pytest -m "not slow"

slow:  ## the tests that `check` leaves out, so that it stays under five minutes
	$(PYTHON) -m pytest -m slow

fix:  ## what the tools can mend themselves
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

test:
	$(PYTHON) -m pytest
