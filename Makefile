# make help tells what there is. Needs Python 3.11 or newer, git and make; the rest is installed into .venv.
PYTHON ?= python3
BIN := $(abspath .venv)/bin
export PATH := $(BIN):$(PATH)
export PYTHONPATH := src

.DEFAULT_GOAL := help
.PHONY: help repro test test-sky bench lint lock download tensorboard

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

repro: .venv/ready $(if $(RAW),,data/raw/sample)  ## the whole pipeline; RAW=<folder>: on a competition as Kaggle ships it
	@$(if $(RAW),python -m plant_pathology.choose "$(RAW)" $(COMPETITION))
	@dvc repro --quiet --keep-going
	@python -m plant_pathology.summary

test: .venv/ready  ## the tests
	@pytest

test-sky:  ## a sweep through the real SkyPilot on this machine, interrupted; needs root and ../shared/sky-loopback
	@$(PYTHON) tests/support/sky_engine.py

bench: .venv/ready  ## the benchmarks: ratios, into reports/bench.json
	@python benchmarks/bench.py $(BENCH)

lint: .venv/ready  ## style of the code
	@ruff check && ruff format --check

download: COMPETITION := $(or $(COMPETITION),plant-pathology-2021-fgvc8)
download: .venv/ready  ## a competition's files, with the kaggle client, for make repro; COMPETITION=<name>: another one
	@python -m plant_pathology.download competition=$(COMPETITION)
	@python -m plant_pathology.choose data/raw/$(COMPETITION)

tensorboard: .venv/ready  ## all runs in TensorBoard; those on other machines come in while it is open
	@python -m plant_pathology.sweep watch > /dev/null 2>&1 & trap "kill $$! 2> /dev/null" EXIT; tensorboard --logdir runs

data/raw/sample: | .venv/ready
	@python -m plant_pathology.sample competition=sample

# The lock pins everything but the CUDA packages, which each torch build pins itself.
# One lock for all extras, so that any of them go together.
lock:  ## pins for what pyproject.toml asks, compiled by uv in seconds; rm requirements.lock first: all of them anew
	@pip install --quiet uv
	@uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-header --no-annotate --quiet \
		--output-file requirements.lock > /dev/null
	@grep -vE '^(nvidia|cuda|triton)' requirements.lock > requirements.lock.new
	@mv requirements.lock.new requirements.lock

.venv/ready: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv, once: some minutes"
	@pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable ".[test]"
	@python .ci/torchvision_beside_cpu_torch.py
	@touch $@
