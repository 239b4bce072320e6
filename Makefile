# Needs only make and Python 3.11 or 3.12; everything else is installed into .venv and build/.
# Real Kafka and Redis (make services) also need Java 17, Maven and redis-server; root gets them.
# PYTHON=/path/to/python3.12 chooses the interpreter of a new .venv.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS := build/peers-venv
CLIENTS := build/clients-venv
TOOLS := build/tools
UV_REQUIREMENT := uv>=0.9,<1

# Runs each candidate: a version manager's shim may exist for a Python that does not.
PYTHON ?= $(shell for python in python3.12 python3.11 python3 python; do \
	if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; \
	then command -v "$$python"; break; fi; done)
# A uv that is too old for pyproject.toml refuses to run here; then we get our own.
UV ?= $(shell if uv python dir >/dev/null 2>&1; then command -v uv; else echo $(TOOLS)/bin/uv; fi)

PROTOS := $(patsubst proto/%,%,$(wildcard proto/*/*/*.proto))
BENCHMARKS := $(filter-out benchmarks/_% benchmarks/peers.py,$(wildcard benchmarks/*.py) \
	$(patsubst %/__main__.py,%.py,$(wildcard benchmarks/*/__main__.py)))
CHECKS := check-format check-lint check-types check-stubs check-house check-compose

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test services services-get services-down check $(CHECKS) bench stubs \
	bench-windows lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z%-]+:.* ## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PYTHON=PATH chooses the interpreter, PYTEST_ARGS=... and LOCK_ARGS=... are passed on"

install: $(INSTALLED) ## the environment .venv, exactly as in requirements.lock, and compiled kernels

demo: install ## a year of real flights from log to scores; writes build/demo/report.json
	$(BIN)/headwater demo

# Tests of outages wait more than they work, so six files at a time share two cores well: with
# four, nobody worked for more than a quarter of the time. tests/order.py says which files come first.
# Where bytecode may not be written, each of a hundred processes compiles all that it imports.
test: export PYTHONDONTWRITEBYTECODE :=
test: install $(CLIENTS)/.installed ## the whole test suite but for the house rules of make check
	$(BIN)/pytest --numprocesses 6 --dist loadfile --no-loadscope-reorder \
		--ignore tests/test_house.py $(PYTEST_ARGS)

services: install ## real Kafka and Redis in the background, on 127.0.0.1:9092 and :6379
	$(BIN)/python -m tests.services up

services-get: install ## only get what they need; as root also Debian packages
	$(BIN)/python -m tests.services get

services-down: install ## end them; their data stays in build/services
	$(BIN)/python -m tests.services down

check: $(CHECKS) ## formatting, lint, types, stubs up to date, house rules, compose.yaml

check-format: install
	$(BIN)/ruff format --check .

check-lint: install
	$(BIN)/ruff check .

check-types: install
	$(BIN)/mypy

check-stubs: install
	@rm -rf build/stubs
	@$(call compile_protos,build/stubs)
	@cd build/stubs && for file in $$(find * -type f); do \
		cmp "../../$$file" "$$file" || { echo "$$file is not what proto/ says: run 'make stubs'"; \
		exit 1; }; done

check-house: install
	$(BIN)/pytest --quiet tests/test_house.py

check-compose: install
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml

bench: $(BENCHMARKS:benchmarks/%.py=bench-%) ## every benchmark, one after the other

bench-%: install ## one benchmark; writes build/bench/NAME.json
	@mkdir -p build/bench
	$(BIN)/python -m benchmarks.$* --output build/bench/$*.json

# Has Python packages, jars of Flink and some 15 minutes of its own, so it is not part of `bench`.
bench-windows: install $(PEERS)/.installed ## Headwater and what people would pick instead
	@mkdir -p build/bench
	$(BIN)/python -m benchmarks.peers --peers-python $(PEERS)/bin/python $(PEERS_ARGS) \
		--output build/bench/windows.json

stubs: install ## the Python stubs, anew from proto/
	$(call compile_protos,.)

lock: | $(UV) ## all requirements*.lock from pyproject.toml (LOCK_ARGS=--upgrade: newest versions)
	$(UV) pip compile --quiet --universal --fork-strategy fewest --generate-hashes \
		--python-version 3.11 --all-extras --group test --group check $(LOCK_ARGS) \
		--custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml
	@# One platform: universal resolution wants wheels for some that Bytewax has none for.
	$(UV) pip compile --quiet --python-platform x86_64-manylinux_2_31 --generate-hashes \
		--python-version 3.11 --group peers $(LOCK_ARGS) \
		--custom-compile-command 'make lock' --output-file requirements-peers.lock
	$(UV) pip compile --quiet --universal --fork-strategy fewest --generate-hashes \
		--python-version 3.11 --group clients $(LOCK_ARGS) \
		--custom-compile-command 'make lock' --output-file requirements-clients.lock

clean: ## remove what was built and installed here, after ending what make services started
	@test ! -d build/services || test ! -d $(VENV) || $(BIN)/python -m tests.services down
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): export PYTHONDONTWRITEBYTECODE :=
$(INSTALLED): requirements.lock pyproject.toml | $(UV)
	@$(need_python)
	@$(BIN)/python -c '' 2>/dev/null || \
		$(UV) venv --clear --no-python-downloads --python "$(PYTHON)" $(VENV)
	@# Else the first command would compile what it imports, a quarter of a minute on one core.
	$(UV) pip sync --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@# Likewise what numba compiles, most of a minute: the first run would wait for it. What cannot be
	@# compiled here will say why when it is needed.
	@$(BIN)/python -m tests.kernels windows & $(BIN)/python -m tests.kernels; wait
	@touch $@

$(PEERS)/.installed: requirements-peers.lock | $(UV)
	@$(need_python)
	@$(PEERS)/bin/python -c '' 2>/dev/null || \
		$(UV) venv --clear --no-python-downloads --python "$(PYTHON)" $(PEERS)
	$(UV) pip sync --python $(PEERS)/bin/python --require-hashes requirements-peers.lock
	@touch $@

$(CLIENTS)/.installed: requirements-clients.lock | $(UV)
	@$(need_python)
	@$(CLIENTS)/bin/python -c '' 2>/dev/null || \
		$(UV) venv --clear --no-python-downloads --python "$(PYTHON)" $(CLIENTS)
	$(UV) pip sync --python $(CLIENTS)/bin/python --require-hashes requirements-clients.lock
	@touch $@

# Debian's Python may come without venv, others without pip: either will do.
$(TOOLS)/bin/uv:
	@$(need_python)
	@echo "uv is missing here: installing it into $(TOOLS)"
	@rm -rf $(TOOLS)
	@{ "$(PYTHON)" -m venv $(TOOLS) >/dev/null 2>&1 && \
		$(TOOLS)/bin/python -m pip install --quiet "$(UV_REQUIREMENT)"; } || \
	"$(PYTHON)" -m pip install --quiet --target $(TOOLS) "$(UV_REQUIREMENT)" || \
	{ echo "cannot install uv with $(PYTHON): it needs the venv module or pip"; exit 1; }

define need_python
test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and was not found:" \
	"install one, or say PYTHON=/path/to/it"; exit 1; }
endef

define compile_protos
mkdir -p $(1) && $(BIN)/python -m grpc_tools.protoc -Iproto \
	--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	--python_out=$(1) --grpc_python_out=$(1) \
	--mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) $(PROTOS)
sed -i.bak 's/^from google\.protobuf import descriptor_pool /from scorer.foreign import pool /' \
	$(1)/scorer/foreign/*_pb2.py && rm $(1)/scorer/foreign/*.bak
endef
