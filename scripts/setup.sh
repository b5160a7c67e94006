#!/usr/bin/env bash
# Installs what edgelog needs on Debian 12: "setup.sh build", "setup.sh check",
# "setup.sh lab", "setup.sh bench", several of them, or all of them when none is named. It does
# and says nothing when nothing is missing.
set -euo pipefail

# What "make build" and "make generate" use.
build=(make git gcc libc6-dev clang-16 llvm-16 libbpf-dev linux-libc-dev)
# What "make check" uses besides.
check=(clang-format-16 shellcheck prometheus)
# Real programs that tests, benchmarks and the demo run.
lab=(iproute2 e2fsprogs mount iputils-ping procps ethtool nftables conntrack jq age curl iperf3
	dnsmasq-base bind9-dnsutils freeradius-utils tcpreplay tshark softflowd nfdump
# Flow tools that "make bench" compares with, besides those of the lab.
bench=(pmacct)
