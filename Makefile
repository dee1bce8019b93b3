# Two commands: `make run` starts Cordon with its demonstration, `make test` runs every test.

PROFILE ?= dev
DATA ?= data
CARGO ?= cargo
PYTHON ?= python3

# cargo puts the dev profile into `debug`.
OUTPUT := $(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
TARGET := $(or $(CARGO_TARGET_DIR),target)
ARGUMENTS ?=

.PHONY: run build model test release bench policies

run: model build
	@exec $(TARGET)/$(OUTPUT)/cordon run --data $(DATA) $(ARGUMENTS)

# Before anything is built: it says at once what is missing.
model:
	@$(PYTHON) --version >/dev/null 2>&1 || { \
	  echo "python3 is missing, and the local model needs it once. Install it, then try again:" >&2; \
	  echo "    apt-get install -y python3 python3-venv" >&2; exit 2; }
	@$(PYTHON) gateway/src/local/prepare.py --out $(DATA)/models

build:
	@started=$$(date +%s); echo "building Cordon ($(PROFILE)); the first time takes a while" >&2; \
	$(CARGO) build --locked --profile $(PROFILE) -p cordon-gateway -p cordon-collector --bins \
	&& echo "built in $$(( $$(date +%s) - started )) s" >&2

release:
	$(CARGO) build --locked --release -p cordon-gateway -p cordon-collector --bins

test: model
	@tests/run

# The collector is another process and no part of what is measured.
bench:
	$(CARGO) build --locked --release -p cordon-gateway -p cordon-system --bins
	$(TARGET)/release/cordon-bench $(ARGUMENTS)

policies:
	policies/build build
