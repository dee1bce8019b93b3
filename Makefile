# Two commands: `make run` starts Cordon with its demonstration, `make test` runs every test.
#
#   PROFILE=dev       how it is built; `release` is what is shipped, and takes far longer
#   DATA=data         the folder of all that `make run` writes
#   ARGUMENTS=        goes on to `cordon run`, or to the bench (`make run ARGUMENTS=--no-collector`)
#   CARGO_TARGET_DIR  where it is built; `target` where it is not set

PROFILE ?= dev
DATA ?= data
CARGO ?= cargo
PYTHON ?= python3
ARGUMENTS ?=

# cargo puts the dev profile into `debug`.
OUTPUT := $(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
TARGET := $(or $(CARGO_TARGET_DIR),target)
PROGRAMS := $(TARGET)/$(OUTPUT)
# Both packages whichever program is built: else features differ, and dependencies are built twice.
BUILD := $(CARGO) build --locked --profile $(PROFILE) -p cordon-gateway -p cordon-collector

.PHONY: run check model build release test bench policies
# With `-j`, too, it first says what is missing and builds only then.
.NOTPARALLEL:

# The first time it starts as soon as the gateway is built: the collector takes as long again.
run: check model
	@started=$$(date +%s); echo "building Cordon ($(PROFILE)); the first time takes a while" >&2; \
	if [ -x $(PROGRAMS)/cordon-collector ]; then \
	  $(BUILD) --bins && exec $(PROGRAMS)/cordon run --data $(DATA) $(ARGUMENTS); exit; fi; \
	$(BUILD) --bin cordon || exit; \
	echo "built in $$(( $$(date +%s) - started )) s; it starts, and the collector (tables, SQL," \
	  "proofs) is built meanwhile" >&2; \
	trap : INT; $(BUILD) --quiet --bins & builder=$$!; \
	$(PROGRAMS)/cordon run --data $(DATA) --collector-later $(ARGUMENTS); ended=$$?; \
	kill $$builder 2>/dev/null; exit $$ended

# Before anything is fetched or built: all that is missing, at once.
check:
	@missing=; for tool in $(firstword $(CARGO)) cmake cc $(PYTHON); do \
	  command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	! command -v $(PYTHON) >/dev/null || $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || missing="$$missing $(PYTHON)-venv"; \
	[ -z "$$missing" ] || { echo "missing:$$missing. Install what is needed, then try again:" >&2; \
	  echo "    apt-get install -y build-essential cmake curl python3 python3-venv" >&2; \
	  echo "and cargo with rustup, as its own site says" >&2; \
	  exit 2; }

model: check
	@$(PYTHON) gateway/src/local/prepare.py --out $(DATA)/models

build: check
	@started=$$(date +%s); echo "building Cordon ($(PROFILE)); the first time takes a while" >&2; \
	$(BUILD) --bins \
	&& echo "built in $$(( $$(date +%s) - started )) s" >&2

release: check
	$(CARGO) build --locked --release -p cordon-gateway -p cordon-collector --bins

test: check model
	@tests/run

# The collector is another process and no part of what is measured.
bench:
	$(CARGO) build --locked --release -p cordon-gateway -p cordon-system --bins
	$(TARGET)/release/cordon-bench $(ARGUMENTS)

policies:
	policies/build build
