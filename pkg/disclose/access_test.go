package disclose

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

const (
	theirMAC = "02:00:00:00:00:01"
	minute   = time.Minute
)

var theirs = session.EquipmentAddr([6]byte{2, 0, 0, 0, 0, 1})

// byKey makes versions of one log-on: they have the same key, whoever they say
// that it was.
func byKey(key string) func(*session.Binding) {
	return func(b *session.Binding) { b.SourceKey = key }
}

func equipped(b *session.Binding) { b.Equipment = theirMAC }

// behindEquipment is a lease to equipment, which nobody has named yet.
func behindEquipment(b *session.Binding) {
	b.Via, b.Equipment, b.Source, b.SourceKey = theirs, theirMAC, session.SourceDHCP, "dhcp/1"
}

// onEquipment is a log-on by equipment, without an address.
func onEquipment(b *session.Binding) {
	b.Prefix, b.Equipment = netip.PrefixFrom(theirs, 128), theirMAC
}

// told prints a record: times are before noon.
func told(r *AccessRecord) string {
	before := func(ns int64) string {
		if ns == session.Forever {
			return "…"
		}
		return time.Duration(ns - at(0)).String()
	}
	text := fmt.Sprintf("%s %s %s..%s", orDash(r.Subscriber), holdText(&r.Binding), before(r.From), before(r.To))
	for _, d := range r.remarks() {
		for _, b := range r.Was {
			for _, t := range []int64{b.From, b.To} {
				if t != session.Forever {
					d = strings.ReplaceAll(d, session.FormatTime(t), before(t))
				}
			}
		}
		text += "; " + d
	}
	return text
}

// accessBlocks are access records as they are stored: in time, late, or as ends of
// what had long been in force.
type accessBlocks struct{ inTime, late, ends []session.Binding }

func bySubscriber(who string) Query { return Query{Subscriber: who} }

var byAddress = Query{Address: netip.MustParseAddr("10.0.0.1")}

