package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// oddities makes some of the sessions such as are rare in the mix.
func oddities(in []session.Session, unknown, inside bool) []session.Session {
	for i := range in {
		switch i % 50 {
		case 0:
			if unknown {
				in[i].Local = session.SideUnknown
			}
		case 1:
			in[i].Flags, in[i].Local, in[i].Responder, in[i].ResponderPort = session.LocalOnly, session.SideInitiator, session.Addr{}, 0
		case 2:
			in[i].Subscriber = "" // not known
		case 3:
			if inside {
				in[i].Inside, in[i].InsidePort = v4(0x64400000+uint32(i)), uint16(i)
			}
		}
	}
	return in
}

// counted gives the frames of a block and notes which.
func counted(b []byte, opened map[int]int) Frame {
	whole := unsealed(b)
	return func(i int) ([]byte, error) {
		opened[i]++
		return whole(i)
	}
}

// TestMatchFindsWhatAPlainSearchFinds asks each block for what is in it and in
// another one, with the columns unpacked as they are needed.
func TestMatchFindsWhatAPlainSearchFinds(t *testing.T) {
	for _, c := range []struct {
		rows            int
		unknown, inside bool
	}{{1500, false, false}, {1500, true, false}, {1500, false, true}, {1500, true, true}, {20, true, true}, {1, false, false}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			in := oddities(newMix(3, c.rows, time.Minute).sessions(), c.unknown, c.inside)
			other := oddities(newMix(4, 400, time.Minute).sessions(), c.unknown, c.inside)
			plain, kept := encode(t, in), whole(in)
			d := NewDecoder()
			r := rand.New(rand.NewPCG(5, 6))
			found, passed := 0, 0
			for i := range 400 {
				from := in
				if i%2 == 1 {
					from = other
				}
				x := &from[r.IntN(len(from))]
				q := randomQuery(r, x)
				if x.Inside != (session.Addr{}) && r.IntN(2) == 0 {
					q.Address, q.Port, q.Remote = Exactly(x.Inside.Netip()), x.InsidePort, netip.Prefix{}
				}
				want := slices.DeleteFunc(slices.Clone(kept), func(y session.Session) bool { return !asks(q, &y) })
				opened := map[int]int{}
				s, err := d.Look(counted(plain, opened))
				if err != nil {
					t.Fatal(err)
				}
				if got := match(t, s, q); sum(want) != sum(got) || len(got) > 0 && !s.MayMatch(q) {
					t.Fatalf("%+v: %d found, %d expected", q, len(got), len(want))
				}
				for frame, n := range opened {
					if n != 1 {
						t.Fatalf("frame %d was opened %d times", frame, n)
					}
				}
				found += len(want)
				if !s.MayMatch(q) {
					if passed++; len(opened) != Heads {
						t.Fatalf("%d frames of a block without an answer were opened", len(opened))
					}
				}
			}
			if found < 100 || passed == 0 && c.rows > 20 {
				t.Errorf("%d sessions found, %d times passed over: the questions ask nothing", found, passed)
			}
		})
	}
}

func TestWhatIsNotThereIsToldFromTheHead(t *testing.T) {
	in := newMix(7, 20_000, time.Minute).sessions()
	s, err := NewDecoder().Look(unsealed(encode(t, in)))
	if err != nil {
		t.Fatal(err)
	}
	all := Query{From: in[0].Start - 3600e9, To: in[0].End + 3600e9}
	r := rand.New(rand.NewPCG(1, 2))
	wrong := 0
	const asked = 20_000
	for i := range asked {
		q := all
		if i%2 == 0 {
			q.Remote = Exactly(v4(0x05000000 | r.Uint32N(1<<24)).Netip()) // none in the mix
		} else {
			q.Subscriber = fmt.Sprintf("nobody-%d", i)
		}
		if s.MayMatch(q) {
			wrong++
		}
	}
	if share := float64(wrong) / asked; share > 0.008 { // 1 in 256 is expected
		t.Errorf("%.4f of what is not there may be there", share)
	}
	for what, q := range map[string]Query{
		"an address below all":          {Address: netip.MustParsePrefix("10.0.0.1/32")},
		"an address above all":          {Address: netip.MustParsePrefix("200.0.0.1/32")},
		"a prefix above all":            {Address: netip.MustParsePrefix("192.0.0.0/8")},
		"an IPv6 address of nobody":     {Address: netip.MustParsePrefix("fe80::1/128")},
		"an address, and a far nowhere": {Address: netip.MustParsePrefix("0.0.0.0/0"), Remote: netip.MustParsePrefix("5.6.7.8/32")},
	} {
		q.From, q.To = all.From, all.To
		if s.MayMatch(q) {
			t.Errorf("%s may be there", what)
		}
	}
	late := Query{From: (s.MaxEnd + 1) * 1e6, To: all.To * 2}
	if s.MayMatch(late) {
		t.Error("a time after all may be there")
	}
}

