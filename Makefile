# `make demo` and `make test` are all a newcomer needs; both make the virtual environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= auto
# A file is tested by one process, since its tests share what takes long to make.
PARALLEL := -n $(WORKERS) --maxprocesses 8 --dist loadfile

.PHONY: demo test test-all faults lint docs install clean

install: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip setuptools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[datasets,dev,dicom,docs,fast,heic,mlflow,onnx,parquet,report,tiff,timm,viz,wandb]"
	touch $@

demo: install
	$(BIN)/ssl-zoo compare swav simclr --output runs/demo

test: install
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not long and not distributed and not packaging and not slurm"

test-all: install
	$(BIN)/python -m pytest $(PARALLEL) -m "not slurm"
	$(BIN)/python -m pytest -m slurm

# What docs/trouble/faults.md tells; part of `make test`.
faults: install
	$(BIN)/python -m pytest $(PARALLEL) tests/faults

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in build/site; look at it with: python -m http.server -d build/site
docs: install
	$(BIN)/python -m docs.site.build

clean:
	rm -rf $(VENV) build dist *.egg-info runs/demo
