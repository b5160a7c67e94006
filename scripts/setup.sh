#!/usr/bin/env bash
# Installs what edgelog needs on Debian 12: "setup.sh build", "setup.sh check",
# "setup.sh lab", "setup.sh bench", "setup.sh kernels", several of them, or all
# of them when none is named. It does and says nothing when nothing is missing.
set -euo pipefail

# What "make build" and "make generate" use.
build=(make git gcc libc6-dev clang-16 llvm-16 libbpf-dev linux-libc-dev)
# What "make check" uses besides.
check=(clang-format-16 shellcheck prometheus)
# Real programs that tests, benchmarks and the demo run.
lab=(iproute2 e2fsprogs mount iputils-ping procps ethtool nftables conntrack jq age curl iperf3
	dnsmasq-base bind9-dnsutils freeradius-utils tcpreplay tshark softflowd nfdump
	argus-client argus-server python3 prometheus
	freeradius radsecproxy hostapd wpasupplicant openssl kea-dhcp4-server kea-dhcp6-server kea-ctrl-agent
	isc-dhcp-server isc-dhcp-client wide-dhcpv6-client python3-scapy ulogd2 ulogd2-json rsyslog
	asn1c libxml2-utils unzip libreoffice-calc-nogui weasyprint poppler-utils fonts-dejavu-core)
# Flow tools that "make bench" compares with, besides those of the lab.
bench=(pmacct)
# What runs other kernels; qemu only emulates, so it needs no /dev/kvm.
kernels=(qemu-system-x86 seabios xz-utils)

# The compiler that go.mod asks for, and the first that can fetch it by itself.
go_wanted=1.26
go_fetches=1.21

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit 1
}

# as_root runs a command as root.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "needs root to install packages: run it as root, or install sudo"
	fi
}

# absent prints those of its arguments that are not installed.
absent() {
	local p
	for p in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || printf '%s\n' "$p"
	done
}

install_packages() {
	local missing log
	mapfile -t missing < <(absent "$@")
	[ "${#missing[@]}" -gt 0 ] || return 0
	command -v apt-get >/dev/null || die "needs Debian's apt-get to install: ${missing[*]}"
	say "installing ${missing[*]}"
	log=$(mktemp)
	export DEBIAN_FRONTEND=noninteractive
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update >"$log" 2>&1 ||
		say "apt-get update failed; trying with the lists that are there"
	if ! as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -qq -y --no-install-recommends install "${missing[@]}" >"$log" 2>&1; then
		cat "$log" >&2
		rm -f "$log"
		die "apt-get could not install: ${missing[*]}"
	fi
	rm -f "$log"
}

# go_version prints the version of the go command, "1.26.1", or nothing.
go_version() {
	local v
	v=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 0
	v=${v#go}
	printf '%s' "${v%%[-+ ]*}"
}

# at_least VERSION MINIMUM
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# Debian 12's own Go is too old; the one of its backports fetches the rest.
need_go() {
	local have candidate
	have=$(go_version)
	if [ -z "$have" ]; then
		candidate=$(apt-cache madison golang-go 2>/dev/null |
			sed -n 's/^[^|]*| *2:\([^ ~]*\)[^|]*|.*/\1/p' | sort -V | tail -n 1)
		if [ -n "$candidate" ] && at_least "$candidate" "$go_fetches"; then
			install_packages "golang-go=$(apt-cache madison golang-go |
				awk -F'|' -v c="2:$candidate" 'index($2, c) { gsub(/ /, "", $2); print $2; exit }')"
			have=$(go_version)
		fi
	fi
	if [ -n "$have" ] && at_least "$have" "$go_wanted"; then
		return 0
	fi
	if [ -n "$have" ] && at_least "$have" "$go_fetches"; then
		[ "$(go env GOTOOLCHAIN)" != local ] && go version >/dev/null 2>&1 && return 0
		die "Go $have may not fetch Go $go_wanted: set GOTOOLCHAIN=auto, or install Go $go_wanted"
	fi
	die "needs Go $go_wanted; found ${have:-none}. Unpack it from https://go.dev/dl/ to /usr/local/go and put" \
		"/usr/local/go/bin into PATH, or install golang-go from bookworm-backports, which fetches the rest"
}

[ $# -gt 0 ] || set -- build check lab bench kernels
packages=()
for group in "$@"; do
	case $group in
	build) packages+=("${build[@]}") ;;
	check) packages+=("${check[@]}") ;;
	lab) packages+=("${lab[@]}") ;;
	bench) packages+=("${bench[@]}") ;;
	kernels) packages+=("${kernels[@]}") ;;
	*) die "knows no group \"$group\": use build, check, lab, bench, kernels" ;;
	esac
done
install_packages "${packages[@]}"
# A Go that was unpacked by hand is often not in the PATH of a service.
command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
need_go
