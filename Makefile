PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test coverage lint test-slow bench
.DEFAULT_GOAL := help

help:
	@echo "make demo       install, render people, train both stages on the CPU, test (two minutes and the installation)"
	@echo "make test       install, lint, types, import rules, tests"
	@echo "make coverage   the tests, and how many lines they cover"
	@echo "make test-slow  the tests that take minutes or gigabytes"
	@echo "make bench      benchmarks"

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/svllreid demo outputs/demo

# As many test workers as there are cores, four at most: each imports torch. Files stay whole, since their tests share what
# they trained. Lines are counted by `make coverage` alone, which takes a quarter longer on Python 3.11.
test: lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

coverage: setup
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --cov --cov-report=
	@echo "tests cover $$($(BIN)/coverage report --format=total) % of the lines; by file: $(BIN)/coverage report"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-slow: setup
	$(BIN)/python -m pytest -m slow

bench: setup
	$(BIN)/python benchmarks/ranking.py
