package block

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

func seed(f *testing.F, pattern string) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// FuzzSessions reads any bytes; what can be read must survive another turn.
func FuzzSessions(f *testing.F) {
	seed(f, "testdata/golden/v1-sessions-edge.block")
	seed(f, "testdata/golden/v1-sessions-nat.block")
	seed(f, "testdata/golden/v1-head-*.block")
	small, err := EncodeSessions(nil, aHeader(), newMix(1, 5, time.Second).sessions())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, s, err := DecodeSessions(b)
		if err != nil {
			return
		}
		again, err := EncodeSessions(nil, h, s)
		if err != nil {
			t.Fatal(err)
		}
		_, s2, err := DecodeSessions(again)
		if err != nil {
			t.Fatal(err)
		}
		if sum(s) != sum(s2) {
			t.Fatal("came back changed")
		}
	})
}

// FuzzMatch asks any bytes for an address; what the head rules out must not be
// found when everything is unpacked first, and nothing else may differ either.
func FuzzMatch(f *testing.F) {
	seed(f, "testdata/golden/v1-head-*.block")
	whole, lazy := NewDecoder(), NewDecoder()
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := whole.Sessions(b)
		if err != nil {
			if s, err := lazy.Look(unsealed(b)); err == nil {
				_, _ = s.Match(nil, Query{Address: Exactly(v4(7).Netip()), To: 1 << 62}) // must not panic
			}
			return
		}
		rows := all.Append(nil)
		for _, q := range []Query{{Address: Exactly(v4(7).Netip())}, {Address: Exactly(v4(7).Netip()), Port: 4000}, {Remote: Exactly(rows[0].Responder.Netip())}} {
			q.From, q.To = all.MinStart*1e6, all.MaxEnd*1e6
			s, err := lazy.Look(unsealed(b))
			if err != nil {
				t.Fatal(err)
			}
			want, errAll := all.Match(nil, q)
			got, err := s.Match(nil, q)
			if err != nil || errAll != nil || sum(got) != sum(want) {
				t.Fatalf("%+v: %d and %d found, %v, %v", q, len(got), len(want), err, errAll)
			}
		}
	})
}

// FuzzBindings does the same for bindings; the head rules out no binding that is
// there.
func FuzzBindings(f *testing.F) {
	small, err := EncodeBindings(nil, aHeader(), newMix(1, 5, time.Second).bindings())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small)
	p := Pick{Addresses: []netip.Addr{v4(7).Netip(), netip.MustParseAddr("2001:db8::7")}}
	f.Fuzz(func(t *testing.T, b []byte) {
		may, headErr := NewDecoder().MayPick(unsealed(b), &p)
		h, list, err := DecodeBindings(b)
		if err != nil {
			return
		}
		if want := slices.ContainsFunc(list, func(b session.Binding) bool { return p.wantsPrefix(b.Prefix) }); headErr != nil || may != want {
			t.Fatalf("the head says %v, %v; it is %v", may, headErr, want)
		}
		again, err := EncodeBindings(nil, h, list)
		if err != nil {
			t.Fatal(err)
		}
		_, list2, err := DecodeBindings(again)
		if err != nil {
			t.Fatal(err)
		}
		sameBindings(t, list, list2)
	})
}

// FuzzHead reads any bytes as zone and filters, which must not panic however
// they are asked, and finds again what it wrote itself.
func FuzzHead(f *testing.F) {
	p := newPacker()
	var z zone
	z.add(v4wide(7))
	z.add(v4wide(9))
	z.add(wide{1, 2})
	p.zone(&z)
	keys := make([]uint64, 300)
	for i := range keys {
		keys[i] = scatter(uint64(i))
	}
	p.filter(keys)
	f.Add(p.out)
	f.Fuzz(func(t *testing.T, b []byte) {
		u := &unpacker{in: b}
		var z, again zone
		var set filter
		u.zone(&z, MaxRows)
		u.filter(&set)
		if u.err != nil {
			return
		}
		for i := range uint64(100) {
			set.mayHold(scatter(i))
		}
		for _, r := range []reach{z.v4, z.v6} {
			here := span{mask: wide{^uint64(0), ^uint64(0)}, is: r.low, is4: r.low.is4()}
			if r.n > 0 && !z.mayHold(&here) {
				t.Fatalf("%+v does not hold its own end", z)
			}
		}
		p := packer{}
		p.zone(&z)
		u = &unpacker{in: p.out}
		u.zone(&again, MaxRows)
		if u.err != nil || again != z {
			t.Fatalf("%+v came back as %+v, %v", z, again, u.err)
		}
	})
}

func v4wide(a uint32) wide { return widen(v4(a)) }
