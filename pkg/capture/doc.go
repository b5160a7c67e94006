// Package capture reads packet captures, pcap and pcapng, as Ethernet frames
// with their times, for "edgelog replay" and tests.
//
//  1. Open tells the two formats apart by their first bytes.
//  2. Next returns frame after frame; frames of links without Ethernet get an
//     Ethernet header in front, so that all go the same way.
//  3. A capture that was cut short ends with ErrCutShort after its last whole
//     frame; what was read before it counts.
//
// It refuses to look at what is in a frame.
package capture
