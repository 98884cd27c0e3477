# `make` lists the targets. Needs Python 3.11 or newer, git and make; everything else is installed into .venv.
#
# On Linux pip takes torch for CUDA, several GB of it. A machine without a GPU does well with PyTorch's CPU build: let
# PIP_EXTRA_INDEX_URL name PyTorch's index of CPU wheels, or PIP_FIND_LINKS a folder with them. To pip "2.13.0+cpu" is
# newer than "2.13.0" and fits the pin, so it takes that one, which requires no CUDA package.
PYTHON ?= python3
VENV_PYTHON := .venv/bin/python
# --use-pep517: pip before 23.1 would install a source archive without the metadata that a kernel's wheels are made from.
INSTALL := $(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check --use-pep517 --constraint requirements.lock
# No $(abspath): it splits a path at its spaces. DVC's stages look for `python` on PATH.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONPATH := src

.DEFAULT_GOAL := help
.PHONY: help remote pull audit licences repro competition test test-slow test-sky bench lint docs lock download tensorboard

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile
	@echo 'Extras (mlflow, wandb, submitit, sky): $(VENV_PYTHON) -m pip install -c requirements.lock -e ".[sky]"'

CHOSEN = $(shell sed -n 's/^competition: *"\{0,1\}\([^ "]*\).*/\1/p' conf/choices.yaml)
# On a second machine the raw images may be missing, which DVC keeps nowhere; what was made of them is pulled.
WITHOUT_RAW = $(shell test -e "data/raw/$(CHOSEN)" || test ! -e data/prepared -o ! -e models/best || echo --allow-missing)
# A folder that was downloaded without git becomes a repository, which DVC needs. No --quiet: it would hide DVC's errors.
repro: .venv/ready $(if $(RAW),,data/raw/sample)  ## the whole pipeline; RAW=<folder>: on a competition as Kaggle ships it
	@$(if $(RAW),$(VENV_PYTHON) -m plant_pathology.choose "$(RAW)" $(COMPETITION))
	@git rev-parse --git-dir > /dev/null 2>&1 || { echo "git init: this folder is no git repository yet"; git init --quiet; }
	@$(VENV_PYTHON) -m dvc repro --keep-going $(if $(RAW),,$(WITHOUT_RAW))
	@$(VENV_PYTHON) -m plant_pathology.summary

competition: .venv/ready  ## a first conf/competition/<name>.yaml for RAW=<folder>, from what is in it
	@$(VENV_PYTHON) -m plant_pathology.look "$(or $(RAW),$(error RAW=<folder> is missing: the competition as Kaggle ships it))"

test: .venv/ready-test  ## the tests, without those that take long
	@$(VENV_PYTHON) -m pytest -m "not slow"

test-slow: .venv/ready-test  ## the tests that take long: whole sweeps, kills at many moments, restarts
	@$(VENV_PYTHON) -m pytest -m slow

test-sky:  ## a sweep through the real SkyPilot on this machine, interrupted; needs root and ../shared/sky-loopback
	@PYTHONPATH=tests $(PYTHON) -m support.sky_engine

bench: .venv/ready-bench  ## the benchmarks: ratios, into reports/bench.json
	@$(VENV_PYTHON) benchmarks/bench.py $(BENCH)

lint: .venv/ready-lint  ## style, types on every platform, and which way imports point
	@$(VENV_PYTHON) -m ruff check
	@$(VENV_PYTHON) -m ruff format --check
	@for platform in linux darwin win32; do $(VENV_PYTHON) -m mypy --platform $$platform || exit; done
	@MYPYPATH=src:tests $(VENV_PYTHON) -m mypy --config-file tests/mypy.ini tests
	@MYPYPATH=src:tests:benchmarks $(VENV_PYTHON) -m mypy --config-file tests/mypy.ini --enable-error-code misc benchmarks
	@$(VENV_PYTHON) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"

audit: | $(VENV_PYTHON)  ## known holes in the versions of requirements.lock, by pip-audit; asks a database on the internet
	@$(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check pip-audit
	@$(VENV_PYTHON) -m pip_audit --requirement requirements.lock --no-deps --disable-pip

licences: .venv/ready  ## the licence of each package that is installed
	@$(VENV_PYTHON) .ci/licences.py

docs: .venv/ready-test  ## docs/config.md, from the schema of the config; the faults in docs/reliability.md, from the tests
	@$(VENV_PYTHON) -m plant_pathology.core.reference > docs/config.md
	@$(VENV_PYTHON) tests/support/fault_table.py

remote: .venv/ready  ## where DVC keeps results for other machines; URL=s3://bucket/prefix, gs://…, /shared/folder; none: sizes
	@$(VENV_PYTHON) -m plant_pathology.remote $(if $(URL),"$(URL)") $(if $(ENDPOINT),--endpoint-url "$(ENDPOINT)")

pull: .venv/ready  ## on another machine: the results of the version that is checked out, from `make remote`'s place
	@$(VENV_PYTHON) -m dvc pull

download: COMPETITION := $(or $(COMPETITION),$(filter-out sample,$(CHOSEN)),plant-pathology-2021-fgvc8)
download: KNOWN = $(wildcard conf/competition/$(COMPETITION).yaml)
download: .venv/ready  ## the chosen competition's files, with the kaggle client; COMPETITION=<name>: another one, known or not
	@$(VENV_PYTHON) -m plant_pathology.download $(if $(KNOWN),competition=$(COMPETITION),competition=plant-pathology-2021-fgvc8 competition.name=$(COMPETITION))
	@$(VENV_PYTHON) -m plant_pathology.$(if $(KNOWN),choose,look) data/raw/$(COMPETITION)

tensorboard: .venv/ready  ## all runs in TensorBoard; those on other machines come in while it is open
	@$(VENV_PYTHON) -m plant_pathology.monitor watch > /dev/null 2>&1 & trap "kill $$! 2> /dev/null" EXIT; \
		$(VENV_PYTHON) -m tensorboard.main --logdir runs

data/raw/sample: | .venv/ready
	@$(VENV_PYTHON) -m plant_pathology.sample competition=sample

# The lock pins everything but the CUDA packages, which each torch build pins itself.
# One lock for all extras, so that any of them can be combined.
lock: | $(VENV_PYTHON)  ## pins for what pyproject.toml asks, compiled by uv in seconds; rm requirements.lock first: all newest
	@$(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check uv
	@$(VENV_PYTHON) -m uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-header \
		--no-annotate --quiet --output-file requirements.lock > /dev/null
	@grep -vE '^(nvidia|cuda|triton)' requirements.lock > requirements.lock.new
	@mv requirements.lock.new requirements.lock

$(VENV_PYTHON):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"{sys.executable} is {sys.version.split()[0]}: make PYTHON=<3.11 or newer>")'
	@$(PYTHON) -m venv .venv

.venv/ready: requirements.lock pyproject.toml | $(VENV_PYTHON)
	@echo "installing into .venv, once: some minutes"
	@$(INSTALL) --editable .
	@$(VENV_PYTHON) .ci/torchvision_beside_cpu_torch.py
	@touch $@

.venv/ready-test .venv/ready-lint .venv/ready-bench: .venv/ready-%: .venv/ready
	@echo "installing what $* needs into .venv, once"
	@$(INSTALL) --editable ".[$*]"
	@touch $@
