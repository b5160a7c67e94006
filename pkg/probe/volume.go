package probe

import (
	"errors"
	"slices"
)

// Volume is how much has crossed the border since the table was made. It is all
// that statistics of traffic may be made from: counters that the programs keep
// for a whole direction of a whole uplink. They never held an address.
type Volume struct {
	// Settled: the packet counters of older tables have been added. Until then
	// they may yet grow by what was counted long ago.
	Settled bool
	Uplinks []UplinkVolume
}

// UplinkVolume is that of one uplink, which keeps its counters for as long as its
// name is known.
type UplinkVolume struct {
	Uplink  string
	In, Out Traffic
}

// Traffic counts one direction. Sessions begin anew with each table, also when an
// upgrade brings the sessions of the table before over.
type Traffic struct {
	Packets  uint64 `json:"packets"`  // on the wire: a GSO buffer counts its segments
	Sessions uint64 `json:"sessions"` // that got a slot, by the direction of the packet that began them
}

// Volume reads the counters. It does not walk through the table.
func (p *Probe) Volume() (Volume, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Volume{}, errors.New("read the volume: the probe is closed")
	}
	p.cmu.Lock()
	defer p.cmu.Unlock()
	v := Volume{Settled: !slices.ContainsFunc(p.older, func(o *older) bool { return o.t != nil && !o.counted })}
	table, err := tableCounters(p.maps["table_counts"])
	if err != nil {
		return v, err
	}
	for _, u := range p.uplinks {
		out := UplinkVolume{Uplink: u.cfg.Name}
		for egress, into := range []*Traffic{&out.In, &out.Out} {
			c, err := readPacketCounters(p.maps["packet_counts"], u.id, uint32(egress))
			if err != nil {
				return v, err
			}
			*into = Traffic{Packets: c.Segments, Sessions: table.Began[u.id*2+uint32(egress)]}
		}
		v.Uplinks = append(v.Uplinks, out)
	}
	return v, nil
}
