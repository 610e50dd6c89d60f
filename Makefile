# `make help` lists the targets.

# A failure counts wherever it is in a pipe.
SHELL := bash
.SHELLFLAGS := -o pipefail -c

CARGO ?= cargo
PYTHON ?= python3

.DELETE_ON_ERROR:
.PHONY: help provider package demo test docs crash simulate experiments contract peer bench

help: ## This list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

provider: ## A release of the provider in target/release, with the functions' program packed beside it
	$(CARGO) build --release --locked --package terraform-provider-trading --bins
	$(or $(CARGO_TARGET_DIR),target)/release/terraform-provider-trading pack \
		$(or $(CARGO_TARGET_DIR),target)/release/trading-dr-agent $(or $(CARGO_TARGET_DIR),target)/release/trading-dr-agent.zip

package: provider ## The zip that a mirror serves, manifest and checksums, in dist/ (15 MB at most; builds a release)
	$(or $(CARGO_TARGET_DIR),target)/release/terraform-provider-trading package dist LICENSE README.md CHANGELOG.md
	@test -z "$$(find dist -name '*.zip' -size +15000000c -print)" || { echo 'more than 15 MB' >&2; exit 1; }

demo: ## The provider at work against a simulated AWS: plan, apply, change, destroy; a failover on PostgreSQL
	@tools/demo

# Three for each processor: many tests wait for real time, the others stand back for them.
test: ## Every test
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$((3 * $$(getconf _NPROCESSORS_ONLN)))} $(CARGO) test --workspace --locked

docs: ## Write what the pages take from the schema, the examples and the calls
	UPDATE_DOCS=1 $(CARGO) test --locked --test main -- documentation::reference

# More than an hour; with CRASH_FROM=n, the faults go on after so many points of each kind of run; with CRASH_ONLY=text, only the
# points are tried whose call or fate, as a failure prints it, has the text in it.
crash: ## Every call refused, failing, hanging, interrupted, or without its answer; killed at twenty points (make test tries a sample)
	CRASH_POINTS=all $(CARGO) test --locked --test main -- --include-ignored --nocapture simulation::crash \
		simulation::faults simulation::interrupts simulation::storms simulation::abuse::what_a_plan killed_at_twenty_points

simulate: ## Failovers in a typed world, SEEDS of them (default 100000; make test tries 2052)
	SEEDS=$(or $(SEEDS),100000) $(CARGO) test --locked --test main -- --nocapture simulation::failover::what_must_hold

experiments: ## Trouble on real databases, RUNS times each (default 3, an hour), with what was measured
	@RUNS=$(or $(RUNS),3) $(CARGO) test --locked --test main -- --ignored --nocapture laboratory::experiments | grep --line-buffered '^|'

# What is asked and answered in a cluster's life, by drift, and where calls fail, as the tests keep it; and what the functions
# may do.
KEPT = $(or $(CARGO_TARGET_DIR),target)/tmp/traffic
TRAFFIC = $(patsubst %,$(KEPT)/%.json,life drift arguments two-clusters neighbours forced restored \
	faults-of-create faults-of-update faults-of-destroy)
POLICIES = $(KEPT)/policies-of-functions.json

$(TRAFFIC) $(POLICIES): Cargo.toml Cargo.lock $(shell find src tests examples -type f)
	$(CARGO) test --locked --test main -- simulation::access::whoever_has_the_published_policies \
		simulation::drift::drift_shows simulation::faults::any_call simulation::lifecycle::every_argument \
		simulation::running::two_clusters simulation::neighbours simulation::asked::force_does_without simulation::restarts::a_cluster_of_which

contract: $(TRAFFIC) $(POLICIES) ## Sandbox, calls, policies, release against the rules of AWS, GoReleaser, GitHub (needs tests/contract/requirements.txt)
	$(PYTHON) tests/contract/policies.py examples/iam/*.json $(POLICIES)
	$(PYTHON) tests/contract/packaging.py
	$(CARGO) build --locked --package aws-sandbox
	$(PYTHON) tests/contract/contract.py $(or $(CARGO_TARGET_DIR),target)/debug/aws-sandbox $(TRAFFIC)

peer: ## hashicorp/aws manages the same stack on the simulated AWS, in real time (needs a mirror that has it)
	$(CARGO) test --locked --test main -- --ignored --nocapture peer::

bench: ## Figures: start-up, memory, calls, failovers, points tried, beside hashicorp/aws (builds a release)
	@tools/bench
