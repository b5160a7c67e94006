package load

import (
	"encoding/binary"
	"net/netip"
)

// The steps of a life, one byte each; the low bits are TCP's flags. As in
// kernel/load.bpf.c.
const (
	fin = 0x01
	syn = 0x02
	rst = 0x04
	psh = 0x08
	ack = 0x10

	frame = 0x20
	data  = 0x40
	out   = 0x80
)

const (
	protoTCP = 6
	protoUDP = 17
)

// life is what a kind of session does.
type life struct {
	share uint32 // with Mix: lives with a draw below this
	proto uint8
	port  uint16 // of the server
	steps []byte
}

var tcpLife = []byte{
	frame | out | syn, frame | syn | ack, frame | out | ack,
	frame | out | data | psh | ack, frame | data | psh | ack,
	frame | out | fin | ack, frame | fin | ack, frame | out | ack,
}

// lives returns the lives of a mode: one, or with Mix four.
func (o *Options) lives() []life {
	way := byte(0)
	if o.Egress {
		way = out
	}
	switch o.Mode {
	case Established:
		return []life{{256, protoTCP, 443, []byte{frame | way | ack}}}
	case New:
		return []life{{256, protoUDP, 4433, []byte{frame | way | data}}}
	case Lives:
		return []life{{256, protoTCP, 443, tcpLife}}
	case Resets:
		return []life{{256, protoTCP, 443, []byte{frame | syn, frame | rst}}}
	case Visits:
		return []life{{256, protoTCP, 443, []byte{frame | syn, frame | ack, frame | rst}}}
	case Handshakes:
		return []life{{256, protoTCP, 443, tcpLife[:3]}}
	case Answers:
		return []life{{256, protoUDP, 53, []byte{frame | out | data, frame | data}}}
	case Flood:
		return []life{{256, protoTCP, 443, []byte{frame | syn}}}
	}
	return []life{
		{100, protoTCP, 443, tcpLife},
		{200, protoUDP, 53, []byte{frame | out | data, frame | data}},
		{240, protoUDP, 443, []byte{frame | out | data, frame | data, frame | out | data, frame | data, frame | out | data}},
		{256, protoTCP, 80, []byte{frame | out | syn, frame | syn | ack, frame | out | ack, frame | out | rst}},
	}
}

// leaves reports whether any session has a packet that leaves.
func (o *Options) leaves() bool {
	for _, l := range o.lives() {
		for _, s := range l.steps {
			if s&out != 0 {
				return true
			}
		}
	}
	return false
}

// farClient: the far end has the random port.
func (o *Options) farClient() bool {
	return o.Mode == Resets || o.Mode == Visits || o.Mode == Flood || o.Mode == New && !o.Egress
}

// Session is one session of a run.
type Session struct {
	Proto      uint8
	Local, Far netip.AddrPort
	Out        bool // its first packet leaves the gateway
	Packets    int
	Ended      bool // by RST, or FIN from both sides
}

// Initiator is the end that sends the first packet.
func (s Session) Initiator() netip.AddrPort {
	if s.Out {
		return s.Local
	}
	return s.Far
}

// Responder is the other end.
func (s Session) Responder() netip.AddrPort {
	if s.Out {
		return s.Far
	}
	return s.Local
}

// Tuple names session i of any run with these options. With Established
// Packets is 1, though there may be more. Sessions of different numbers have
// different ends, for as many as there are of them: 2^(15+hosts+far) in
// bits, 2^47 with the defaults.
//
// Errors: ErrOptions.
func Tuple(o Options, i uint64) (Session, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Session{}, err
	}
	return o.tuple(i), nil
}

// Tuples names n sessions from First on.
func Tuples(o Options, n uint64) ([]Session, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	out := make([]Session, 0, n)
	for i := range n {
		out = append(out, o.tuple(o.First+i))
	}
	return out, nil
}

func (o *Options) tuple(i uint64) Session {
	lives := o.lives()
	l, host, far, port := lives[0], uint32(0), uint64(0), uint16(0)
	hosts := o.hostBits()
	if o.Mode == Mix {
		bits := portBits + hosts
		h, x := mix(i^o.Seed), shuffle(i&(1<<bits-1), o.Seed, bits)
		magnitude := h >> 8 & 0xf
		far = i>>bits<<16 | 1<<magnitude | h>>16&(1<<magnitude-1)
		far &= 1<<o.farBits() - 1
		host, port = uint32(x>>portBits), firstPort+uint16(x&(1<<portBits-1))
		for k := range lives {
			if l = lives[k]; uint32(h&0xff) < l.share {
				break
			}
		}
	} else {
		x := shuffle(i, o.Seed, portBits+hosts+o.farBits())
		port = firstPort + uint16(x&(1<<portBits-1))
		host = uint32(x >> portBits & (1<<hosts - 1))
		far = x >> (portBits + hosts)
	}
	s := Session{Proto: l.proto, Out: l.steps[0]&out != 0, Packets: len(l.steps), Ended: ends(l.steps)}
	local, remote := o.addresses(host, far, o.Family == IPv6 || o.Family == Both && i&1 == 1)
	s.Local, s.Far = netip.AddrPortFrom(local, port), netip.AddrPortFrom(remote, l.port)
	if o.farClient() {
		s.Local, s.Far = netip.AddrPortFrom(local, l.port), netip.AddrPortFrom(remote, port)
	}
	return s
}

// ends reports whether the steps end a TCP session.
func ends(steps []byte) bool {
	var fins [2]bool
	for _, s := range steps {
		if s&rst != 0 {
			return true
		}
		if s&fin != 0 {
			fins[s>>7] = true
		}
	}
	return fins[0] && fins[1]
}

func (o *Options) addresses(host uint32, far uint64, v6 bool) (local, remote netip.Addr) {
	if !v6 {
		l, r := o.bases4()
		return addr4(l | host), addr4(r + uint32(far))
	}
	l, r := o.bases6()
	l[0] += uint64(host)
	r[1] += far
	return addr6(l), addr6(r)
}

// bases4 are the addresses of host 0 and far end 0.
func (o *Options) bases4() (local, far uint32) {
	return word4(o.Local4), word4(o.Far4)
}

func (o *Options) bases6() (local, far [2]uint64) {
	local, far = words6(o.Local6), words6(o.Far6)
	local[1] = 0x10
	return local, far
}

func word4(p netip.Prefix) uint32 {
	if !p.IsValid() || !p.Addr().Is4() {
		return 0 // the other family alone is used
	}
	a := p.Masked().Addr().As4()
	return binary.BigEndian.Uint32(a[:])
}

func words6(p netip.Prefix) [2]uint64 {
	if !p.IsValid() {
		return [2]uint64{}
	}
	a := p.Masked().Addr().As16()
	return [2]uint64{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}
}

func addr4(v uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, v)))
}

func addr6(v [2]uint64) netip.Addr {
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, v[0]), v[1])))
}

// mix is the last step of splitmix64 (Steele, Lea, Flood: Fast splittable
// pseudorandom number generators).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// shuffle is another order of the numbers below 1<<bits: each step can be
// undone.
func shuffle(x, seed uint64, bits int) uint64 {
	mask := uint64(1)<<bits - 1
	half := (bits + 1) / 2
	x = (x + seed) & mask
	x = x * 0x9e3779b97f4a7c15 & mask
	x ^= x >> half
	x = x * 0xbf58476d1ce4e5b9 & mask
	return x ^ x>>half
}
