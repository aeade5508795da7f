# Everything that a person types. `make demo` shows the product at work, `make test` tests it; both install first.
#
# Variables:
#   ENGINE=sail|spark   the engine of the demo (sail needs no Java; spark downloads Delta's jar on first use)
#   PHOTOS=folder       run the demo on your own photographs
#   PYTHON=python3.12   the interpreter of the virtual environment
#   VENV=folder         where that environment is
#   DIST=folder         where `make package` writes its two files

VENV ?= .venv
ENGINE ?= sail
PHOTOS ?=
DIST ?= dist

# The first interpreter that starts and is new enough: a pyenv shim on the PATH may point to nothing.
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; done)

CHECK_PYTHON = if [ -z "$(PYTHON)" ]; then \
    echo 'make: no Python 3.11 or newer found; install it or say make PYTHON=path' >&2; exit 2; fi

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint docs wheel-test package lock audit clean

help:
	@echo 'make demo        install, then enrich sample photographs and show the faces (PHOTOS=folder, ENGINE=sail|spark)'
	@echo 'make test        install, then run the tests of a few minutes'
	@echo 'make test-slow   install, then run the other tests: clusters, kills, packaging, training'
	@echo 'make lint        install, then check style, types and import directions'
	@echo 'make docs        install, then generate the reference pages and build the site into .cache/site'
	@echo 'make wheel-test  build the wheel, install it into an empty environment and run its demo'
	@echo 'make package     dist/faceattr_udf.zip and dist/faceattr_env.tar.gz for spark-submit'
	@echo 'make audit       install, then look up known vulnerabilities of the locked packages'
	@echo 'make lock        resolve the dependencies of pyproject.toml; UPGRADE=1 takes newer versions'
	@echo 'make install     only install, into $(VENV)'
	@echo 'make clean       remove everything that these commands made, including the environment'

install: $(STAMP)

# Thanks to the stamp, a second `make` installs nothing until pyproject.toml or the lock changes.
$(STAMP): pyproject.toml requirements-dev.lock
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)
	@# Build tools first: the second command builds packages without a wheel, and must not download other tools.
	$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: --requirement requirements.lock
	@# Not compiled now: Python compiles modules on first import, and only a small part is ever imported.
	$(BIN)/python -m pip install --quiet --require-hashes --no-build-isolation --no-compile --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)
	@$(BIN)/faceattr demo --engine $(ENGINE) $(if $(PHOTOS),--photos "$(PHOTOS)")

# Two processes, each with a JVM of its own; the tests that need one come first. All tests of a file run in one process
# and share its fixtures (tests/conftest.py forms the groups). A process that is killed ends the run, which would hang.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder --max-worker-restart 0

# The core, the embedded engine, and on Apache Spark what can only fail there.
test: $(STAMP)
	@$(PYTEST) -m "not slow"

# Tests that need processes, clusters and minutes: kills, packaging, training, 8-bit graphs, hundreds of hostile files.
test-slow: $(STAMP)
	@$(PYTEST) -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# `--check` in CI: the pages must be current.
docs: $(STAMP)
	@$(BIN)/python docs/generate.py $(if $(CI),--check)
	@$(BIN)/mkdocs build --quiet --strict

# The wheel alone: an empty environment, the locked versions, no checkout on the path.
wheel-test: WHEEL_VENV := .cache/wheel-venv
wheel-test: $(STAMP)
	@rm -rf build .cache/wheel $(WHEEL_VENV)
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir .cache/wheel .
	@$(BIN)/python .ci/wheel.py .cache/wheel $(WHEEL_VENV)
	@rm -rf build

# The two files for spark-submit (docs/nightly-runs.md), built without the 7 GB of `make install`: the code with its
# weights, and an environment for executors, which need neither torch nor PySpark (the cluster has its own).
package: PACKED := .cache/executors
# A quarter of the environment that no executor loads: tests, headers, the installer, Arrow Flight, and OpenVINO's
# plugins for other devices and model formats (its own format's reader is included again).
package: LEFT_OUT := */tests/* */include/* */site-packages/pip/* */site-packages/setuptools/* */pyarrow/_flight.* \
    */pyarrow/*arrow*flight* */openvino/libs/*_intel_[gn]pu_plugin.* */openvino/libs/cache.json \
    */openvino/libs/*_frontend.*
package: LEFT_IN := */openvino/libs/*_ir_frontend.*
package:
	@$(CHECK_PYTHON)
	@rm -rf build $(PACKED) $(DIST)/faceattr_*
	$(PYTHON) -m venv $(PACKED)
	$(PACKED)/bin/python -m pip install --quiet --require-hashes --only-binary :all: --requirement requirements.lock
	@# A wheel is a zip with the package at its root, as --py-files requires.
	$(PACKED)/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(DIST) .
	$(PACKED)/bin/python .ci/executors_zip.py $(DIST)/faceattr_udf-*.whl $(DIST)/faceattr_udf.zip
	@rm $(DIST)/faceattr_udf-*.whl
	$(PACKED)/bin/venv-pack --quiet --prefix $(PACKED) --output $(DIST)/faceattr_env.tar.gz \
	    $(foreach pattern,$(LEFT_OUT),--exclude '$(pattern)') --include '$(LEFT_IN)'
	@rm -rf build $(PACKED)
	@ls -lh $(DIST)

# Two files for any platform and Python: the development environment, and the executors' part of it in the same versions.
# Locked versions stay unless pyproject.toml excludes them.
RESOLVE = .cache/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) pyproject.toml
lock:
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv .cache/lock
	.cache/lock/bin/python -m pip install --quiet uv
	$(RESOLVE) --extra dev --output-file requirements-dev.lock
	$(RESOLVE) --extra package --constraint requirements-dev.lock --output-file requirements.lock

# AUDIT=--may-skip is for CI without access to such a database: the command says so and succeeds.
audit: $(STAMP)
	@$(BIN)/python .ci/audit.py $(AUDIT) requirements-dev.lock

clean:
	rm -rf $(VENV) .cache build dist demo .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis \
	    spark-warehouse metastore_db derby.log *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
