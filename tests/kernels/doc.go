// Package kernels runs edgelog on other kernels than the one it is built on:
// Debian's, in virtual machines that qemu emulates in software.
//
// The life of a run:
//
//  1. Fetch has apt get the kernels (scripts/kernels.sh).
//  2. Build compiles the programs that run inside: the agent, the test binaries
//     that each step names, and the guest program, which is all of user space.
//  3. Boot packs them with what they need into an initial RAM file system, and
//     has qemu start the kernel on it. The machine has two processors and two
//     virtio network cards that one cable joins, and no way to the outside.
//  4. The guest program loads the modules, takes one step after the other, and
//     writes an Event for each to the second serial port; then it switches the
//     machine off.
//  5. Boot returns the events. What has no event has failed: the kernel hung,
//     or it died.
//
// The package refuses to use hardware virtualization: a guest must behave the
// same on every machine, however virtual that is itself.
package kernels
