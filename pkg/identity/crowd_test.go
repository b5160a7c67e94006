package identity

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/pkg/session"
)

// blockEvent is of a session that holds a block of 16 ports of one address.
func blockEvent(kind Kind, session string, block int, at float64) Event {
	l := lease("192.0.2.1")
	l.Kind, l.FirstPort, l.LastPort = PortBlock, uint16(block*16), uint16(block*16+15)
	e := ev(kind, session, session, at)
	e.Leases = []Lease{l}
	return e
}

// What is told one event at a time, of blocks that meet and blocks that do not,
// ends in the same book as all of it at once.
func TestBlocksOfASharedAddressAreResolvedWithAllThatTheyMeet(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	var events []Event
	for range 1500 {
		e := blockEvent([]Kind{Start, Interim, Stop}[r.IntN(3)], fmt.Sprint("s", r.IntN(300)), r.IntN(120), float64(r.IntN(900)))
		if r.IntN(4) == 0 {
			e.Leases[0].LastPort += uint16(r.IntN(40)) // meets its neighbours
		}
		if r.IntN(3) == 0 {
			e = held(e, float64(r.IntN(200)))
		}
		events = append(events, e)
	}
	singly, whole := openTest(t, t.TempDir(), Options{}), openTest(t, t.TempDir(), Options{})
	for _, e := range events {
		apply(t, singly, e)
	}
	apply(t, whole, events...)
	want(t, "one at a time", singly.everything(), strings.Split(show(whole.everything()), "\n")...)
	dir := whole.dir
	if err := whole.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, "after a restart", openTest(t, dir, Options{}).everything(), strings.Split(show(singly.everything()), "\n")...)
}

// BenchmarkCrowd tells the book of one address that very many hold: 4,000 at
// once, in blocks of ports, or 10,000 one after the other. The time is of one
// event, when the address is new and at the end.
func BenchmarkCrowd(b *testing.B) {
	for _, c := range []struct {
		name string
		n    int
		make func(i int) Event
	}{
		{"blocks", 4000, func(i int) Event { return blockEvent(Start, fmt.Sprint("b", i), i, 10) }},
		{"leases", 10_000, func(i int) Event {
			return Event{Kind: Start, At: sec(float64(i) / 20), Source: session.SourceDHCP, NAS: "kea", Session: fmt.Sprint("l", i),
				Leases: []Lease{{Kind: IPv4Address, Prefix: netip.MustParsePrefix("192.0.2.1/32")}}}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				book := openTest(b, b.TempDir(), Options{})
				events := make([]Event, c.n)
				for i := range events {
					events[i] = c.make(i)
				}
				part := c.n / 10
				times := [2]float64{}
				for i := 0; i < c.n; i++ {
					start := b.Elapsed()
					book.mu.Lock()
					book.take(events[i : i+1]) // alone, without the disk
					book.mu.Unlock()
					if took := float64(b.Elapsed() - start); i < part {
						times[0] += took
					} else if i >= c.n-part {
						times[1] += took
					}
				}
				b.ReportMetric(times[0]/float64(part)/1e3, "µs/first")
				b.ReportMetric(times[1]/float64(part)/1e3, "µs/last")
			}
		})
	}
}
