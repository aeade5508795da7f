# Everything a person types: `make demo` shows the product at work, `make test` proves it. Both install first.
#
# Variables:
#   ENGINE=sail|spark   what runs the demo (sail needs no Java; spark fetches Delta's jar on first use)
#   PHOTOS=folder       run the demo on your own photographs
#   PYTHON=python3.12   the interpreter that makes the virtual environment
#   VENV=folder         where that environment lives
#   DIST=folder         where `make package` leaves its two files

VENV ?= .venv
ENGINE ?= sail
PHOTOS ?=
DIST ?= dist

# The first interpreter that really starts and is new enough: a pyenv shim may be on the PATH and lead nowhere.
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; done)

CHECK_PYTHON = if [ -z "$(PYTHON)" ]; then \
    echo 'make: no Python 3.11 or newer found; install it or say make PYTHON=path' >&2; exit 2; fi

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint package lock audit clean

help:
	@echo 'make demo     install, then enrich real photographs and show the faces (PHOTOS=folder, ENGINE=sail|spark)'
	@echo 'make test     install, then run the tests of a few minutes'
	@echo 'make test-slow  install, then run the others: clusters, kills, packaging, trainings'
	@echo 'make lint     install, then check style, types and import directions'
	@echo 'make package  dist/faceattr_udf.zip and dist/faceattr_env.tar.gz for spark-submit'
	@echo 'make audit    install, then look the locked packages up in a database of known vulnerabilities'
	@echo 'make lock     resolve the dependencies of pyproject.toml anew; UPGRADE=1 takes newer versions of all'
	@echo 'make install  only install, into $(VENV)'
	@echo 'make clean    remove what the commands above made, the environment included'

install: $(STAMP)

# The stamp makes a second `make` install nothing, until pyproject.toml or the lock changes.
$(STAMP): pyproject.toml requirements-dev.lock
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)
	@# First what the second needs to build what comes as sources only, which would otherwise fetch tools of its own.
	$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: --requirement requirements.lock
	@# Python compiles what is imported, when it is imported: a small part of what this brings.
	$(BIN)/python -m pip install --quiet --require-hashes --no-build-isolation --no-compile --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# One folder of tables per engine and photograph folder, so that a second run finds its own tables and infers nothing.
# A JVM of the demo lives for less than a minute: the second compiler and a parallel collector would only cost.
demo: JVM := spark.driver.extraJavaOptions=-XX:+UseSerialGC -XX:TieredStopAtLevel=1
demo: $(STAMP)
	@set -eu; \
	photos="$(PHOTOS)"; name=own; \
	if [ -z "$$photos" ]; then \
	    photos=demo/photos; name=photos; \
	    $(BIN)/python -m jobs.demo_photos --output "$$photos"; \
	elif [ ! -d "$$photos" ]; then \
	    echo "make: PHOTOS=$$photos is not a folder; name the folder your photographs are in" >&2; exit 2; \
	else \
	    name=own-$$(cd "$$photos" && pwd | cksum | cut -d ' ' -f 1); \
	fi; \
	output="demo/$(ENGINE)/$$name"; \
	set -- --set engine.name=$(ENGINE) --set "engine.settings.$(JVM)"; \
	$(BIN)/python -m jobs.ingest "$$@" --input "$$photos" --images "$$output/images"; \
	$(BIN)/python -m jobs.enrich "$$@" --images "$$output/images" --output "$$output"; \
	$(BIN)/python -m jobs.demo "$$@" --input "$$photos" --tables "$$output" \
	    --pictures "$$output/pictures"

# Two processes: one has the JVM and the tests that need it, the other the rest. A file stays in one process, with what
# it prepares for its tests (tests/conftest.py forms the groups).
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup

# What a contributor runs: the core, the embedded engine, and on Apache Spark what can only fail there.
test: $(STAMP)
	@$(PYTEST) -m "not slow"

# What takes processes, clusters and minutes: kills, packaging, trainings, 8-bit graphs, hostile files by the hundred.
test-slow: $(STAMP)
	@$(PYTEST) -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What spark-submit takes (README: "Every night"), built from scratch and without the 7 GB of `make install`:
# the code with its weights, and an environment for executors, which need neither torch nor the cluster's own PySpark.
package: PACKED := .cache/executors
# A quarter of the environment that no executor loads: tests, headers, the installer, Flight, and what OpenVINO has for
# other devices and for models in other formats than its own (which is the one that is left in again).
package: LEFT_OUT := */tests/* */include/* */site-packages/pip/* */site-packages/setuptools/* */pyarrow/_flight.* \
    */pyarrow/*arrow*flight* */openvino/libs/*_intel_[gn]pu_plugin.* */openvino/libs/cache.json \
    */openvino/libs/*_frontend.*
package: LEFT_IN := */openvino/libs/*_ir_frontend.*
package:
	@$(CHECK_PYTHON)
	@rm -rf build $(PACKED) $(DIST)/faceattr_*
	$(PYTHON) -m venv $(PACKED)
	$(PACKED)/bin/python -m pip install --quiet --require-hashes --only-binary :all: --requirement requirements.lock
	@# A wheel is a zip with the package at its root, which is what --py-files asks for.
	$(PACKED)/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(DIST) .
	$(PACKED)/bin/python -m pip install --quiet --no-deps $(DIST)/faceattr_udf-*.whl
	@mv $(DIST)/faceattr_udf-*.whl $(DIST)/faceattr_udf.zip
	$(PACKED)/bin/venv-pack --quiet --prefix $(PACKED) --output $(DIST)/faceattr_env.tar.gz \
	    $(foreach pattern,$(LEFT_OUT),--exclude '$(pattern)') --include '$(LEFT_IN)'
	@rm -rf build $(PACKED)
	@ls -lh $(DIST)

# Two files, for any platform and Python: what everything here runs with, and the part of it that executors get, in the
# same versions. Versions that are locked stay where pyproject.toml still agrees.
RESOLVE = .cache/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) pyproject.toml
lock:
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv .cache/lock
	.cache/lock/bin/python -m pip install --quiet uv
	$(RESOLVE) --extra dev --output-file requirements-dev.lock
	$(RESOLVE) --extra package --constraint requirements-dev.lock --output-file requirements.lock

# In CI, which may reach no such database, AUDIT=--may-skip lets the command say so and succeed.
audit: $(STAMP)
	@$(BIN)/python .ci/audit.py $(AUDIT) requirements-dev.lock

clean:
	rm -rf $(VENV) .cache build dist demo .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis \
	    spark-warehouse metastore_db derby.log *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
