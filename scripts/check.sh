#!/usr/bin/env bash
# Checks that need no root: format, vet, staticcheck, shell scripts, generated
# files, modules, the rules of the house. All are run; the last line names
# those that failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

failed=()
note() { printf '%s\n' "$*" >&2; }

# run NAME COMMAND... runs one check.
run() {
	local name=$1
	shift
	if "$@"; then
		note "check: $name: ok"
	else
		note "check: $name: FAILED"
		failed+=("$name")
	fi
}

gofmt_clean() {
	local bad
	bad=$(gofmt -l cmd pkg tests) || return 1
	[ -z "$bad" ] || {
		note "not formatted by gofmt: $bad; run gofmt -w on them"
		return 1
	}
}

c_format_clean() {
	local c_files=(bpf/*.[ch] tests/bench/reference/*.c tests/load/kernel/*.c)
	clang-format-16 --style=file:bpf/.clang-format --dry-run --Werror "${c_files[@]}" ||
		{
			note "run clang-format-16 --style=file:bpf/.clang-format -i ${c_files[*]}"
			return 1
		}
}

scripts_clean() { shellcheck scripts/*.sh .ci/run; }

unit_clean() {
	command -v systemd-analyze >/dev/null || {
		note "no systemd-analyze here: the unit is not checked"
		return 0
	}
	local dir
	dir=$(mktemp -d)
	# verify wants the program of ExecStart to be there.
	sed "s,^ExecStart=[^ ]*,ExecStart=$(command -v true)," scripts/edgelog.service >"$dir/edgelog.service"
	systemd-analyze verify --man=no "$dir/edgelog.service" 2>&1 | grep edgelog.service >&2
	local found=${PIPESTATUS[1]}
	rm -rf "$dir"
	[ "$found" -ne 0 ] # grep found no complaint about our unit
}

# generated_fresh generates the BPF objects and bindings anew in a copy and
# compares them with those in the tree.
generated_fresh() {
	local copy status=0
	copy=$(mktemp -d)
	cp -a go.mod go.sum bpf pkg tests "$copy/"
	rm -f "$copy"/{pkg/probe,tests/load}/*_bpfe[lb]*.{go,o}
	(cd "$copy" && go generate ./pkg/probe ./tests/load) >"$copy/log" 2>&1 || {
		cat "$copy/log" >&2
		status=1
	}
	local made dir
	for dir in pkg/probe tests/load; do
		made=$(find "$copy/$dir" -name '*_bpfe[lb].o' | wc -l)
		if [ "$status" -eq 0 ] && [ "$made" -lt 2 ]; then
			note "go generate ./$dir made $made objects, expected one for amd64 and one for arm64"
			status=1
		fi
		if [ "$status" -eq 0 ] && ! diff -rq "$dir" "$copy/$dir" >&2; then
			note "generated files are not those that their C sources give: run make generate"
			status=1
		fi
	done
	rm -rf "$copy"
	return "$status"
}

# rules_clean checks the alert rules, and that each fires when it should.
rules_clean() {
	command -v promtool >/dev/null || {
		note "no promtool here: the alert rules are not checked"
		return 0
	}
	(cd scripts/prometheus && promtool check rules edgelog.rules.yml && promtool test rules edgelog.rules.test.yml) >&2
}

run "gofmt" gofmt_clean
run "go vet" go vet ./...
run "staticcheck" go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
run "clang-format" c_format_clean
run "shellcheck" scripts_clean
run "systemd unit" unit_clean
run "alert rules" rules_clean
run "generated files" generated_fresh
run "go mod tidy" go mod tidy -diff
run "house rules" go test -count=1 ./tests -run 'House|Rooms|Libraries|TopLevel|ShortEnough|Habits|Speaks|Licence'

if [ "${#failed[@]}" -gt 0 ]; then
	note "check: failed: ${failed[*]}"
	exit 1
fi
