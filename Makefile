# Two commands: `make demo` (under a minute) and `make test` (ten minutes on two cores). Each first sets up what it needs
# in .venv, which takes some minutes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint docs check clean

demo: .venv/.installed
	@echo "judging five pictures: under a minute"
	$(BIN)/pixelsleuth demo --out demo-out

test: .venv/.installed lint
	@echo "running all tests: about ten minutes on two cores"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site; open site/index.html, or serve it: $(BIN)/mkdocs serve
docs: .venv/.installed
	$(BIN)/mkdocs build --strict

# uv where it is there, venv and pip where not.
.venv/.installed: pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python $(PYTHON) .venv && uv pip install --quiet --python $(BIN)/python -e '.[dev]'; \
	else \
		$(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'; \
	fi
	@touch $@

clean:
	rm -rf .venv demo-out dist build site
