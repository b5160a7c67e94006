// Package bench measures the whole agent; what a packet costs in the kernel is
// measured beside the programs' loader, in pkg/probe.
package bench
