# `make help` lists the targets.

CARGO ?= cargo

.PHONY: help test

help: ## This list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

test: ## Every test
	$(CARGO) test --workspace --locked
