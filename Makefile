# The only list of commands. `make help` prints it.
#
# Variables of the lab (LAB, LAB_DIR, LAB_ID, LAB_NODES, …: e2e/lab/README.md) are passed on from the environment, or
# from the command line: `make lab-up LAB_NODES=2`.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
LAB_SCRIPTS := e2e/lab
LOGS := target/test-logs

# Where rustup and Go's own archive put them, for shells that were not told.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/go/bin

# In CI nothing is built twice, so what makes the second build fast would only fill the disk.
ifdef CI
export CARGO_INCREMENTAL := 0
CARGO_FLAGS := --locked
endif

say = @printf '[make %(%T)T] %s\n' -1

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ See it and prove it (Linux, root; what is missing is installed or built first)

.PHONY: demo
demo: packages ## a pod with a SQLite database loses its volume, twice, and comes back with its rows (minutes)
	@e2e/demo.sh

.PHONY: test
test: packages fmt lint unit e2e lab-test ## everything: format, lint, units, properties, Litestream, cluster, no traces (minutes once all is built)
	@e2e/tally.sh sum "all tests" $(LOGS)/unit.log $(LOGS)/e2e.log $(LOGS)/lab.log

##@ While you work

.PHONY: build
build: ## our programs, static, unoptimised, into target/<machine>/debug
	$(say) "building the programs (the first time 5 to 10 minutes on two cores)"
	@cargo build $(CARGO_FLAGS) --workspace --bins

.PHONY: check
check: fmt lint unit ## what needs no cluster: fmt, lint, unit

.PHONY: fmt
fmt: toolchain ## is everything formatted? (to format: cargo fmt)
	$(say) "format"
	@cargo fmt --all --check || { echo "run: cargo fmt --all" >&2; exit 1; }

.PHONY: lint
lint: toolchain ## clippy and the API documentation, every warning an error
	$(say) "lint (the first time 3 to 6 minutes)"
	@cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS='-D warnings' cargo doc $(CARGO_FLAGS) --quiet --no-deps --workspace

.PHONY: unit
unit: litestream moto tools ## every test that needs no cluster, also those against the real Litestream and a real S3 server
	$(say) "tests without a cluster (the first time 5 to 10 minutes to build)"
	@e2e/tally.sh run $(LOGS)/unit.log $(MAKE) --no-print-directory unit-tests

.PHONY: unit-tests
unit-tests: export LITESTREAM_BIN = $(shell e2e/peers/litestream.sh)
unit-tests: export MOTO_BIN = $(shell e2e/peers/moto.sh)
unit-tests: export VERSITYGW_BIN = $(shell $(LAB_SCRIPTS)/tools.sh path)/versitygw
unit-tests: ## the same without installing anything; TEST=<part of a name> for some of them
	@code=0; \
	cargo test $(CARGO_FLAGS) --no-fail-fast --workspace --exclude lifeboat-e2e -- --quiet $(TEST) || code=$$?; \
	cargo test $(CARGO_FLAGS) --no-fail-fast -p lifeboat-e2e --lib --bins --test 'house_*' -- --quiet $(TEST) || code=$$?; \
	exit $$code

.PHONY: differential
differential: export DIFFERENTIAL_BOUNDARIES = $(or $(BOUNDARIES),100000)
differential: export DIFFERENTIAL_SEED = $(SEED)
differential: ## random SQL; a restore at every commit boundary is what the database was; BOUNDARIES=100000, SEED=<number> (10 minutes)
	@cargo test $(CARGO_FLAGS) -p lifeboat --test differential -- --nocapture

.PHONY: crash
crash: export VERSITYGW_BIN = $(shell $(LAB_SCRIPTS)/tools.sh path)/versitygw
crash: export CRASH_ROUNDS = $(or $(ROUNDS),500)
crash: tools ## kill sidecar and application at every request and at any time; what was stored is never lost; ROUNDS=500 (10 minutes)
	@cargo test $(CARGO_FLAGS) -p lifeboat --test crash -- --nocapture

.PHONY: rivals
rivals: export VERSITYGW_BIN = $(shell $(LAB_SCRIPTS)/tools.sh path)/versitygw
rivals: export LITESTREAM_BIN = $(shell e2e/peers/litestream.sh)
rivals: export RIVALS_ROUNDS = $(or $(ROUNDS),300)
rivals: export RIVALS_SEED = $(SEED)
rivals: tools litestream ## two and three machines on one replica, stopped, killed, behind bad roads; ROUNDS=300, SEED=<number> (12 minutes)
	@cargo test $(CARGO_FLAGS) -p lifeboat --test rivals -- --nocapture

.PHONY: search
search: toolchain ## every state of every small world of claims, slots, pruning and restores; WORLD=<part of a name> (3 minutes)
	@WORLD='$(WORLD)' cargo test $(CARGO_FLAGS) --release -p lifeboat-sim --test worlds -- --ignored --nocapture

