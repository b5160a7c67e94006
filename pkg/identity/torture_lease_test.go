package identity

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgelog/edgelog/pkg/session"
)

// network is a world of three sources: accounting logs users on with their
// equipment, a DHCP server leases addresses to equipment, and a translator gives
// addresses ports of a shared one.
type network struct {
	now    float64
	said   []said
	users  []stretch[string, netip.Addr]     // user on equipment
	leases []stretch[netip.Addr, netip.Addr] // address of equipment
	blocks []stretch[netip.Addr, uint16]     // inside address of the block that begins with a port
	count  int
}

// stretch says that who had what from, to; it goes on while to is worldEnd.
type stretch[W, X comparable] struct {
	id       string
	who      W
	what     X
	from, to float64
	until    float64 // it ends then by itself, unless it is renewed; 0: never
}

const (
	leaseTime = 300.0
	perBlock  = 1000
)

var (
	sharedAddr = netip.MustParseAddr("203.0.113.7")
	insides    = []netip.Addr{netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("100.64.0.2")}
	equipments = []netip.Addr{session.EquipmentAddr([6]byte{2, 0, 0, 0, 0, 1}), session.EquipmentAddr([6]byte{2, 0, 0, 0, 0, 2}), session.EquipmentAddr([6]byte{2, 0, 0, 0, 0, 3})}
	blockPorts = []uint16{1000, 2000}
)

func going[W, X comparable](list []stretch[W, X], x X) *stretch[W, X] {
	for i := range list {
		if list[i].what == x && list[i].to == worldEnd {
			return &list[i]
		}
	}
	return nil
}

func at[W, X comparable](list []stretch[W, X], x X, t float64) (w W, ok bool) {
	for i := range list {
		if s := &list[i]; s.what == x && t >= s.from && t < s.to {
			return s.who, true
		}
	}
	return w, false
}

func (n *network) id() string {
	n.count++
	return fmt.Sprint(n.count)
}

func (n *network) tell(kind Kind, source session.Source, id, user string, when, until float64, l Lease) {
	e := from(holding(ev(kind, id, user, when), l), source, source.String())
	if until > 0 {
		e.Until = sec(until)
	}
	n.said = append(n.said, said{e: e})
}

func addressLease(a, equipment netip.Addr) Lease {
	return Lease{Kind: IPv4Address, Prefix: netip.PrefixFrom(a, 32), Via: equipment}
}

func blockLease(first uint16, inside netip.Addr) Lease {
	return Lease{Kind: PortBlock, Prefix: netip.PrefixFrom(sharedAddr, 32), FirstPort: first, LastPort: first + perBlock - 1, Via: inside}
}

// runOut ends the leases that nobody renewed in time.
func (n *network) runOut() {
	for i := range n.leases {
		if s := &n.leases[i]; s.to == worldEnd && s.until <= n.now {
			s.to = s.until
			n.tell(Stop, session.SourceDHCP, s.id, "", s.until+2, 0, addressLease(s.what, s.who)) // noticed later
		}
	}
}

// step lets one thing happen.
func (n *network) step(t *rapid.T) {
	n.now += rapid.SampledFrom([]float64{0.25, 0.75, 40, 140}).Draw(t, "pause")
	n.runOut()
	switch rapid.SampledFrom([]string{"user", "user", "lease", "lease", "renew", "renew", "block"}).Draw(t, "what") {
	case "user":
		e := rapid.SampledFrom(equipments).Draw(t, "equipment")
		l := Lease{Kind: Equipment, Prefix: netip.PrefixFrom(e, 128)}
		if s := going(n.users, e); s != nil {
			s.to = n.now
			n.tell(Stop, session.SourceRADIUS, s.id, s.who, n.now, 0, l)
			return
		}
		s := stretch[string, netip.Addr]{id: n.id(), who: rapid.SampledFrom([]string{"anna", "bo", "carl"}).Draw(t, "user"), what: e, from: n.now, to: worldEnd}
		n.users = append(n.users, s)
		n.tell(Start, session.SourceRADIUS, s.id, s.who, n.now, 0, l)
	case "lease":
		a := rapid.SampledFrom(insides).Draw(t, "address")
		if s := going(n.leases, a); s != nil {
			s.to = n.now
			n.tell(Stop, session.SourceDHCP, s.id, "", n.now, 0, addressLease(a, s.who))
			return
		}
		s := stretch[netip.Addr, netip.Addr]{id: n.id(), who: rapid.SampledFrom(equipments).Draw(t, "equipment"), what: a, from: n.now, to: worldEnd, until: n.now + leaseTime}
		n.leases = append(n.leases, s)
		n.tell(Start, session.SourceDHCP, s.id, "", n.now, s.until, addressLease(a, s.who))
	case "renew":
		if s := going(n.leases, rapid.SampledFrom(insides).Draw(t, "address")); s != nil {
			s.until = n.now + leaseTime
			n.tell(Interim, session.SourceDHCP, s.id, "", n.now, s.until, addressLease(s.what, s.who))
		}
	case "block":
		first := rapid.SampledFrom(blockPorts).Draw(t, "block")
		if s := going(n.blocks, first); s != nil {
			s.to = n.now
			n.tell(Stop, session.SourceNAT, s.id, "", n.now, 0, blockLease(first, s.who))
			return
		}
		s := stretch[netip.Addr, uint16]{id: n.id(), who: rapid.SampledFrom(insides).Draw(t, "inside"), what: first, from: n.now, to: worldEnd}
		n.blocks = append(n.blocks, s)
		n.tell(Start, session.SourceNAT, s.id, "", n.now, 0, blockLease(first, s.who))
	}
}

