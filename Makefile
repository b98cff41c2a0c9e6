# make serve   the service with its starter model, in an environment of its own (no torch)
# make install  as make serve does, without serving
# make wheel   dist/segserve-*.whl, to install elsewhere (docs/install.md)
# make test    everything that tests need, then all tests, WORKERS=4 files at a time
# make test-numerics   the numerical tests as on other CPUs: half an hour (ARGS=avx2-1: one setting)
# make test-failover   Redis servers that fail while a service works: Sentinels and a cluster
# make test-docs the commands of README and docs that take their time
# make lint    style, types, architecture
# make test-microsam   the tests against micro-sam, which is heavy: an environment of its own
# make test-napari   the tests of napari's widget, without a screen: an environment of its own
# make corpus  every file below a folder through both upload routes, compared with other readers: DIR=folder
# make fuzz    mutated requests and files against a real service, and coverage-guided readers: ARGS="--minutes 5"
# make soak    two replicas, two workers and 32 annotators, disturbed: twelve minutes
# make chaos   kill -9, a full disk, a bucket that is away, under clicks and jobs of two tenants: minutes (CHAOS_SEED, CHAOS_S)
# make rolling everything is replaced one by one under 32 annotators, behind HAProxy: three minutes
# make proto   the code generated from proto/
# make docs    the pages as a site, in build/site
# make reference the pages that are written from the code: docs/settings.md, docs/command-line.md
# make bench   the measurements behind the README's numbers
# make templates   the graphs without weights that checkpoints are imported by, from the reference libraries
# make train   the starter model from zero: DATA=folder of nuclei (see training/README.md)
# make unet    the same for starter-unet
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
# Pass options on: make serve ARGS="--port 9000"
ARGS ?=
DATA ?= data/nuclei
WORKERS ?= 4
MICROSAM_TESTS = tests/models/importers/test_micro_sam.py tests/automatic/test_ais_watershed_oracle.py tests/automatic/test_merge_slices_oracle.py

.PHONY: proto templates docs reference install serve wheel test test-numerics test-large test-microsam test-napari test-clients test-failover test-docs corpus fuzz soak chaos rolling lint format bench train starter unet clean

install: $(VENV)/.light

serve: $(VENV)/.light
	$(BIN)/segserve serve $(ARGS)

wheel:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	rm -f dist/segserve-*.whl
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

# Most tests wait for processes, so more files than cores run at a time. One thread for each: more only get in each
# other's way (test-numerics has two).
test: $(VENV)/.full
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-numerics: $(VENV)/.full
	$(BIN)/python -m tests.cpu_matrix $(ARGS)

test-large: $(VENV)/.full
	$(BIN)/pytest -m large $(ARGS)

# Real clients: a browser (apt-get install chromium), and clients generated for TypeScript (needs npm) and Python.
test-clients: $(VENV)/.full
	$(BIN)/pytest -m clients $(ARGS)

# Redis servers that fail and are replaced: Sentinels, a cluster.
test-failover: $(VENV)/.full
	$(BIN)/pytest -m failover $(ARGS)

test-docs: $(VENV)/.full
	$(BIN)/pytest -m docs $(ARGS)

# What micro-sam computes, in an environment of its own: it brings napari and Qt.
test-microsam: $(VENV)-microsam/.ready
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(VENV)-microsam/bin/pytest -W default $(MICROSAM_TESTS) $(ARGS)

# The widget of clients/napari, without a screen, in an environment of its own: it brings napari and Qt.
test-napari: $(VENV)-napari/.ready
	QT_QPA_PLATFORM=offscreen $(VENV)-napari/bin/pytest -W default tests/clients/test_napari.py $(ARGS)

corpus: $(VENV)/.full
	$(BIN)/python -m tests.corpus $(DIR) $(ARGS)

# docs/fuzzing.md
fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzz $(ARGS)

soak: $(VENV)/.full
	$(BIN)/python -m bench load

chaos: $(VENV)/.full
	$(BIN)/pytest -n 0 -s -m chaos tests/chaos $(ARGS)

# tests/deploy/test_rolling_restart.py says what it needs: HAProxy.
rolling: $(VENV)/.full
	$(BIN)/pytest -n 0 -s -m chaos tests/deploy/test_rolling_restart.py $(ARGS)

lint: $(VENV)/.full
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint proto

# The gRPC contract's generated code, which is kept in the repository: service/segserve/v1, service/segserve/inference
proto: $(VENV)/.full
	$(BIN)/buf lint proto
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=service --pyi_out=service --grpc_python_out=service proto/segserve/*/*.proto

docs: $(VENV)/.full
	$(BIN)/python -m docs.site.stage build/site-source
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

reference: $(VENV)/.full
	$(BIN)/python -m docs.site.reference

# service/segserve/models/templates/data: ten minutes and 12 GB of memory for all; ARGS=vit_t: one
templates: $(VENV)/.full
	$(BIN)/python -m segserve.models.export.write_templates $(ARGS)

format: $(VENV)/.full
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.full
	$(BIN)/python -m bench $(ARGS)

train: $(VENV)/.full
	$(BIN)/python training/train.py --data $(DATA) $(ARGS)

starter: $(VENV)/.full
	$(BIN)/python training/publish.py $(ARGS)

unet: $(VENV)/.full
	$(BIN)/python training/unet.py --data $(DATA) $(ARGS)

clean:
	rm -rf $(VENV) $(VENV)-microsam $(VENV)-napari

# Python compiles what it imports at the first start. Compiling everything would take a third of the install.
$(VENV)/.light: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing: about half a minute"
	$(PIP) --no-compile --editable '.[cpu]'
	touch $@

$(VENV)-microsam/.ready: pyproject.toml
	test -x $(VENV)-microsam/bin/python || $(PYTHON) -m venv $(VENV)-microsam
	$(VENV)-microsam/bin/pip install --quiet --disable-pip-version-check --editable '.[cpu,microsam,dev]' setuptools wheel
	SAM2_BUILD_CUDA=0 $(VENV)-microsam/bin/pip install --quiet --no-build-isolation 'sam2>=1.1'
	touch $@

# --no-deps: segserve-client comes with segserve.
$(VENV)-napari/.ready: pyproject.toml clients/napari/pyproject.toml
	test -x $(VENV)-napari/bin/python || $(PYTHON) -m venv $(VENV)-napari
	$(VENV)-napari/bin/pip install --quiet --disable-pip-version-check --editable '.[cpu]' 'napari[pyqt6]>=0.5' pytest pytest-qt hypothesis
	$(VENV)-napari/bin/pip install --quiet --disable-pip-version-check --no-deps --editable clients/napari
	touch $@

# sam2 has no wheel: its build needs the torch that is installed, and none of its CUDA kernels.
$(VENV)/.full: $(VENV)/.light
	$(PIP) --editable '.[cpu,models,train,dev]' setuptools wheel
	SAM2_BUILD_CUDA=0 $(PIP) --no-build-isolation 'sam2>=1.1'
	touch $@

# What leads mutations by coverage: atheris.
$(VENV)/.fuzz: $(VENV)/.full
	$(PIP) --editable '.[cpu,models,train,fuzz]'
	touch $@
