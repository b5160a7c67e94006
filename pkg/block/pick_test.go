package block

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// headOnly gives no more of a block of bindings than its head.
func headOnly(t *testing.T, plain []byte) Frame {
	whole := unsealed(plain)
	return func(i int) ([]byte, error) {
		if i >= HeadOfBindings {
			t.Errorf("frame %d was opened", i)
		}
		return whole(i)
	}
}

func TestPickingGivesWhatLookingAtEachRowGives(t *testing.T) {
	list := newMix(7, 2000, time.Hour).bindings()
	list = append(list, session.Binding{From: 1, To: 2}, // without prefix
		session.Binding{Prefix: netip.MustParsePrefix("2001:db8:7::/48"), LastPort: 65535, From: 1, To: 2, Subscriber: "six", Identity: "duid"},
		session.Binding{Prefix: netip.MustParsePrefix("198.51.100.0/28"), LastPort: 65535, From: 1, To: 2, Via: netip.MustParseAddr("100.64.0.9")})
	plain, err := EncodeBindings(nil, aHeader(), list)
	if err != nil {
		t.Fatal(err)
	}
	_, all, err := DecodeBindings(plain)
	if err != nil {
		t.Fatal(err)
	}
	one := list[77]
	for name, p := range map[string]Pick{
		"rules":                    {Rules: true},
		"nothing":                  {},
		"all":                      {All: true},
		"an address":               {Addresses: []netip.Addr{one.Prefix.Addr()}},
		"an address nobody has":    {Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.250")}},
		"an address in a prefix":   {Addresses: []netip.Addr{netip.MustParseAddr("2001:db8:7:9::1")}},
		"an address beside it":     {Addresses: []netip.Addr{netip.MustParseAddr("2001:db8:8::1")}},
		"an address of a short v4": {Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.15")}},
		"the one after it":         {Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.16")}},
		"a prefix inside":          {Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8:7:1::/64")}},
		"a prefix around":          {Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}},
		"a subscriber":             {Subscriber: one.Subscriber},
		"a line":                   {Line: one.Line},
		"equipment":                {Equipment: one.Equipment},
		"an identity":              {Identity: "duid"},
		"an identity nobody has":   {Identity: "x"},
		"what is behind via":       {Via: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/24")}},
		"what is not behind it":    {Via: []netip.Prefix{netip.MustParsePrefix("100.65.0.0/24")}},
	} {
		t.Run(name, func(t *testing.T) {
			var want []session.Binding
			for i := range all {
				if p.wants(&all[i]) {
					want = append(want, all[i])
				}
			}
			d := NewDecoder()
			for range 2 { // its buffers are used again
				h, got, err := d.PickBindings(nil, plain, &p)
				if err != nil || h.Count != len(list) || !reflect.DeepEqual(got, want) {
					t.Fatalf("%d instead of %d, %v", len(got), len(want), err)
				}
				other := p.All || p.Rules || len(p.Via) > 0 || p.Subscriber+p.Identity+p.Line+p.Equipment != ""
				byPrefix := slices.ContainsFunc(want, func(b session.Binding) bool { return p.wantsPrefix(b.Prefix) })
				if may, err := d.MayPick(headOnly(t, plain), &p); err != nil || may != (other || byPrefix) {
					t.Fatalf("its head says %v, %v", may, err)
				}
			}
		})
	}
}

func BenchmarkPickOneAddress(b *testing.B) {
	list := newMix(7, 65536, time.Hour).bindings()
	plain, err := EncodeBindings(nil, aHeader(), list)
	if err != nil {
		b.Fatal(err)
	}
	d := NewDecoder()
	for name, p := range map[string]Pick{
		"none": {Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.250")}}, "all": {All: true},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := d.PickBindings(nil, plain, &p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkMayPick looks for an address in the head of a merged block of bindings.
func BenchmarkMayPick(b *testing.B) {
	plain, err := EncodeBindings(nil, aHeader(), newMix(7, 2048, time.Hour).bindings())
	if err != nil {
		b.Fatal(err)
	}
	frames, err := Frames(nil, plain)
	if err != nil {
		b.Fatal(err)
	}
	d, p := NewDecoder(), Pick{Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.250")}}
	for b.Loop() {
		if may, err := d.MayPick(unsealed(plain), &p); may || err != nil {
			b.Fatal(may, err)
		}
	}
	b.ReportMetric(float64(len(frames[0])+len(frames[1])), "B/head")
	b.ReportMetric(float64(len(plain)), "B/block")
}

// wants reports whether b is wanted, by the conditions one after the other.
func (p *Pick) wants(b *session.Binding) bool {
	return p.All || p.wantsPrefix(b.Prefix) || p.Rules && b.Rule != "" ||
		p.Subscriber != "" && b.Subscriber == p.Subscriber || p.Identity != "" && b.Identity == p.Identity ||
		p.Line != "" && b.Line == p.Line || p.Equipment != "" && b.Equipment == p.Equipment ||
		b.Via.IsValid() && slices.ContainsFunc(p.Via, func(x netip.Prefix) bool { return x.Contains(b.Via) })
}
