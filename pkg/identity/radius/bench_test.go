package radius

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	codec "layeh.com/radius"

	"github.com/edgelog/edgelog/pkg/identity"
)

// BenchmarkDurable takes requests, as a worker does, into a real book on the
// disk, without the network.
func BenchmarkDurable(b *testing.B) {
	book, err := identity.Open(b.TempDir(), identity.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer book.Close()
	s, err := New(book, nil, Options{})
	if err != nil {
		b.Fatal(err)
	}
	c := &client{Client: Client{Secret: []byte(secret)}}
	sample := func(i int) []byte {
		return packet(b, codec.CodeAccountingRequest, byte(i), secret, num(40, 1), str(44, fmt.Sprintf("%016X", i)), str(1, fmt.Sprint("user-", i, "@isp.example")),
			str(32, "bng"), avp(4, []byte{10, 0, 0, 1}), avp(8, []byte{100, byte(i >> 16), byte(i >> 8), byte(i)}), str(31, "0045112233"), num(7, 1))
	}
	sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer sink.Close()
	var w worker
	i := 0
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		w.jobs = w.jobs[:0]
		b.StopTimer()
		var packets [batch][]byte
		for k := range packets {
			packets[k] = sample(i + k)
		}
		b.StartTimer()
		for k := range packets {
			j := s.jobs.Get().(*job)
			j.n = copy(j.buf[:], packets[k])
			j.client, j.link, j.at = c, nowhere{}, time.Now()
			j.from = sink.LocalAddr().(*net.UDPAddr).AddrPort()
			s.check(&w, j)
		}
		i += batch
		s.keep(context.Background(), &w)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/request")
}

// nowhere is a link whose answers go nowhere.
type nowhere struct{}

func (nowhere) reply(*job, []byte) error { return nil }
