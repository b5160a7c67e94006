package identity

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// Kind says what an Event reports. The numbers are stored and never reused.
type Kind uint8

// The kinds.
const (
	Start     Kind = 1 // the session began (RFC 2866 §5.1 Start)
	Interim   Kind = 2 // the session goes on (RFC 2869 §2.1 Interim-Update)
	Stop      Kind = 3 // the session ended (RFC 2866 §5.1 Stop)
	NASOn     Kind = 4 // the source has started: no session from before goes on (Accounting-On)
	NASOff    Kind = 5 // the source stops: no session goes on (Accounting-Off)
	kindCut   Kind = 6 // internal: the session had lost a prefix by then, see state.go
	kindSplit Kind = 7 // internal: the sink has an end then, of what went on, see expire.go
)

var kinds = [...]string{"unknown", "start", "interim", "stop", "on", "off", "cut", "split"}

// String returns the word that statistics use.
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// LeaseKind tells apart the things that one session may hold side by side. A
// later event of the session that names other leases of the same kind says
// that the earlier ones are gone; one that names none of a kind says nothing
// about it. The numbers are stored and never reused.
type LeaseKind uint8

// The kinds of lease.
const (
	IPv4Address     LeaseKind = 1 // Framed-IP-Address (RFC 2865 §5.8)
	IPv6Address     LeaseKind = 2 // Framed-IPv6-Address (RFC 6911 §3.1)
	FramedPrefix    LeaseKind = 3 // Framed-IPv6-Prefix (RFC 3162 §2.3)
	DelegatedPrefix LeaseKind = 4 // Delegated-IPv6-Prefix (RFC 4818 §2)
	PortBlock       LeaseKind = 5 // ports of a shared address (RFC 8045, RFC 8158)
	Equipment       LeaseKind = 6 // session.EquipmentAddr of what is logged on: it may get its address elsewhere
	StaticPrefix    LeaseKind = 7 // of a table
	Translation     LeaseKind = 8 // a rule (Lease.Rule)
)

// Lease is one address, prefix or range of ports that a session holds.
type Lease struct {
	Kind      LeaseKind
	Prefix    netip.Prefix
	FirstPort uint16 // both ports 0: all ports
	LastPort  uint16

	Via  netip.Addr // see session.Binding
	Rule string     // see session.Binding
}

// Event is one report of a source about one session, or with NASOn and NASOff
// about all sessions of the source.
type Event struct {
	Kind Kind
	At   int64 // when it happened: UTC, nanoseconds since 1970

	// Doubtful says that At is not the source's own time but a substitute for
	// an impossible one. Ends that rest on it are inferred.
	Doubtful bool

	Source  session.Source
	NAS     string // the source's name for itself; with Session the key of the session
	Session string // Acct-Session-Id; not used with NASOn and NASOff

	// Group joins sessions that may hold the same address side by side
	// (Acct-Multi-Session-Id, RFC 2866 §5.11); "" for none.
	Group string

	// Held is how long the session had lasted at At (Acct-Session-Time,
	// RFC 2866 §5.7), if HasHeld says that it was reported.
	Held    time.Duration
	HasHeld bool

	// Until is when what the session holds ends by itself if nothing more is
	// heard of it, as of a DHCP lease: UTC, nanoseconds since 1970; 0: never.
	Until int64

	Subscriber string // "" when this event does not say
	Identity   string // see session.Binding
	Line       string
	Equipment  string
	Place      string

	Leases []Lease
}

// ErrInvalid is returned by Apply for an event that no source may make.
var ErrInvalid = errors.New("invalid event")

// maxField bounds each text of an event, in bytes. A RADIUS attribute carries
// at most 253.
const maxField = 1024

// maxLeases bounds the leases of an event; a RADIUS packet of 4096 bytes could
// carry some 800.
const maxLeases = 256

// maxTime keeps sums of times away from overflow and from session.Forever.
const maxTime = math.MaxInt64 / 2