func TestAFilterOfALaterVersionRulesNothingOut(t *testing.T) {
	in := newMix(7, 4000, time.Minute).sessions()
	frames, err := Frames(nil, encode(t, in))
	if err != nil {
		t.Fatal(err)
	}
	d := NewDecoder()
	nowhere := Query{Remote: netip.MustParsePrefix("5.6.7.8/32"), From: in[0].Start, To: in[0].Start + 1e9}
	ask := func() (bool, error) {
		s, err := d.Look(func(i int) ([]byte, error) { return frames[i], nil })
		return err == nil && s.MayMatch(nowhere), err
	}
	if may, err := ask(); may || err != nil {
		t.Fatalf("%v, %v", may, err)
	}
	frames[2] = slices.Clone(frames[2])
	frames[2][0] = 77
	if may, err := ask(); !may || err != nil {
		t.Errorf("a filter of another kind: %v, %v", may, err)
	}
	frames[2][0] = filterNone
	if _, err := ask(); !errors.Is(err, ErrDamaged) {
		t.Errorf("no filter, but bytes: %v", err)
	}
	frames[2] = frames[2][1:]
	if _, err := ask(); !errors.Is(err, ErrDamaged) {
		t.Errorf("a frame that is too short: %v", err)
	}
}

func TestFramesLieOneBehindTheOther(t *testing.T) {
	b := encode(t, newMix(7, 4000, time.Minute).sessions())
	frames, err := Frames([][]byte{nil}, b)
	if err != nil || len(frames) != 1+1+len(sessionColumns)-insideColumns || !slices.Equal(slices.Concat(frames...), b) {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	for _, n := range []int{len(b) - 1, 60, 10} {
		if f, err := Frames(nil, b[:n]); !errors.Is(err, ErrDamaged) || f != nil {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := Frames(nil, append(slices.Clone(b), 0)); !errors.Is(err, ErrDamaged) {
		t.Errorf("one byte more: %v", err)
	}
	broken := errors.New("not opened")
	_, err = NewDecoder().Look(func(i int) ([]byte, error) {
		if i == 2 {
			return nil, broken
		}
		return frames[1+i], nil
	})
	if !errors.Is(err, broken) {
		t.Errorf("a frame that cannot be opened: %v", err)
	}
}

// TestAFilterOfPairsWouldCostMoreThanItSpares measures what FORMAT.md says of a
// filter of local address and port.
func TestAFilterOfPairsWouldCostMoreThanItSpares(t *testing.T) {
	in := newMix(7, benchRows, 27*time.Second).sessions()
	seen := map[uint64]bool{}
	for i := range in {
		local, _, port, _ := orient(&in[i])
		seen[filterKey(append(local[:], byte(port>>8), byte(port)))] = true
	}
	p := newPacker()
	p.filter(slices.Collect(maps.Keys(seen)))
	perSession := float64(len(p.out)) / benchRows
	t.Logf("%.2f bytes a session", perSession)
	if perSession < 0.9 {
		t.Errorf("%.2f bytes a session: worth thinking again", perSession)
	}
}

// TestWhoeverReadsFORMATCanAskAFilter is a second reading of a filter, from the
// words of FORMAT.md.
func TestWhoeverReadsFORMATCanAskAFilter(t *testing.T) {
	keys := make([]uint64, 3000)
	for i := range keys {
		keys[i] = scatter(uint64(i))
	}
	p := newPacker()
	p.filter(slices.Clone(keys))
	_, n := binary.Uvarint(p.out[1:])
	b := p.out[1+n:]
	seed, L := binary.BigEndian.Uint64(b), uint64(1)<<b[8]
	s, n := binary.Uvarint(b[9:])
	f := b[9+n:]
	ask := func(k uint64) bool {
		h := k + seed
		h ^= h >> 33
		h *= 0xff51afd7ed558ccd
		h ^= h >> 33
		h *= 0xc4ceb9fe1a85ec53
		h ^= h >> 33
		a, _ := bits.Mul64(h, s*L)
		return f[a]^f[(a+L)^(h>>18%L)]^f[(a+2*L)^(h%L)] == byte(h^h>>32)
	}
	passed := 0
	for i, k := range keys {
		if !ask(k) {
			t.Fatalf("key %d is not there", i)
		}
		if ask(scatter(uint64(i) + 1<<40)) {
			passed++
		}
	}
	if passed > 40 {
		t.Errorf("%d of 3000 that are not there pass", passed)
	}
}
