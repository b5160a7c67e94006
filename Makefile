# edgelog. Each target does everything it needs; "make help" lists them.
SHELL       := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

# A Go that was unpacked by hand is often not in PATH.
export PATH := $(PATH):/usr/local/go/bin

PREFIX   ?= /usr/local
DESTDIR  ?=
UNITDIR  ?= /etc/systemd/system
FUZZTIME ?= 30s
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.PHONY: help build generate check test test-long test-kernels fuzz bench demo install

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

build: ## build bin/edgelog, a static program
	@scripts/setup.sh build
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.release=$(VERSION)' -o bin/edgelog ./cmd/edgelog

generate: ## make the BPF objects and their Go bindings from bpf/
	@scripts/setup.sh build
	go generate ./pkg/probe ./tests/load

check: ## format, vet, staticcheck, scripts, generated files, modules, house rules
	@scripts/setup.sh build check
	@scripts/check.sh

test: ## all tests with the race detector, and each fuzz target briefly; needs root for BPF
	@scripts/setup.sh build lab kernels
	CGO_ENABLED=1 go test -race -timeout 60m ./...
	@scripts/fuzz.sh 3s

test-long: ## the fault tests in full: 100 kills, a minute of flood and of a stalled disk, 5 minutes without an agent
	@scripts/setup.sh build lab
	EDGELOG_LONG=1 go test -v -timeout 120m -run 'AgentsThatEnd|APowerCut|ForAWhile|GoesAndComesBack|AFloodOf' ./tests

test-kernels: ## all steps on Debian's kernels, emulated by qemu: a table of kernel and step, and what the verifiers say
	@scripts/setup.sh build lab kernels
	@go run ./tests/kernels/matrix

fuzz: ## each fuzz target for FUZZTIME (30s)
	@scripts/setup.sh build
	@scripts/fuzz.sh $(FUZZTIME)

bench: ## measure all, or PART=datapath,e2e,…; a table, and bench.json for programs; needs root
	@scripts/setup.sh build lab bench
	go run ./tests/bench -part '$(PART)' -out bench.json

demo: build ## record real traffic of two subscribers in network namespaces, and read it back; needs root
	@scripts/setup.sh lab
	@go run ./tests/demo -edgelog bin/edgelog

install: build ## install the program and the systemd unit under DESTDIR and PREFIX
	install -D -m 0755 bin/edgelog $(DESTDIR)$(PREFIX)/sbin/edgelog
	install -d -m 0755 $(DESTDIR)$(UNITDIR)
	sed 's,/usr/local/sbin/,$(PREFIX)/sbin/,' scripts/edgelog.service > $(DESTDIR)$(UNITDIR)/edgelog.service
	chmod 0644 $(DESTDIR)$(UNITDIR)/edgelog.service
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/edgelog scripts/grafana/edgelog.json scripts/prometheus/edgelog.rules.yml
	sed 's,/usr/local/sbin/,$(PREFIX)/sbin/,' scripts/dhcp-report.sh > $(DESTDIR)$(PREFIX)/share/edgelog/dhcp-report.sh
	chmod 0755 $(DESTDIR)$(PREFIX)/share/edgelog/dhcp-report.sh
