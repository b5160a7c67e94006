package nat

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// FuzzMessages reads any bytes as what the kernel sends, and takes them into a
// table.
func FuzzMessages(f *testing.F) {
	var m maker
	m.add(udp(1), false)
	m.add(udp(1), true)
	m.add(udp(2), true)
	f.Add(m.buf)
	f.Add(m.buf[:len(m.buf)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		w := &Watcher{o: WatchOptions{Table: NewTable(TableOptions{Max: 64, Pieces: true}), Clock: time.Now}}
		w.SetLocal(nil)
		_, _ = w.take(b, noon, false)
		w.flush()
		_, _ = w.take(b, noon.Add(time.Second), true)
		w.flush()
		c := &w.count
		if c.Messages != c.New+c.Ended+c.Listed+c.Malformed {
			t.Errorf("%+v", c)
		}
		w.o.Table.Pieces(true, sec(2))
		balanced(t, w.o.Table)
	})
}

// memory is a book that keeps what is valid.
type memory struct {
	events []identity.Event
	err    error
}

func (m *memory) Apply(_ context.Context, list []identity.Event) error {
	for i := range list {
		if err := list[i].Validate(); err != nil {
			return err
		}
	}
	if m.err == nil {
		m.events = append(m.events, list...)
	}
	return m.err
}

var exporter = netip.MustParseAddr("192.0.2.77")

func collectInto(book Book) *Collector {
	return NewCollector(CollectOptions{
		Table: NewTable(TableOptions{Max: 64}), Book: book, Clock: func() time.Time { return noon },
		Exporters: []netip.Prefix{netip.PrefixFrom(exporter, 32)},
	})
}

// FuzzDatagrams reads any bytes as IPFIX or NetFlow, twice, so that templates
// meet data.
func FuzzDatagrams(f *testing.F) {
	for _, version := range []uint16{ipfixVersion, v9Version} {
		for _, d := range samples(version) {
			f.Add(d)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		book := &memory{}
		c := collectInto(book)
		for range 2 {
			c.Take(exporter, b)
		}
		c.Flush(t.Context())
		s := c.Stats()
		if s.Blocks != s.Applied+s.NotKept+s.Owed || s.NotKept > 0 {
			t.Errorf("%+v", s)
		}
		for _, e := range book.events {
			if e.Source != session.SourceNAT || !e.Leases[0].Via.IsValid() {
				t.Errorf("%+v", e)
			}
		}
		balanced(t, c.o.Table)
	})
}
