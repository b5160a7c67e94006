// Package load sends frames through a gateway's uplink at a rate at which
// nothing else in the laboratory can, and knows exactly which sessions it sent.
//
// The life of a frame:
//
//  1. Session i of a run is a pure function of the Options and i; Tuple says
//     which. Neither side keeps a list.
//  2. A BPF program (kernel/load.bpf.c) is run on live frames (BPF_PROG_TEST_RUN with
//     BPF_F_TEST_XDP_LIVE_FRAMES) on one CPU. It writes the frame of the next
//     step of the next session, checksums included, and redirects it.
//  3. A frame that comes in is redirected to the neighbour's end of the uplink's
//     veth pair, so the gateway's uplink receives it: its XDP program sees it.
//  4. A frame that goes out is redirected to a second veth pair that the generator
//     makes; behind it, in the gateway, a TCX program sends it out of the uplink
//     by way of dev_queue_xmit, so that TCX egress sees it. (A redirect straight
//     to the uplink would pass TCX by: ndo_xdp_xmit. The other way, to clone from a
//     SCHED_CLS test run with bpf_clone_redirect, was measured too: 750 ns a packet
//     against 770, but that was without writing, counting and pacing the frames.)
//  5. Behind the gateway's programs another TCX program counts the frame and drops
//     it, so that the gateway's stack is not what is measured; Options.PassOn lets
//     it go on instead. The generator must be opened after the gateway's programs
//     are attached, or those that use TCX ingress would stand behind it.
//  6. Frames go in waves of at most Options.Wave: one step of as many sessions. A
//     wave begins when all frames of the one before have been counted. So no queue
//     between the two overflows, steps arrive in order, and nothing is guessed: a
//     frame that was lost stops the generator with ErrLost.
//
// By hand, against a real agent in a laboratory of its own:
//
//	make build && go run ./tests/load/cmd -edgelog bin/edgelog -mode lives -rate 100000 -duration 10s
//
// The package refuses to send anywhere but between two namespaces of a lab.
package load
