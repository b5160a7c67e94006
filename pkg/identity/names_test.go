package identity

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/edgelog/edgelog/pkg/session"
)

func TestManyQuestionsAtOnceAreAnsweredLikeOne(t *testing.T) {
	b := openTest(t, t.TempDir(), Options{})
	ask := func(n int) {
		t.Helper()
		list := make([]Question, n)
		for i := range list {
			q := &list[i]
			q.Port, q.At = uint16(rand.IntN(4000)), sec(rand.Float64()*200)
			switch rand.IntN(4) {
			case 0:
				q.Addr = session.AddrFrom(addr4(0xc0000200 + rand.Uint32N(256)))
			case 1:
				q.Addr = addr(fmt.Sprintf("2001:db8:0:%x::1", rand.IntN(512)))
			case 2:
				q.Addr = addr("203.0.113.7")
			case 3:
				q.Addr = session.AddrFrom(addr4(0x64400000 + rand.Uint32N(64)))
			}
		}
		b.Names(list)
		named := 0
		for i := range list {
			q := &list[i]
			want, _ := b.Name(q.Addr, q.Port, q.At)
			if q.Subscriber != want {
				t.Fatalf("%+v: Name says %q", q, want)
			}
			if want != "" {
				named++
			}
		}
		if n > 1000 && len(b.everything()) > 0 && (named == 0 || named == n) {
			t.Errorf("%d of %d are named, so this test proves little", named, n)
		}
	}
	ask(1000) // of an empty book
	for i := range 200 {
		at := rand.Float64() * 100
		apply(t, b, ev(Start, fmt.Sprint("a", i), fmt.Sprint("user", i), at, addr4(0xc0000200+rand.Uint32N(256)).String()),
			ev(Start, fmt.Sprint("b", i), fmt.Sprint("user", i), at, fmt.Sprintf("2001:db8:0:%x::/64", rand.IntN(512))),
			ev(Start, fmt.Sprint("c", i), fmt.Sprint("user", i), at, fmt.Sprintf("2001:db8:0:%x::/56", rand.IntN(2)<<8)),
			ev(Start, fmt.Sprint("d", i), fmt.Sprint("user", i), at, addr4(0x64400000+rand.Uint32N(64)).String()),
			from(holding(ev(Start, fmt.Sprint("e", i), "", at), ports("203.0.113.7/32", uint16(20*i), uint16(20*i+19), addr4(0x64400000+rand.Uint32N(64)).String())), session.SourceNAT, "box"))
		if i%40 == 0 {
			ask(777)
		}
	}
	apply(t, b, from(holding(ev(Start, "rule", "", 50), Lease{Kind: Translation, Prefix: netip.MustParsePrefix("192.0.2.128/26"),
		Rule: "inside=100.64.0.0/26 outside=192.0.2.128/26 ports=0-65535 per-host=32768"}), session.SourceNAT, "rules"))
	ask(20000)
	list := []Question{{Addr: addr("192.0.2.1"), At: sec(150)}}
	if n := testing.AllocsPerRun(100, func() { b.Names(list) }); n != 0 {
		t.Errorf("names take %v allocations", n)
	}
}
