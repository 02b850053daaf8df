# make demo and make test do their own set-up: a Python environment in .venv, the plugin's zip, a local OpenSearch node.
# Needed on the machine: Python >= 3.11, Maven, a JDK >= 21.
PYTHON ?= python3
PY := .venv/bin/python
INSTALLED := .venv/.installed

.PHONY: help demo test test-fast test-python test-cluster test-java lint format bench gpu gpu-wheels proto plugin dist lock clean

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "setting up .venv (once: a few minutes, about 6 GB with torch)"
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALLED) plugin ## the whole path on a real catalogue: train, serve, index, search, evaluate
	@$(PY) -m genrecall demo $(if $(KEEP),--keep)

test: test-python test-java ## every test: Python, Java, and end to end on a real node

test-python: $(INSTALLED) plugin ## the Python tests
	@$(PY) -m pytest -n 2 --dist loadscope

test-fast: $(INSTALLED) ## what an edit needs: the Python tests without a node, without training, a minute or two
	@$(PY) -m pytest -n 2 --dist loadscope -m "not node and not slow and not trained" -q

test-cluster: $(INSTALLED) plugin ## refresh and rollback on three nodes, every fault: ten minutes that `make test` leaves out
	@$(PY) -m pytest tests/cluster -m node

test-java: ## the plugin's tests
	@plugin/build.sh verify

lint: $(INSTALLED) ## formatting, lint, types, import arrows
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports

format: $(INSTALLED) ## apply formatting and what lint can mend
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

bench: $(INSTALLED) ## speed, side by side with what one would use instead (about half an hour; a quiet machine)
	@$(PY) -m benchmarks.search
	@$(PY) -m benchmarks.constraint
	@$(PY) -m benchmarks.stages
	@$(PY) -m benchmarks.serving

gpu: ## tests, measures and profiles everything CUDA, on a bare machine without network: docs/results/gpu.md
	@$(PYTHON) -m benchmarks.gpu --seconds $(or $(SECONDS),480) $(if $(OUT),--out $(OUT))

gpu-wheels: $(INSTALLED) ## what such a machine lacks, into .cache/gpu, to be carried there
	@$(PY) -m benchmarks.gpu.wheels

proto: $(INSTALLED) ## Python stubs from proto/ (Maven generates the Java ones)
	@$(PY) -m grpc_tools.protoc -Igenrecall/rpc=proto/genrecall/v1 --python_out=. --pyi_out=. --grpc_python_out=. genrecall/rpc/generative_recall.proto

plugin: ## the plugin's zip, in plugin/target/releases
	@echo "building the plugin, where it changed (log: .cache/plugin-build.log)"
	@mkdir -p .cache
	@plugin/build.sh package -DskipTests >.cache/plugin-build.log 2>&1 || { tail -n 30 .cache/plugin-build.log >&2; exit 1; }

dist: $(INSTALLED) plugin ## sdist and wheel (with the plugin's zip), in dist
	@$(PY) -m hatchling build

lock: $(INSTALLED) ## renew requirements.lock from pyproject.toml
	@$(PY) -m pip install --quiet uv
	@.venv/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --extra all --extra dev --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet --output-file requirements.lock

clean: ## what was built and measured; .venv stays
	@rm -rf runs bundles plugin/target .cache