var accessCases = []struct {
	name string
	q    Query // of the three hours before noon
	have accessBlocks
	want []string
}{
	{"both ends were reported", bySubscriber("anna"), accessBlocks{inTime: []session.Binding{bind("anna", 2*hour, hour)}}, []string{"anna 10.0.0.1 -2h0m0s..-1h0m0s"}},
	{"a log-off that comes an hour late ends what was still logged on", bySubscriber("anna"),
		accessBlocks{inTime: []session.Binding{bind("anna", 2*hour, 0), bind("anna", 2*hour, hour)}}, []string{"anna 10.0.0.1 -2h0m0s..-1h0m0s"}},
	{"an inferred end, and then the reported one", bySubscriber("anna"),
		accessBlocks{inTime: []session.Binding{bind("anna", 2*hour, hour, sure(session.ToInferred)), bind("anna", 2*hour, hour-10*minute)}}, []string{"anna 10.0.0.1 -2h0m0s..-1h10m0s; was sealed as -2h0m0s … -1h0m0s (or earlier)"}},
	{"an inferred start, and then the reported one, an hour late", bySubscriber("anna"),
		accessBlocks{inTime: []session.Binding{bind("anna", hour, 0, sure(session.FromInferred)), bind("anna", 2*hour, 0)}}, []string{"anna 10.0.0.1 -2h0m0s..…; was sealed as -1h0m0s (or earlier) … still so"}},
	{"a log-on that comes an hour late ends what was believed of another", byAddress,
		accessBlocks{inTime: []session.Binding{bind("bo", 3*hour, 0), bind("anna", hour, 0)}}, []string{"bo 10.0.0.1 -3h0m0s..-1h0m0s; log-off not seen", "anna 10.0.0.1 -1h0m0s..…"}},
	{"asked for by him of whom it was believed", bySubscriber("bo"),
		accessBlocks{inTime: []session.Binding{bind("bo", 3*hour, 0), bind("anna", hour, 0)}}, []string{"bo 10.0.0.1 -3h0m0s..-1h0m0s; log-off not seen"}},
	{"a log-on whose subscriber is corrected to one before him in the alphabet", byAddress,
		accessBlocks{inTime: []session.Binding{bind("bo", 2*hour, 0, byKey("r/1")), bind("bo", 2*hour, 2*hour, byKey("r/1"), sure(session.ToInferred)), bind("anna", 2*hour, hour, byKey("r/1"))}},
		[]string{"bo 10.0.0.1 -2h0m0s..-2h0m0s; log-off not seen", "anna 10.0.0.1 -2h0m0s..-1h0m0s; was sealed as -2h0m0s … still so of bo"}},
	{"a log-on whose subscriber is corrected to one behind him in the alphabet", byAddress,
		accessBlocks{inTime: []session.Binding{bind("anna", 2*hour, 0, byKey("r/1")), bind("anna", 2*hour, 2*hour, byKey("r/1"), sure(session.ToInferred)), bind("bo", 2*hour, hour, byKey("r/1"))}},
		[]string{"anna 10.0.0.1 -2h0m0s..-2h0m0s; log-off not seen", "bo 10.0.0.1 -2h0m0s..-1h0m0s; was sealed as -2h0m0s … still so of anna"}},
	{"all of it came days late", bySubscriber("anna"), accessBlocks{late: []session.Binding{bind("anna", 2*hour, hour)}}, []string{"anna 10.0.0.1 -2h0m0s..-1h0m0s; came late, on 2025-03-01"}},
	{"the log-off is put right days late", bySubscriber("anna"),
		accessBlocks{inTime: []session.Binding{bind("anna", 2*hour, half, sure(session.ToInferred))}, late: []session.Binding{bind("anna", 2*hour, hour)}}, []string{"anna 10.0.0.1 -2h0m0s..-1h0m0s; was sealed as -2h0m0s … -30m0s (or earlier); came late, on 2025-03-01"}},
	{"a log-off weeks later", bySubscriber("anna"),
		accessBlocks{inTime: []session.Binding{bind("anna", 2*hour, 0)}, ends: []session.Binding{bind("anna", 2*hour, -500*hour), bind("bo", 2*hour, -500*hour)}}, []string{"anna 10.0.0.1 -2h0m0s..500h0m0s"}},
	{"before and after the window", bySubscriber("anna"), accessBlocks{inTime: []session.Binding{bind("anna", 5*hour, 4*hour), bind("anna", minute, 0, byKey("r/2"))}}, nil},
	{"another's", bySubscriber("anna"), accessBlocks{inTime: []session.Binding{bind("bo", 2*hour, hour)}}, nil},
	{"a lease to equipment that he logged on with", bySubscriber("anna"),
		accessBlocks{inTime: []session.Binding{bind("anna", 2*hour, hour, onEquipment), bind("", 2*hour, hour, behindEquipment)}}, []string{"anna 10.0.0.1 -2h0m0s..-1h0m0s", "anna equipment 02:00:00:00:00:01 -2h0m0s..-1h0m0s"}},
	{"the equipment asked for", Query{Equipment: theirMAC},
		accessBlocks{inTime: []session.Binding{bind("anna", 2*hour, hour, onEquipment), bind("", 2*hour, hour, behindEquipment), bind("cy", 2*hour, hour, equipped, on("10.0.0.7/32"))}}, []string{"anna 10.0.0.1 -2h0m0s..-1h0m0s", "anna equipment 02:00:00:00:00:01 -2h0m0s..-1h0m0s", "cy 10.0.0.7 -2h0m0s..-1h0m0s"}},
	{"a lease to equipment that nobody logged on with", byAddress, accessBlocks{inTime: []session.Binding{bind("", 2*hour, hour, behindEquipment)}}, []string{"- 10.0.0.1 -2h0m0s..-1h0m0s"}},
	{"ports of a public address behind which he was", bySubscriber("anna"),
		accessBlocks{inTime: []session.Binding{bind("", 2*hour, hour, ports(3000, 3999), via("100.64.0.9"), of(session.SourceNAT)), bind("anna", 2*hour, hour, on("100.64.0.9/32"))}}, []string{"anna 10.0.0.1 ports 3000-3999 -2h0m0s..-1h0m0s", "anna 100.64.0.9 -2h0m0s..-1h0m0s"}},
	{"ports behind which was a lease to his equipment", bySubscriber("anna"),
		accessBlocks{inTime: []session.Binding{bind("", 2*hour, hour, ports(3000, 3999), via("100.64.0.9"), of(session.SourceNAT)), bind("", 2*hour, hour, behindEquipment, on("100.64.0.9/32")), bind("anna", 2*hour, hour, onEquipment)}}, []string{"anna 100.64.0.9 -2h0m0s..-1h0m0s", "anna 10.0.0.1 ports 3000-3999 -2h0m0s..-1h0m0s", "anna equipment 02:00:00:00:00:01 -2h0m0s..-1h0m0s"}},
	{"ports of a public address behind which he is named an hour late", byAddress,
		accessBlocks{inTime: []session.Binding{bind("bo", 2*hour, hour, ports(3000, 3999), via("100.64.0.9"), of(session.SourceNAT)), bind("bo", 3*hour, 0, on("100.64.0.9/32")), bind("anna", 2*hour, hour, on("100.64.0.9/32"))}},
		[]string{"anna 10.0.0.1 ports 3000-3999 -2h0m0s..-1h0m0s; was sealed as -2h0m0s … -1h0m0s of bo"}},
}

func TestAccessRecordsAreThoseOfNowAndSayWhatWasBelieved(t *testing.T) {
	for _, c := range accessCases {
		t.Run(c.name, func(t *testing.T) {
			r := newGateRoom(t, nil)
			for i := range c.have.inTime {
				r.shelf.addBindings(c.have.inTime[i])
			}
			if c.have.late != nil {
				r.shelf.addLate(c.have.late...)
			}
			if c.have.ends != nil {
				r.shelf.addEnds(c.have.ends...)
			}
			q := c.q
			q.Reference, q.Ask, q.From, q.To = "case 7", WantAccess, at(3*hour), at(0)
			a, err := r.askAccess(t, &q)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range a.Records {
				got = append(got, told(&a.Records[i]))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s\ninstead of\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}
