# Each command makes .venv and installs what it needs; a second call finds that done.
#
#   make demo    train, prune and run a small network (about a minute, no download)
#   make test    the whole suite; tests that need torch or jax run where they are installed
#   make lint    ruff and mypy
#   make bench   measurements against torch, written to benchmarks/results/
#   make clean   remove .venv, results and caches

PYTHON ?= python3
bin := .venv/bin

.PHONY: demo test lint bench clean

demo: .venv/examples.stamp
	$(bin)/python examples/digits/train_digits.py

test: .venv/test.stamp
	$(bin)/python -m pytest

lint: .venv/lint.stamp
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy

bench: .venv/bench.stamp
	for script in benchmarks/[a-z]*.py; do $(bin)/python $$script || exit 1; done

clean:
	rm -rf .venv result build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# pip is what venv writes last: an interrupted one is made anew.
$(bin)/pip:
	$(PYTHON) -m venv .venv

# One stamp for each extra of setup.cfg, remade when the dependencies may have changed.
# Compatible mode puts this folder on the path; the default finds the package too late to
# be seen from a folder that holds a checkout of this name.
.venv/%.stamp: setup.cfg pyproject.toml | $(bin)/pip
	$(bin)/python -m pip install --quiet --config-settings editable_mode=compat --editable ".[$*]"
	touch $@
