package dhcp

import (
	"hash/maphash"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
)

// Join says for which leases a RADIUS log-on of the same MAC address names the
// subscriber.
type Join string

// The ways to join.
const (
	JoinWithoutLine Join = "without-line" // those of which no relay named the line: a MAC address is easily copied, a line is not
	JoinAlways      Join = "always"
	JoinNever       Join = "never"
)

// The words of Options.Subscriber.
const (
	BySubscriberID = "subscriber-id"
	ByRemoteID     = "remote-id"
	ByCircuitID    = "circuit-id"
	ByClientID     = "client-id"
	ByDUID         = "duid"
	ByMAC          = "mac"
	ByHostname     = "hostname"
)

// SubscriberWords lists what may name the subscriber of a lease, DefaultSubscriber
// what does unless the configuration says otherwise.
var (
	SubscriberWords   = []string{BySubscriberID, ByRemoteID, ByCircuitID, ByClientID, ByDUID, ByMAC, ByHostname}
	DefaultSubscriber = []string{BySubscriberID, ByRemoteID, ByCircuitID}
)

// hasLine reports whether a relay said which line the client is on.
func (r *Record) hasLine() bool { return r.Circuit != "" || r.Remote != "" || r.Subscriber != "" }

// line returns the relays' words for it, as RADIUS gives them.
func (r *Record) line() string {
	if r.Circuit != "" && r.Remote != "" {
		return r.Circuit + "; " + r.Remote
	}
	return r.Circuit + r.Remote
}

// mac returns the MAC address in the book's form, "" for none.
func (r *Record) mac() string {
	if !r.HasMAC {
		return ""
	}
	return colons(r.MAC[:])
}

// subscriber returns the first word that the record has, and its rank.
func (t *table) subscriber(r *Record) (string, uint8) {
	for i, w := range t.order {
		var s string
		switch w {
		case BySubscriberID:
			s = r.Subscriber
		case ByRemoteID:
			s = r.Remote
		case ByCircuitID:
			s = r.Circuit
		case ByClientID:
			if r.Kind == identity.IPv4Address {
				s = r.Client
			}
		case ByDUID:
			if r.Kind != identity.IPv4Address {
				s = r.Client
			}
		case ByMAC:
			s = r.mac()
		case ByHostname:
			s = r.Hostname
		}
		if s != "" {
			return s, uint8(i)
		}
	}
	return "", noRank
}

// event makes one of a record. Subscriber and leases are not set yet.
func (t *table) event(k identity.Kind, r *Record, l *lease, at int64) identity.Event {
	return identity.Event{
		Kind: k, At: at, Source: l.source(), NAS: t.name, Session: sessionID(r.Prefix, l),
		Until: int64(seconds(r.Until)) * int64(time.Second), Line: r.line(), Equipment: r.mac(), Identity: r.Client,
	}
}

// whatHash stands for what is said of line and subscriber; 0: nothing.
func (t *table) whatHash(r *Record) uint32 {
	name, _ := t.subscriber(r)
	if name == "" && !r.hasLine() {
		return 0
	}
	var h maphash.Hash
	h.SetSeed(t.seed)
	for _, s := range [...]string{r.Circuit, r.Remote, name} {
		_, _ = h.WriteString(s) // never fails
		_ = h.WriteByte(0)
	}
	return uint32(h.Sum64()) | 1
}