.PHONY: sim
sim: toolchain ## worlds from seeds, with a bucket, machines and a network that lie; SEED=<n> tells one, WORLDS=1000000 from FROM=<n> (minutes)
	@SEED='$(SEED)' FROM='$(FROM)' WORLDS='$(or $(WORLDS),50000)' cargo test $(CARGO_FLAGS) --release -p lifeboat-sim --test seeds many -- --ignored --nocapture

.PHONY: sim-executors
sim-executors: toolchain ## the same for what claims, stores, prunes and restores in production; SEED=<n> tells one, WORLDS=2000 from FROM=<n> (minutes)
	@SEED='$(SEED)' FROM='$(FROM)' WORLDS='$(or $(WORLDS),2000)' cargo test $(CARGO_FLAGS) -p lifeboat --test executors many -- --ignored --nocapture

.PHONY: fuzz
fuzz: export SECONDS_EACH ?= 60
fuzz: toolchain ## every decoder of foreign bytes, with a fuzzer that sees what it reaches; TARGET=wal_scan for one, SECONDS_EACH=60
	@fuzz/run.sh $(TARGET)

.PHONY: e2e
e2e: packages ## the tests that need a cluster, in a lab of their own; TEST=<part of a name> for some; KEEP_LAB=1 to look around
	$(say) "tests in a cluster"
	@e2e/tally.sh run $(LOGS)/e2e.log e2e/run.sh $(TEST)

.PHONY: bench
bench: packages ## what a sidecar costs: ours, Litestream and none in turn (45 minutes); BENCH='--quick' or scenarios for less
	@e2e/bench/run.sh $(BENCH)

.PHONY: soak
soak: toolchain ## follow every kind of application for longer; FOLLOW_SECONDS=60 for each (default 10, minutes in all)
	@FOLLOW_SECONDS=$(or $(FOLLOW_SECONDS),10) cargo test $(CARGO_FLAGS) -p lifeboat --test follow_exactly -- --nocapture

.PHONY: crds
crds: ## write crds/ and charts/lifeboat-crds/ anew from the Rust types
	@cargo run $(CARGO_FLAGS) --quiet -p lifeboat-operator -- crds --write .

.PHONY: deny
deny: ## licences, sources and doubles of every dependency (needs: cargo install --locked cargo-deny)
	@cargo deny --version >/dev/null || { echo "cargo-deny is missing: cargo install --locked cargo-deny" >&2; exit 1; }
	@cargo deny check licenses bans sources

##@ What the tests need; installed once, built once, kept outside the checkout

.PHONY: packages
packages: ## the Debian packages that are missing here
	@$(LAB_SCRIPTS)/packages.sh

.PHONY: toolchain
toolchain: ## are cargo, rustfmt and clippy there, as rust-toolchain.toml says?
	@command -v cargo >/dev/null || { echo "cargo is missing: install rustup; it reads rust-toolchain.toml" >&2; exit 1; }
	@cargo fmt --version >/dev/null && cargo clippy --version >/dev/null || \
		{ echo "the toolchain lacks a part: rustup component add rustfmt clippy" >&2; exit 1; }

.PHONY: litestream
litestream: packages ## the official Litestream, as its makers publish it on PyPI
	@e2e/peers/litestream.sh >/dev/null

.PHONY: moto
moto: packages ## moto, a second S3 server for the tests, from PyPI
	@e2e/peers/moto.sh >/dev/null

.PHONY: tools
tools: packages ## the lab's programs, from source (the first time 10 to 20 minutes)
	@$(LAB_SCRIPTS)/tools.sh >/dev/null

.PHONY: images
images: build ## our images, into the nodes of the lab that is up
	@$(LAB_SCRIPTS)/images.sh ours

##@ The lab: a real Kubernetes and S3 server on this machine (Linux, root), in namespaces of their own

.PHONY: lab-up
lab-up: ## start the lab (under 20 s once the tools are built); LAB_NODES=2 for two nodes
	@$(LAB_SCRIPTS)/up.sh

.PHONY: lab-down
lab-down: ## end the lab and leave nothing behind
	@$(LAB_SCRIPTS)/down.sh

.PHONY: lab-status
lab-status: ## what runs in the lab
	@$(LAB_SCRIPTS)/status.sh

.PHONY: lab-shell
lab-shell: ## a shell in the lab, with kubectl and helm; or one command: make lab-shell CMD='kubectl get pods -A'
	@$(LAB_SCRIPTS)/netns.sh $(or $(CMD),$${SHELL:-bash})

.PHONY: lab-test
lab-test: ## prove that the lab comes up, and goes without a trace, also when killed or interrupted (2 minutes)
	$(say) "the lab leaves no trace"
	@e2e/tally.sh run $(LOGS)/lab.log $(LAB_SCRIPTS)/test.sh
