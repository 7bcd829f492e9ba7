# Everything happens in .venv; nothing else on the machine is touched and no root is needed.
# `make run` and `make test` do all set-up themselves.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
EXPORT := .venv-export
LABELLING := .venv-labelling
PIP     = $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint requirements.lock

# make run SOURCE=clip.mp4 MODEL=yolo26n.onnx SECONDS=60 OUT=out/street
SOURCE  ?=
MODEL   ?=
SECONDS ?= 60
OUT     ?=

.PHONY: help coverage bench-tailstream bench-collapse bench-fleet bench-dataset fuzz install run test check chaos power-cuts bench bench-spool test-export kit deb test-machine soak test-cameras audit lock clean bench-world bench-delivery bench-outage bench-speed
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml requirements.lock | $(BIN)/python
	$(PIP) --editable '.[demo,dataset]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml requirements.lock | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

## make install    put the command at .venv/bin/tailkeeper
install: $(VENV)/.installed

## make run        the whole product for a minute: camera, model, broker, collector, contact sheet
run: install
	@$(BIN)/tailkeeper demo --seconds $(SECONDS) $(if $(SOURCE),--source '$(SOURCE)') $(if $(MODEL),--model '$(MODEL)') $(if $(OUT),--out '$(OUT)')

## make test       the test suite (uses mosquitto when it is on PATH)
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow"

## make coverage   the same, and which lines it reaches; takes half as long again
coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow" --cov --cov-report=term:skip-covered

## make check      format, lint, types, import rules
check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

## make chaos      1,000 kill -9 among agent, collector and broker: nothing lost, nothing twice
chaos: $(VENV)/.installed-dev
	$(BIN)/python -m tests.crash.chaos --kills 1000 --seed 1

## make power-cuts 500 simulated power cuts of the spool, 100 of a model roll-out (root, loop-mounted ext4)
power-cuts: $(VENV)/.installed-dev
	unshare --mount $(BIN)/python -m tests.crash.power --cuts 500
	unshare --mount $(BIN)/python -m tests.crash.control_power --cuts 100

## make fuzz       100,000 mutated control payloads, 50,000 uploads and as many receipts: no crash, nothing applied
fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m tests.bench.fuzz_control --count 100000
	$(BIN)/python -m pytest -m slow tests/model/test_fuzz_delivery.py

## make bench      every benchmark that needs neither root nor an hour; build/bench.md
bench: $(VENV)/.installed-dev
	$(BIN)/python -m tests.bench

## make bench-speed pipeline against the bare inference (and Ultralytics, where .venv-export has it), memory, start, cameras
bench-speed bench-world bench-delivery bench-outage bench-fleet bench-dataset: bench-%: $(VENV)/.installed-dev
	$(BIN)/python -m tests.bench.$*

## make bench-dataset 100,000 candidates: stats, export, build, verify in seconds and MB
## make bench-tailstream selection against its rivals, with ablation, canary and cost (real stills: TAILKEEPER_ASSETS); RESULTS.md
bench-tailstream: $(VENV)/.installed-dev
	$(BIN)/python -m tests.bench.tailstream --ablation
	cp build/tailstream.md tests/bench/tailstream/RESULTS.md

## make bench-collapse retraining, round after round, on four kinds of labels (an hour of one core; goes on where it was); build/collapse.*
bench-collapse: $(EXPORT)/.installed
	$(EXPORT)/bin/python -m tests.bench.collapse $(if $(WORK),--work '$(WORK)')

## make bench-spool bytes written to the disk per byte of picture (root, loop-mounted ext4)
bench-spool: $(VENV)/.installed-dev
	unshare --mount $(BIN)/python -m tests.bench.spool_writes

## make test-export what needs Ultralytics or the labelling tools' libraries: parity, export, the labelling loop, the shipped model's architecture
test-export: $(EXPORT)/.installed $(LABELLING)/.installed
	$(EXPORT)/bin/python -m pytest tests/integration/test_labelling_tools.py tests/e2e/test_labelling_loop.py \
	  tests/integration/test_parity.py tests/integration/test_export.py tests/unit/test_world_export.py tests/unit/test_world_model.py tests/unit/test_export_embedding.py

# PyTorch first and pinned: Ultralytics would take whatever is newest, with gigabytes of CUDA.
$(EXPORT)/.installed: pyproject.toml requirements.lock requirements-export.lock
	$(PYTHON) -m venv $(EXPORT)
	$(EXPORT)/bin/python -m pip --disable-pip-version-check install --quiet torch==2.13.0 torchvision==0.28.0
	$(EXPORT)/bin/python -m pip --disable-pip-version-check install --quiet \
	  --constraint requirements.lock --constraint requirements-export.lock --editable '.[dev,export]'
	@touch $@

# The labelling tools' own libraries, which judge what is exported; they see files, and nothing of ours is installed here.
$(LABELLING)/.installed: requirements-labelling.lock
	$(PYTHON) -m venv $(LABELLING)
	$(LABELLING)/bin/python -m pip --disable-pip-version-check install --quiet --requirement requirements-labelling.lock
	@touch $@

## make kit        what a device is installed from, without network: dist/tailkeeper-VERSION-ARCH-pyPY (ARCH=arm64 PY=3.11)
kit: $(VENV)/.installed-dev
	deploy/kit.sh $(if $(ARCH),--arch $(ARCH)) $(if $(PY),--python $(PY))

## make deb        the same as a Debian package (ARCH=arm64 PY=3.11)
deb: $(VENV)/.installed-dev
	deploy/deb.sh $(if $(ARCH),--arch $(ARCH)) $(if $(PY),--python $(PY))

## make test-machine  installation, systemd and arm64 on machines of their own (root, debootstrap, systemd-container, qemu-user-static)
test-machine: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "root and slow" tests/e2e/machine

## make soak       an accelerated year of trouble (MINUTES=30 SEED=1): nothing lost, memory, descriptors and threads constant
soak: $(VENV)/.installed-dev
	$(BIN)/python -m tests.bench.soak --minutes $(or $(MINUTES),30) --seed $(or $(SEED),1) --samples out/soak.jsonl

## make test-cameras network cameras of the tests' own, slowly: 500 reconnects, away for a minute
test-cameras: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow tests/integration/test_network_camera.py

## make audit      known holes in what a device gets (asks the package index)
audit: $(VENV)/.installed-dev
	$(PIP) pip-audit
	mkdir -p build
	$(BIN)/uv pip compile pyproject.toml --constraint requirements.lock --no-header --no-annotate --quiet > build/audit.txt
	$(BIN)/pip-audit --strict --requirement build/audit.txt --no-deps --disable-pip

## make lock       renew requirements.lock within the bounds of pyproject.toml
lock: $(VENV)/.installed-dev
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.10 --extra demo --extra dataset --extra dev \
	  --no-emit-index-url --no-header --quiet --output-file requirements.lock
	$(BIN)/uv pip compile --group labelling --universal --python-version 3.10 \
	  --no-emit-index-url --no-header --no-annotate --quiet --output-file requirements-labelling.lock

## make clean      remove what the targets above made
clean:
	rm -rf $(VENV) $(EXPORT) $(LABELLING) build dist out .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
