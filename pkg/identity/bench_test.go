package identity

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/gaissmai/bart"

	"github.com/edgelog/edgelog/pkg/session"
)

const million = 1_000_000

func benchEvent(i int) Event {
	a := netip.AddrFrom4([4]byte{10 + byte(i>>24), byte(i >> 16), byte(i >> 8), byte(i)})
	return Event{Kind: Start, At: sec(float64(i % 900)), Source: session.SourceRADIUS, NAS: fmt.Sprint("bng-", i%16),
		Session: fmt.Sprintf("%08X", i), Subscriber: fmt.Sprintf("user%d@isp.example", i), Line: fmt.Sprintf("line-%d", i),
		Leases: []Lease{{Kind: IPv4Address, Prefix: netip.PrefixFrom(a, 32)}}}
}

func benchBook(b *testing.B, n int) *Book {
	book := openTest(b, b.TempDir(), Options{})
	events := make([]Event, 0, 50_000)
	for i := range n {
		events = append(events, benchEvent(i))
		if len(events) == cap(events) || i == n-1 {
			apply(b, book, events...)
			events = events[:0]
		}
	}
	return book
}

// BenchmarkAt asks for random addresses among a million bindings; beside it
// the same from a prefix tree, and from a Go map that knows no prefixes.
func BenchmarkAt(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	book := benchBook(b, million)
	runtime.GC()
	runtime.ReadMemStats(&after)
	r := rand.New(rand.NewPCG(1, 2))
	addrs := make([]session.Addr, 1<<16)
	for i := range addrs {
		addrs[i] = session.AddrFrom(benchEvent(r.IntN(million)).Leases[0].Prefix.Addr())
	}
	b.Run("book", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if _, ok := book.At(addrs[i&(len(addrs)-1)], 443, sec(1000)); !ok {
				b.Fatal("not found")
			}
			i++
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/million, "B/binding")
	})
	b.Run("name", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if _, ok := book.Name(addrs[i&(len(addrs)-1)], 443, sec(1000)); !ok {
				b.Fatal("not found")
			}
			i++
		}
	})
	b.Run("names", func(b *testing.B) { // by look-up, in batches as sessions come
		b.ReportAllocs()
		list := make([]Question, 4096)
		for n := 0; n < b.N; n += len(list) {
			for i := range list {
				list[i] = Question{Addr: addrs[(n+i)&(len(addrs)-1)], Port: 443, At: sec(1000)}
			}
			book.Names(list)
			if list[0].Subscriber == "" {
				b.Fatal("not found")
			}
		}
	})
	compareAt(b, book, addrs)
}

// compareAt asks the same from what a Go program would otherwise use.
func compareAt(b *testing.B, book *Book, addrs []session.Addr) {
	b.Run("prefix tree", func(b *testing.B) {
		t, i, ns := new(bart.Table[*session.Binding]), 0, sec(1000)
		for list := range book.idx.all() {
			x := list[0].binding()
			t.Insert(x.Prefix, &x)
		}
		runtime.GC()
		b.ResetTimer()
		for b.Loop() {
			a := addrs[i&(len(addrs)-1)]
			if x, ok := t.Lookup(a.Netip()); !ok || !x.Covers(a.Netip(), 443, ns) {
				b.Fatal("not found")
			}
			i++
		}
	})
	b.Run("map", func(b *testing.B) {
		m, i, ns := make(map[session.Addr]*session.Binding), 0, sec(1000)
		for list := range book.idx.all() {
			x := list[0].binding()
			m[session.AddrFrom(x.Prefix.Addr())] = &x
		}
		runtime.GC()
		b.ResetTimer()
		for b.Loop() {
			a := addrs[i&(len(addrs)-1)]
			if x, ok := m[a]; !ok || ns >= x.To || ns < x.From {
				b.Fatal("not found")
			}
			i++
		}
	})
}

// BenchmarkApply confirms starts of new sessions durably: one event in each
// call, from many goroutines that share the syncs; and 256 in each call.
func BenchmarkApply(b *testing.B) {
	b.Run("one event from 128 goroutines", func(b *testing.B) {
		book := openTest(b, b.TempDir(), Options{})
		var n atomic.Int64
		b.SetParallelism(128 / runtime.GOMAXPROCS(0))
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if err := book.Apply(context.Background(), []Event{benchEvent(int(n.Add(1)))}); err != nil {
					b.Error(err)
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		b.ReportMetric(float64(b.N)/float64(max(1, book.Stats().Commits)), "events/sync")
	})
	b.Run("256 events from 4 goroutines", func(b *testing.B) {
		book := openTest(b, b.TempDir(), Options{})
		var n atomic.Int64
		b.SetParallelism(2)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				events := make([]Event, 256)
				for i := range events {
					events[i] = benchEvent(int(n.Add(1)))
				}
				if err := book.Apply(context.Background(), events); err != nil {
					b.Error(err)
				}
			}
		})
		b.ReportMetric(float64(b.N)*256/b.Elapsed().Seconds(), "events/s")
	})
}

// BenchmarkOpen reads a million bindings back after a restart.
func BenchmarkOpen(b *testing.B) {
	book := benchBook(b, million)
	dir := book.dir
	book.Close()
	for b.Loop() {
		x, err := Open(dir, Options{Clock: book.opts.Clock})
		if err != nil {
			b.Fatal(err)
		}
		if n := x.Stats().InForce; n != million {
			b.Fatalf("%d in force", n)
		}
		x.Close()
	}
}
