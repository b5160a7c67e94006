package load

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/edgelog/edgelog/tests/lab"
)

// Mode is what the sessions do.
type Mode int

// The modes. Where not said otherwise the local end is the client and has the
// random port.
const (
	// Established: packets without SYN of Flows TCP sessions at random, each of
	// which is met once first. Count and Rate are packets.
	Established Mode = iota
	// New: sessions of one UDP packet.
	New
	// Lives: whole TCP lives of eight packets in both directions, from SYN to FIN
	// from both sides.
	Lives
	// Resets: SYN and RST from the far end, nothing in the other direction, as
	// where answers leave by another way.
	Resets
	// Handshakes: SYN, SYN+ACK, ACK in both directions; the session stays open.
	// Established with the same Seed and Family sends more packets of them.
	Handshakes
	// Answers: one UDP packet and its answer.
	Answers
	// Flood: SYNs from random far ends, never answered, one each.
	Flood
	// Mix: TCP lives, DNS questions, QUIC exchanges and resets of the near end,
	// to servers one of which is far more popular than the next.
	Mix
	// Visits: SYN, ACK and RST from the far end: as Resets, but established, so
	// that they do not count as half-open.
	Visits
)

var modeNames = [...]string{"established", "new", "lives", "resets", "handshakes", "answers", "flood", "mix", "visits"}

func (m Mode) String() string {
	if m < 0 || int(m) >= len(modeNames) {
		return fmt.Sprintf("mode %d", int(m))
	}
	return modeNames[m]
}

// ParseMode returns the mode of that name.
func ParseMode(name string) (Mode, error) {
	for i, n := range modeNames {
		if n == name {
			return Mode(i), nil
		}
	}
	return 0, fmt.Errorf("%w: mode %q is not known: use one of %v", ErrOptions, name, modeNames)
}

// Family is the IP version of the sessions.
type Family int

// The families. With Both, even sessions are IPv4 and odd ones IPv6.
const (
	IPv4 Family = 4
	IPv6 Family = 6
	Both Family = 10
)

// Errors.
var (
	// ErrOptions: the options contradict themselves.
	ErrOptions = errors.New("options of the load generator")
	// ErrLost: frames that were sent did not come out behind the gateway's
	// programs. How many is in Sent.
	ErrLost = errors.New("frames were lost on the way to the gateway's programs")
)

// Options say where, what and how much. Zero fields take the defaults named.
type Options struct {
	// Where: the gateway's interface Uplink, and its peer Far in another
	// namespace. On sets these and the prefixes.
	Lab       *lab.Lab
	Gateway   *lab.Namespace
	Uplink    string
	Neighbour *lab.Namespace
	Far       string
	Local4    netip.Prefix // of the sessions' local ends, at most 20 bits of hosts are used
	Local6    netip.Prefix // at most 64 bits long; hosts are networks of 64 bits, each with the host ::10
	Far4      netip.Prefix // default 10.0.0.0/8
	Far6      netip.Prefix // default 2001:db8:f000::/40

	Mode   Mode
	Family Family // default IPv4
	Egress bool   // with Established and New: frames leave the gateway; else they come in
	Tags   []uint16
	Length int // of the frames, bytes; default and minimum: what the headers need, 60 at least

	Seed  uint64
	First uint64 // number of the first session
	Flows uint64 // with Established; default 65,536
	Hosts int    // local ends, a power of two; default: what the prefixes have, up to 256

	Count    uint64        // sessions, or packets with Established; 0: until Duration or the context ends
	Rate     float64       // sessions, or packets with Established, per second; 0: full speed
	Duration time.Duration // 0: until Count or the context ends
	Wave     int           // sessions that take a step together, at most 192; 0: 64, or fewer at a low Rate
	CPU      int           // that everything of the generator runs on
	PassOn   bool          // frames go on into the stack, instead of ending behind the gateway's programs
	// Direct hands the frames to the XDP program of the uplink by a tail call,
	// without any link: what comes out is all that the program can do. Only for
	// sessions of which no packet leaves.
	Direct bool
	Lean   bool // the uplink has an XDP program all the time: it takes frames without GRO, which costs more than the program
}

// On returns options for the uplink of a border.
func On(b *lab.Border, mode Mode) Options {
	return Options{
		Lab: b.Lab, Gateway: b.Gateway, Uplink: b.Uplink, Neighbour: b.Internet, Far: "border",
		Local4: b.Local[0], Local6: b.Local[1], Mode: mode,
	}
}

