#!/usr/bin/env bash
# Fetches the Debian kernels that edgelog is tested with and unpacks them:
# "kernels.sh [DIR]". DIR is a cache, by default edgelog/kernels below
# XDG_CACHE_HOME or ~/.cache; nothing is installed. It prints a line for each
# kernel, oldest first: its series, its release and where its image and modules
# are, with tabs between. What is fetched is checked by apt, as anything that
# apt fetches is.
set -euo pipefail

self=$(realpath "$0")
# The series that must be there; the newest one served is taken besides.
wanted=(6.1 6.12)

die() {
	printf 'kernels: %s\n' "$*" >&2
	exit 1
}

# again starts anew with fresh lists, once: the newest kernel of old ones may
# not be served any more.
again() {
	if [ -n "${EDGELOG_FRESH_LISTS:-}" ] || [ "$(id -u)" -ne 0 ] || ! apt-get -qq update >&2; then
		die "$*"
	fi
	EDGELOG_FRESH_LISTS=1 exec "$self" "$cache"
}

# packages lists the kernels for virtual machines that apt knows.
packages() { apt-cache pkgnames linux-image- | grep -E '^linux-image-[0-9]+\.[0-9]+[^ ]*-cloud-amd64$' | sort -V; }

# series_of PACKAGE prints "6.12" for linux-image-6.12.1+deb12-cloud-amd64.
series_of() { sed -E 's/^linux-image-([0-9]+\.[0-9]+).*/\1/' <<<"$1"; }

# fetch PACKAGE unpacks it to the cache, where it is not there yet.
fetch() {
	local package=$1 version to tmp
	version=$(apt-cache show --no-all-versions "$package" | sed -n 's/^Version: //p' | head -n 1)
	to=$cache/$package=$version
	if [ ! -d "$to" ]; then
		tmp=$(mktemp -d "$cache/fetching.XXXXXX")
		(cd "$tmp" && apt-get -qq -o APT::Sandbox::User= download "$package=$version") >&2 || {
			rm -rf "$tmp"
			again "apt-get could not fetch $package=$version; try apt-get update"
		}
		dpkg-deb -x "$tmp"/*.deb "$tmp/x"
		mkdir "$tmp/kernel"
		mv "$tmp"/x/boot/vmlinuz-* "$tmp/kernel/vmlinuz"
		mv "$tmp"/x/lib/modules/*/kernel "$tmp/kernel/modules"
		# An older one of the same series is of no use any more.
		rm -rf "$cache/linux-image-$(series_of "$package")."*
		mv "$tmp/kernel" "$to"
		rm -rf "$tmp"
	fi
	printf '%s\t%s\t%s\n' "$(series_of "$package")" "${package#linux-image-}" "$to"
}

[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || die "the kernels are fetched and run on Debian for amd64 only"
cache=${1:-${XDG_CACHE_HOME:-${HOME:-/var}/.cache}/edgelog/kernels}
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9 # another run may be fetching the same

mapfile -t found < <(packages)
declare -A newest # package by series
for package in "${found[@]}"; do
	newest[$(series_of "$package")]=$package
done
[ "${#newest[@]}" -gt 0 ] || again "apt knows no linux-image-…-cloud-amd64; run apt-get update, or see its sources"
wanted+=("$(printf '%s\n' "${!newest[@]}" | sort -V | tail -n 1)")
for series in $(printf '%s\n' "${wanted[@]}" | sort -Vu); do
	[ -n "${newest[$series]:-}" ] || again "apt knows no linux-image-$series…-cloud-amd64; run apt-get update, or see its sources"
	fetch "${newest[$series]}"
done
