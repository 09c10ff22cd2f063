# Two commands, each complete on a machine with Python 3.10 to 3.13: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test clean

demo: .venv/.export
	$(BIN)/acl demo -o demo

test: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses auto --dist loadfile

.venv/.export: pyproject.toml
	$(PYTHON) -c 'import sys; (3, 10) <= sys.version_info < (3, 14) or sys.exit("Python 3.10 to 3.13 is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	@echo "Installing about 6 GB into .venv, most of it PyTorch with its CUDA libraries; this takes minutes."
	$(BIN)/pip install --editable '.[export,cpu]'
	touch $@

.venv/.dev: .venv/.export
	$(BIN)/pip install --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv demo