const (
	portBits  = 15
	firstPort = 1024
	mostHosts = 8   // bits, unless Hosts says more
	mostWave  = 192 // a veth ring holds 256
	usualWave = 64
)

// withDefaults fills what is zero and checks the rest.
func (o Options) withDefaults() (Options, error) {
	if !o.Far4.IsValid() {
		o.Far4 = netip.MustParsePrefix("10.0.0.0/8")
	}
	if !o.Far6.IsValid() {
		o.Far6 = netip.MustParsePrefix("2001:db8:f000::/40")
	}
	if o.Family == 0 {
		o.Family = IPv4
	}
	if o.Flows == 0 {
		o.Flows = 1 << 16
	}
	if o.Wave == 0 {
		o.Wave = usualWave
		if o.Rate > 0 {
			o.Wave = int(min(usualWave, max(1, o.Rate/1000)))
		}
	}
	if err := o.checkPrefixes(); err != nil {
		return o, err
	}
	if o.Hosts == 0 {
		o.Hosts = 1 << min(mostHosts, o.roomForHosts())
	}
	o.Length = max(o.Length, o.headers(), 60)
	return o, o.check()
}

func (o *Options) checkPrefixes() error {
	switch {
	case o.Family != IPv4 && o.Family != IPv6 && o.Family != Both:
		return fmt.Errorf("%w: family %d is not known", ErrOptions, o.Family)
	case o.Family != IPv6 && (!o.Local4.IsValid() || !o.Local4.Addr().Is4() || !o.Far4.Addr().Is4()):
		return fmt.Errorf("%w: IPv4 needs Local4 and Far4", ErrOptions)
	case o.Family != IPv4 && (!o.Local6.IsValid() || !o.Local6.Addr().Is6() || o.Local6.Bits() > 64 || !o.Far6.Addr().Is6()):
		return fmt.Errorf("%w: IPv6 needs Local6, of 64 bits at most, and Far6", ErrOptions)
	}
	return nil
}

func (o *Options) check() error {
	switch {
	case o.Mode < 0 || int(o.Mode) >= len(modeNames):
		return fmt.Errorf("%w: there is no %v", ErrOptions, o.Mode)
	case o.Egress && o.Mode != Established && o.Mode != New:
		return fmt.Errorf("%w: only established and new sessions can be told to leave", ErrOptions)
	case o.Direct && (o.leaves() || o.PassOn):
		return fmt.Errorf("%w: what is handed to a program directly comes in, and goes nowhere", ErrOptions)
	case o.Wave < 1 || o.Wave > mostWave:
		return fmt.Errorf("%w: a wave of %d: 1 to %d can be", ErrOptions, o.Wave, mostWave)
	case len(o.Tags) > 2:
		return fmt.Errorf("%w: %d tags, at most 2 can be", ErrOptions, len(o.Tags))
	case o.Hosts < 1 || o.Hosts&(o.Hosts-1) != 0 || o.hostBits() > o.roomForHosts():
		return fmt.Errorf("%w: %d hosts: a power of two that the local prefixes hold is needed", ErrOptions, o.Hosts)
	case o.Mode == Mix && o.farBits() < 16:
		return fmt.Errorf("%w: the servers of a mix need 16 bits of a far prefix", ErrOptions)
	case o.Flows >= math.MaxUint32:
		return fmt.Errorf("%w: too many flows", ErrOptions)
	case o.Count == 0 && o.Duration < 0, o.Rate < 0:
		return fmt.Errorf("%w: a duration or rate below 0", ErrOptions)
	}
	return nil
}

// roomForHosts is in bits.
func (o *Options) roomForHosts() int {
	room := 20
	if o.Family != IPv6 {
		room = min(room, 32-o.Local4.Bits())
	}
	if o.Family != IPv4 {
		room = min(room, 64-o.Local6.Bits())
	}
	return room
}

func (o *Options) hostBits() int {
	bits := 0
	for o.Hosts>>bits > 1 {
		bits++
	}
	return bits
}

func (o *Options) farBits() int {
	bits := 24
	if o.Family != IPv6 {
		bits = min(bits, 32-o.Far4.Bits())
	}
	if o.Family != IPv4 {
		bits = min(bits, 128-o.Far6.Bits())
	}
	return bits
}

// headers is the length of all headers of the longest frame.
func (o *Options) headers() int {
	n := 14 + 4*len(o.Tags) + 20
	if o.Family == IPv4 {
		return n + 20
	}
	return n + 40
}
