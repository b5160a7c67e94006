package identity

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

const ruleText = "inside=100.64.0.0/20 outside=203.0.113.0/26 ports=1024-65535 per-host=1008"

func TestARuleGivesEachInsideAddressPortsOfItsOwn(t *testing.T) {
	for _, text := range []string{
		ruleText, ruleText + " allocation=interleaved",
		"inside=10.0.0.0/31 outside=192.0.2.1/32 per-host=32256",
		"inside=10.0.0.0/30 outside=192.0.2.0/31 ports=0-65535 per-host=32768",
		"inside=10.0.0.0/24 outside=192.0.2.0/29 ports=5000-65535 per-host=1000 allocation=interleaved",
	} {
		r, err := ParseRule(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if again, err := ParseRule(r.String()); err != nil || again != r {
			t.Errorf("%s becomes %s, %v", text, r, err)
		}
		type block struct {
			a     netip.Addr
			first uint16
		}
		seen := map[block]netip.Addr{}
		for in := r.InsidePrefix.Addr(); r.InsidePrefix.Contains(in); in = in.Next() {
			out, first, last, ok := r.Outside(in)
			if !ok || uint32(last-first)+1 != r.PerHost || first < r.First || last > r.Last || !r.OutsidePrefix.Contains(out) {
				t.Fatalf("%s: %s has %s:%d-%d, %v", text, in, out, first, last, ok)
			}
			if other, taken := seen[block{out, first}]; taken {
				t.Fatalf("%s: %s and %s share a block", text, in, other)
			}
			seen[block{out, first}] = in
			for _, port := range []uint16{first, last, first + uint16(rand.Uint32N(r.PerHost))} {
				if got, ok := r.Inside(out, port); !ok || got != in {
					t.Fatalf("%s: %s:%d is %s's, not %s's", text, out, port, in, got)
				}
			}
			if n := r.next(first); n != int(last)+1 || r.next(last) != n {
				t.Fatalf("%s: behind the block %d-%d comes %d", text, first, last, n)
			}
		}
	}
}

func TestWhatARuleDoesNotTranslateIsNobodys(t *testing.T) {
	r, err := ParseRule(strings.Replace(ruleText, "1008", "1000", 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		outside string
		port    uint16
	}{{"203.0.113.0", 1023}, {"203.0.113.64", 2000}, {"203.0.113.0", 65024}, {"203.0.113.0", 65535}, {"2001:db8::1", 2000}, {"100.64.0.1", 2000}} {
		if in, ok := r.Inside(netip.MustParseAddr(c.outside), c.port); ok {
			t.Errorf("%s:%d is said to be %s's", c.outside, c.port, in)
		}
	}
	for _, in := range []string{"100.64.16.0", "2001:db8::1", "203.0.113.1"} {
		if _, _, _, ok := r.Outside(netip.MustParseAddr(in)); ok {
			t.Errorf("%s is said to be translated", in)
		}
	}
}

func TestARuleThatCannotBeIsRefusedWithARemedy(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "inside is missing",
		"inside=100.64.0.0/20": "outside is missing",
		strings.Replace(ruleText, "/20", "/16", 1):                      "do not fit",
		strings.Replace(ruleText, "1008", "0", 1):                       "per-host",
		strings.Replace(ruleText, "1008", "65000", 1):                   "fewer than per-host",
		strings.Replace(ruleText, "1024-65535", "9-1", 1):               "ports=1024-65535",
		strings.Replace(ruleText, "100.64.0.0/20", "100.64.0.1/20", 1):  "not an IPv4 prefix",
		strings.Replace(ruleText, "100.64.0.0/20", "2001:db8::/64", 1):  "not an IPv4 prefix",
		strings.Replace(ruleText, "203.0.113.0/26", "100.64.0.0/26", 1): "overlap",
		ruleText + " allocation=random":                                 "sequential or interleaved",
		ruleText + " color=blue":                                        "use inside",
		ruleText + " per-host=1008":                                     "twice",
	} {
		if _, err := ParseRule(text); !errors.Is(err, ErrRule) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzRule(f *testing.F) {
	f.Add(ruleText, uint32(0xcb007101), uint16(2000))
	f.Add(ruleText+" allocation=interleaved", uint32(0xcb007101), uint16(65535))
	f.Fuzz(func(t *testing.T, text string, a uint32, port uint16) {
		r, err := ParseRule(text)
		if err != nil {
			return
		}
		if again, err := ParseRule(r.String()); err != nil || again != r {
			t.Fatalf("%q becomes %q, %v", text, r.String(), err)
		}
		if in, ok := r.Inside(addr4(a), port); ok {
			out, first, last, ok := r.Outside(in)
			if !ok || out != addr4(a) || port < first || port > last {
				t.Fatalf("%q: %v:%d is %v's, who has %v:%d-%d", text, addr4(a), port, in, out, first, last)
			}
		}
	})
}
