# One door for every habit. `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: help run test crash lint format doc deny guided bench flame count fuzz image ci

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## The service with its stand-in for Wigzo, nothing to configure
	cargo run --release --locked -- serve --sandbox

test: ## All tests
	tests/run

crash: ## A hundred kills and a hundred power cuts under load, and the books compared
	scripts/crash.sh 100
	scripts/crash.sh 100 "" power

lint: ## Format and clippy, as CI checks them
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings

format: ## Formats the sources
	cargo fmt --all

doc: ## The documentation of the code, in target/doc
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

deny: ## Licences, duplicates, sources and advisories of the dependencies
	scripts/deny.sh

guided: ## The service compiled with a profile of itself, as it should be shipped
	scripts/guided.sh

bench: ## The benchmarks, end to end last
	cargo bench --locked
	scripts/bench.sh

flame: ## Where the time goes under load, drawn anew (needs perf)
	scripts/flame-graph.sh

count: ## The instructions that an event takes, compared with the baseline
	scripts/instructions.sh

fuzz: ## Every fuzz target for a minute (needs cargo-fuzz)
	scripts/fuzz.sh

image: ## The container image
	docker build --build-arg GUIDED=yes --tag wigzo-destination:local .

ci: ## Everything that CI runs
	.ci/run