// Validate says why e cannot be applied, or returns nil. The error wraps
// ErrInvalid and holds no data of the event.
func (e *Event) Validate() error {
	switch {
	case e.Kind < Start || e.Kind > NASOff:
		return fmt.Errorf("%w: kind %d is not known", ErrInvalid, e.Kind)
	case e.NAS == "":
		return fmt.Errorf("%w: it does not name its source", ErrInvalid)
	case e.Session == "" && e.Kind <= Stop:
		return fmt.Errorf("%w: it does not name its session", ErrInvalid)
	case e.At <= 0 || e.At > maxTime:
		return fmt.Errorf("%w: its time is out of range", ErrInvalid)
	case e.Held < 0 || int64(e.Held) > maxTime:
		return fmt.Errorf("%w: its session time is out of range", ErrInvalid)
	case e.Until < 0 || e.Until > maxTime:
		return fmt.Errorf("%w: the end of its lease is out of range", ErrInvalid)
	case len(e.Leases) > maxLeases:
		return fmt.Errorf("%w: %d leases, at most %d are accepted", ErrInvalid, len(e.Leases), maxLeases)
	}
	for _, s := range [...]string{e.NAS, e.Session, e.Group, e.Subscriber, e.Line, e.Equipment, e.Place, e.Identity} {
		if len(s) > maxField {
			return fmt.Errorf("%w: a text of %d bytes, at most %d are accepted", ErrInvalid, len(s), maxField)
		}
	}
	for _, l := range e.Leases {
		if !l.Prefix.IsValid() || l.FirstPort > l.LastPort || l.Kind == 0 || l.Kind >= ownVia || len(l.Rule) > maxField {
			return fmt.Errorf("%w: a lease without valid prefix, ports and kind", ErrInvalid)
		}
	}
	return nil
}

var keyEscape = strings.NewReplacer("%", "%25", "/", "%2F")

// SourceKey returns the key of the session that e belongs to, as it stands in
// Binding.SourceKey: source, NAS and session id. Two sessions of two NAS never
// share one.
func (e *Event) SourceKey() string {
	return keyPrefix(e.Source, e.NAS) + e.Session
}

// keyPrefix is what the keys of all sessions of a source begin with.
func keyPrefix(origin session.Source, name string) string {
	return origin.String() + "/" + keyEscape.Replace(name) + "/"
}

// normalLeases returns the leases of e masked, with all ports written out, in
// one order and each once.
func normalLeases(in []Lease) []Lease {
	if len(in) == 0 {
		return nil
	}
	out := make([]Lease, len(in))
	for i, l := range in {
		l.Prefix = normalPrefix(l.Prefix)
		l.Via = l.Via.WithZone("").Unmap()
		if l.FirstPort == 0 && l.LastPort == 0 {
			l.LastPort = math.MaxUint16
		}
		out[i] = l
	}
	slices.SortFunc(out, compareLease)
	return slices.Compact(out)
}

// normalPrefix masks p and turns an IPv4-mapped prefix into an IPv4 one.
func normalPrefix(p netip.Prefix) netip.Prefix {
	a, bits := p.Addr().WithZone(""), p.Bits()
	if a.Is4In6() && bits >= 96 {
		a, bits = a.Unmap(), bits-96
	}
	return netip.PrefixFrom(a, bits).Masked()
}

func compareLease(a, b Lease) int {
	if a.Kind != b.Kind {
		return int(a.Kind) - int(b.Kind)
	}
	if c := a.Prefix.Compare(b.Prefix); c != 0 {
		return c
	}
	if a.FirstPort != b.FirstPort {
		return int(a.FirstPort) - int(b.FirstPort)
	}
	if a.LastPort != b.LastPort {
		return int(a.LastPort) - int(b.LastPort)
	}
	return cmp.Or(a.Via.Compare(b.Via), cmp.Compare(a.Rule, b.Rule))
}
