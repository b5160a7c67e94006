package block

import (
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// translated puts sessions behind a translation, every third one with another
// port.
func translated(n int) []session.Session {
	list := newMix(3, n, time.Minute).sessions()
	for i := range list {
		if i%7 == 6 {
			continue
		}
		s := &list[i]
		_, port, _ := s.LocalEnd()
		s.Inside, s.InsidePort = v4(0x64400000+uint32(i%50)), port
		if i%3 == 0 {
			s.InsidePort = uint16(i)
		}
	}
	return list
}

func TestInsideEndsComeBackAndAreFound(t *testing.T) {
	in := translated(3000)
	b, err := EncodeSessions(nil, aHeader(), in)
	if err != nil {
		t.Fatal(err)
	}
	_, out, err := DecodeSessions(b)
	if err != nil {
		t.Fatal(err)
	}
	if sum(whole(in)) != sum(out) {
		t.Fatal("came back changed")
	}
	d := NewDecoder()
	s, err := d.Sessions(b)
	if err != nil {
		t.Fatal(err)
	}
	a := v4(0x64400000 + 11)
	want, port := 0, uint16(0)
	for i := range in {
		if in[i].Inside == a {
			want, port = want+1, in[i].InsidePort
		}
	}
	q := Query{Address: Exactly(a.Netip()), From: 0, To: 1 << 62}
	if got := match(t, s, q); len(got) != want || want == 0 {
		t.Errorf("%d sessions of the inside address, want %d", len(got), want)
	}
	q.Port = port
	for _, x := range match(t, s, q) {
		if x.Inside != a || x.InsidePort != port {
			t.Errorf("found %v", x)
		}
	}
	local, _, _ := in[0].LocalEnd()
	if got := match(t, s, Query{Address: Exactly(local.Netip()), From: 0, To: 1 << 62}); len(got) == 0 {
		t.Error("not found by the public address")
	}
}

func TestABlockWithoutTranslationsIsNotLonger(t *testing.T) {
	in := newMix(4, 1000, time.Minute).sessions()
	b, err := EncodeSessions(nil, aHeader(), in)
	if err != nil {
		t.Fatal(err)
	}
	if n := b[32]; n != 11 {
		t.Errorf("%d columns, 11 are enough", n)
	}
	in[0].Inside = v4(1)
	if b, err = EncodeSessions(nil, aHeader(), in); err != nil || b[32] != 13 {
		t.Errorf("%d columns, %v", b[32], err)
	}
	if _, err := EncodeSessions(nil, aHeader(), in[1:]); err != nil {
		t.Fatal(err)
	}
	d := NewDecoder() // what it read before is forgotten
	if _, err := d.Sessions(b); err != nil {
		t.Fatal(err)
	}
	b, _ = EncodeSessions(nil, aHeader(), in[1:])
	s, err := d.Sessions(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range s.Append(nil) {
		if x.Inside != (session.Addr{}) {
			t.Fatal("an inside end out of nothing")
		}
	}
}
