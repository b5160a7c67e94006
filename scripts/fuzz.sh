#!/usr/bin/env bash
# Runs each fuzz target for a time, one after the other: fuzz.sh 30s
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}

ran=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for package in $(go list ./...); do
	# -list prints the names, and a line for the package.
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		printf 'fuzz: %s %s for %s\n' "$package" "$target" "$time" >&2
		# Go's fuzzer may end with nothing but its own deadline (golang/go#75804): that is no finding.
		if ! go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" 2>&1 | tee "$log" &&
			! { grep -qx '    context deadline exceeded' "$log" && ! grep -q 'Failing input' "$log"; }; then
			exit 1
		fi
		ran=$((ran + 1))
	done
done
[ "$ran" -gt 0 ] || {
	printf 'fuzz: no fuzz target was found\n' >&2
	exit 1
}
printf 'fuzz: %d targets, nothing found\n' "$ran" >&2
