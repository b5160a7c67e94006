package probe

// The objects and bindings are committed; "make generate" makes them afresh and
// "make check" fails when they differ.
//
//go:generate go tool bpf2go -cc clang-16 -strip llvm-strip-16 -target amd64,arm64 -no-global-types -type slot -type bucket -type bucket_line -type key -type event -type fragment -type fragment_key -type orphan -type carry -type carried_counts -type clock_reading -type prefix -type end_user -type sample -type packet_counters -type table_counters -type table_meta -type outcome -type table_version -type phase -type state -type flags -type word -type border_value -type event_kind kernel ../../bpf/session.bpf.c -- -O2 -mcpu=v3 -Wall -Wextra -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
