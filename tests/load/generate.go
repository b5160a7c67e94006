package load

// The objects and bindings are committed; "make generate" makes them afresh and
// "make check" fails when they differ.
//
//go:generate go tool bpf2go -cc clang-16 -strip llvm-strip-16 -target amd64,arm64 -no-global-types program kernel/load.bpf.c -- -O2 -mcpu=v3 -Wall -Wextra -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
