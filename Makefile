# A thin front: each target is one script, and `scripts/build` drives CMake and Ninja.
# Bare `make` lists the targets.
SHELL := /bin/sh
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
export FUZZ_SECONDS

.DEFAULT_GOAL := help
.PHONY: help build demo test check coverage san fuzz bench bench-inference bench-training soak-inference soak-training golden install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

build: ## build ./build/mlx-hub, installing what that needs
	@scripts/bootstrap build
	@scripts/build build

demo: ## build, then fine-tune a real model and serve it, start to end
	@scripts/bootstrap build demo
	@scripts/build build
	@scripts/demo

test: ## build and run all tests: unit, fuzz corpora, end to end, NEON under emulation
	@scripts/bootstrap build test
	@scripts/build build
	@scripts/test

check: ## format, includes, headers, banned calls, text, macOS and clang builds, clang-tidy, scripts
	@scripts/bootstrap build test check
	@scripts/check

coverage: ## line coverage per room; fails at 80% or less
	@scripts/bootstrap build test check
	@scripts/coverage

san: ## unit tests under address + undefined; those with threads or processes under thread sanitizer
	@scripts/bootstrap build test
	@scripts/san

fuzz: ## fuzz every target for FUZZ_SECONDS (60) each
	@scripts/bootstrap build test check
	@scripts/fuzz

bench: ## measure against the peers, which it installs into .cache/
	@scripts/bootstrap build bench
	@scripts/build build
	@bench/run

bench-inference: ## every prompt length, depth, file and socket against llama.cpp
	@scripts/bootstrap build bench
	@scripts/build build
	@bench/run --group inference --matrix --rounds 3

bench-training: ## LoRA steps and runs against PEFT and mlx-lm, and cost by shape and length
	@scripts/bootstrap build bench
	@scripts/build build
	@bench/run --group training --matrix --rounds 3

soak-inference: ## 10,000 short requests, some dropped half-way: memory, sessions, queue stay flat
	@scripts/bootstrap build test
	@scripts/build build
	@scripts/soak-inference

soak-training: ## ten minutes (SOAK_SECONDS) of jobs: memory, descriptors, disk stay flat between them
	@scripts/bootstrap build test
	@scripts/build build
	@scripts/soak-training $(if $(HOURS),--hours $(HOURS))

golden: ## make the golden files again with the pinned Python packages
	@scripts/bootstrap build test
	@scripts/build build
	@scripts/golden/run

install: ## install into PREFIX (/usr/local)
	@scripts/bootstrap build
	@scripts/build build
	@cmake --install build --prefix "$(PREFIX)"

clean: ## remove the build folders (.cache/ stays)
	rm -rf build build-*
