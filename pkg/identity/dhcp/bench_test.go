package dhcp

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// many is how many leases the files of the benchmark hold.
const many = 1_000_000

// sink takes bindings and keeps none.
type sink struct{}

func (sink) PutBindings(context.Context, []session.Binding) error { return nil }

// writeLeases writes a file of many leases in force, each with option 82.
func writeLeases(b *testing.B, kind Kind, path string) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	now := time.Now().Unix() - 100
	stamp := time.Unix(now, 0).UTC().Format("1 2006/01/02 15:04:05")
	ends := time.Unix(now+3600, 0).UTC().Format("1 2006/01/02 15:04:05")
	if kind == Kea {
		fmt.Fprint(w, keaHead)
	}
	for i := range many {
		x, y, z := i>>16&255, i>>8&255, i&255
		if kind == Kea {
			fmt.Fprintf(w, `10.%d.%d.%d,02:00:00:%02x:%02x:%02x,01:02:00:00:%02x:%02x:%02x,3600,%d,1,0,0,host-%d,0,{ "ISC": { "relay-agent-info": "0x0108657468302f303a%02x0206%02x%02x%02x%02x%02x%02x" } }`+"\n",
				x, y, z, x, y, z, x, y, z, now+3600, i, 0x30+i%10, 0x61+x%26, 0x61+y%26, 0x61+z%26, 0x30+i%10, 0x30+i/10%10, 0x30+i/100%10)
			continue
		}
		fmt.Fprintf(w, "lease 10.%d.%d.%d {\n  starts %s;\n  ends %s;\n  cltt %s;\n  binding state active;\n  next binding state free;\n  rewind binding state free;\n  hardware ethernet 02:00:00:%02x:%02x:%02x;\n  uid \"\\001\\002\\000\\000%c%c%c\";\n  option agent.circuit-id \"eth0/0:%d\";\n  option agent.remote-id \"line-%d\";\n  client-hostname \"host-%d\";\n}\n",
			x, y, z, stamp, ends, stamp, x, y, z, 'a'+x%26, 'a'+y%26, 'a'+z%26, i%10, i, i)
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		b.Fatal(err)
	}
}

// baseline is how long others take to cut the same file into its lines or
// cells: encoding/csv, without a meaning, or bufio.Scanner.
func baseline(b *testing.B, kind Kind, path string) time.Duration {
	b.Helper()
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	start := time.Now()
	if kind == Kea {
		r := csv.NewReader(f)
		r.ReuseRecord, r.FieldsPerRecord, r.LazyQuotes = true, -1, true
		for n := 0; ; n++ {
			if _, err := r.Read(); errors.Is(err, io.EOF) {
				if n != many+1 {
					b.Fatalf("encoding/csv found %d lines", n)
				}
				return time.Since(start)
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
	s := bufio.NewScanner(f)
	for s.Scan() {
	}
	return time.Since(start)
}

// BenchmarkLeasesRead reads a file of a million leases: into the table, and
// into a real book, durably. A fresh book has none of them.
func BenchmarkLeasesRead(b *testing.B) {
	for _, kind := range []Kind{Kea, ISC} {
		path := filepath.Join(b.TempDir(), "leases")
		writeLeases(b, kind, path)
		base := baseline(b, kind, path)
		for _, into := range []string{"table", "book"} {
			b.Run(fmt.Sprintf("%s/%s", kind, into), func(b *testing.B) {
				var took time.Duration
				for range b.N {
					took += readOnce(b, kind, path, into == "book")
				}
				s := took.Seconds() / float64(b.N)
				b.ReportMetric(s, "s/file")
				b.ReportMetric(many/s, "leases/s")
				b.ReportMetric(s/base.Seconds(), "x-lines")
				b.ReportMetric(base.Seconds(), "lines-s")
			})
		}
	}
}

func readOnce(b *testing.B, kind Kind, path string, real bool) time.Duration {
	b.Helper()
	var book Book = &none{}
	if real {
		x, err := identity.Open(b.TempDir(), identity.Options{Sink: sink{}})
		if err != nil {
			b.Fatal(err)
		}
		defer x.Close() //nolint:errcheck // a benchmark's
		book = x
	}
	o := Options{}.withDefaults()
	s := newServer(Server{Name: "x", Kind: kind, Leases4: path}, &o, book, func(_, text string) { b.Error(text) })
	start := time.Now()
	s.follow(b.Context(), start)
	took := time.Since(start)
	if c := s.files[0].counts(); c.leases != many || s.count.applied != many || !s.t.whole[0] {
		b.Fatalf("%d leases, %d events", c.leases, s.count.applied)
	}
	s.files[0].close()
	return took
}

// none is a book that keeps nothing.
type none struct{}

func (*none) Apply(context.Context, []identity.Event) error                      { return nil }
func (*none) InForce() []session.Binding                                         { return nil }
func (*none) AllOn(session.Addr, uint16, uint16, int64, int64) []session.Binding { return nil }