// holder is whose a port of the shared address is at a time, "" for nobody's.
func (n *network) holder(port uint16, t float64) string {
	inside, ok1 := at(n.blocks, port/perBlock*perBlock, t)
	equipment, ok2 := at(n.leases, inside, t)
	user, ok3 := at(n.users, equipment, t)
	if !ok1 || !ok2 || !ok3 {
		return ""
	}
	return user
}

func (n *network) script() string { return (&world{said: n.said}).script() }

// TestTimeTortureOfLeasesAndSharedAddresses: whatever of three sources is lost,
// repeated, late or out of order, and however often the program is restarted, an
// answer through a shared address that calls itself certain is right. When
// nothing is lost each answer is.
func TestTimeTortureOfLeasesAndSharedAddresses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := &network{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			n.step(t)
		}
		n.now += leaseTime + 1
		n.runOut()
		loss := rapid.SampledFrom([]int{0, 0, 5, 30, 60}).Draw(t, "percent lost")
		restarts := rapid.Bool().Draw(t, "restarts")
		dir, err := os.MkdirTemp("", "book")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		clock, sink := &testClock{}, &testSink{}
		opts := Options{Clock: clock.Now, Sink: sink}
		b, err := Open(dir, opts)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { b.Close() }()
		last := 0.0
		for _, s := range (&world{said: n.said}).deliver(t, loss, false) {
			last = max(last, s.arrives)
			clock.set(last)
			if err := b.Apply(context.Background(), []Event{s.e}); err != nil {
				t.Fatal(err)
			}
			switch rapid.IntRange(0, 9).Draw(t, "then") {
			case 0, 1, 2:
				if err := b.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
			case 3:
				if restarts {
					if err := b.Close(); err != nil {
						t.Fatal(err)
					}
					if b, err = Open(dir, opts); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		clock.set(max(last, n.now))
		if err := b.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		reader := NewReader(append(sink.got(), b.InForce()...), ReaderOptions{})
		for range 100 {
			when, port := rapid.Float64Range(0, n.now+10).Draw(t, "at"), rapid.SampledFrom([]uint16{1000, 1999, 2500, 3000}).Draw(t, "port")
			for who, x := range map[string]Bindings{"book": b, "reader": reader} {
				n.judge(t, who, x, port, when, loss == 0 && !restarts)
			}
		}
	})
}

func (n *network) judge(t *rapid.T, who string, x Bindings, port uint16, when float64, complete bool) {
	chains := Trace(x, session.AddrFrom(sharedAddr), port, port, sec(when), sec(when))
	truth := n.holder(port, when)
	if all := Holds(chains); Certain(all, sec(when), sec(when)) && all[0].Subscriber != truth {
		t.Fatalf("%s: port %d at %.2f is certainly %q, in truth %q\n%s\nsaid:\n%s", who, port, when, all[0].Subscriber, truth, showChains(chains), n.script())
	}
	if !complete {
		return
	}
	if truth == "" && slices.ContainsFunc(chains, func(c Chain) bool { h := c.Hold(); return h.Subscriber != "" && h.Certainty == 0 }) ||
		truth != "" && (len(chains) == 0 || chains[0].Subscriber() != truth) {
		t.Fatalf("%s: nothing was lost, but port %d at %.2f is of\n%s\nin truth %q\nsaid:\n%s", who, port, when, showChains(chains), truth, n.script())
	}
}
