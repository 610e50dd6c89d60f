# `make help` lists the targets.

CARGO ?= cargo

.PHONY: help demo test bench

help: ## This list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: ## The provider at work against a simulated AWS: plan, apply, change, destroy
	@tools/demo

test: ## Every test
	$(CARGO) test --workspace --locked

bench: ## Figures: start-up, memory, calls, time against the critical path (builds a release, 20 minutes)
	@tools/bench
