package block

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// mergedBack returns all sessions of merged blocks, and how many blocks there were.
func mergedBack(t *testing.T, m *Merger, rows, size int) (out []session.Session, heads []Header) {
	t.Helper()
	if err := m.Blocks(rows, size, func(h Header, plain []byte) error {
		if len(plain) > size || h.Count > rows {
			t.Errorf("a block of %d rows, %d bytes", h.Count, len(plain))
		}
		_, list, err := DecodeSessions(plain)
		out, heads = append(out, list...), append(heads, h)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out, heads
}

func inOrder(list []session.Session) []session.Session {
	slices.SortFunc(list, func(a, b session.Session) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), slices.Compare(a.Initiator[:], b.Initiator[:]), slices.Compare(a.Responder[:], b.Responder[:]),
			cmp.Compare(a.InitiatorPort, b.InitiatorPort), cmp.Compare(a.ResponderPort, b.ResponderPort), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Reuse, b.Reuse))
	})
	return list
}

func TestMergedBlocksHoldEachSessionOnceAndSayTheMostOfIt(t *testing.T) {
	all := realisticMix(20_000)
	for i := range all {
		all[i].Start -= all[i].Start % 1e6
		all[i].End -= all[i].End % 1e6
	}
	h := Header{Profile: session.ProfileSession, Gateway: "gw", Provider: "net", Clock: Clock{Synchronised: true, MaxErrorMicros: 5}}
	m := NewMerger()
	add := func(h Header, list []session.Session) {
		t.Helper()
		plain, err := EncodeSessions(nil, h, list)
		if err == nil {
			err = m.Add(plain)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	early := slices.Clone(all[:500]) // written before they had ended, or again with a straggler
	for i := range early {
		if i%2 == 0 {
			early[i].Flags |= session.Open
			early[i].End += 1e9
		} else {
			early[i].End -= 1e6
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	shuffled := slices.Concat(all, early)
	r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for part := range slices.Chunk(shuffled, 777) {
		h.Clock.MaxErrorMicros++
		add(h, part)
	}
	got, heads := mergedBack(t, m, 4096, 1<<20)
	if m.Twice() != 500 || len(heads) != (len(all)+4095)/4096 || heads[0].Clock != h.Clock {
		t.Errorf("%d twice, %d blocks, %+v", m.Twice(), len(heads), heads[0])
	}
	local := func(s *session.Session) session.Addr { a, _, _ := s.LocalEnd(); return a }
	if !slices.IsSortedFunc(got, func(a, b session.Session) int {
		x, y := widen(local(&a)), widen(local(&b))
		return cmp.Or(x.compare(y), cmp.Compare(a.Start, b.Start))
	}) {
		t.Error("not sorted by local address and start")
	}
	if want := inOrder(slices.Clone(all)); !reflect.DeepEqual(inOrder(got), want) {
		t.Error("other sessions came out than went in")
	}
	// Small blocks, and it can be used again.
	add(h, all[:1000])
	if got, heads := mergedBack(t, m, 1000, 2000); len(got) != 1000 || len(heads) < 4 {
		t.Errorf("%d sessions in %d blocks", len(got), len(heads))
	}
}

func TestBlocksThatSayDifferentThingsOfTheirRowsStayApart(t *testing.T) {
	list := realisticMix(10)
	m := NewMerger()
	for i, h := range []Header{
		{Profile: session.ProfileSession, Gateway: "gw"}, {Profile: session.ProfileSource, Gateway: "gw"},
		{Profile: session.ProfileSession, Gateway: "gw2"}, {Profile: session.ProfileSession, Gateway: "gw", Provider: "x"},
		{Profile: session.ProfileSession, Gateway: "gw", Clock: Clock{Synchronised: true}}, {Profile: session.ProfileSession, Gateway: "gw"},
	} {
		plain, err := EncodeSessions(nil, h, list[i:i+1])
		if err == nil {
			err = m.Add(plain)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got, heads := mergedBack(t, m, 100, 1<<20); len(heads) != 5 || len(got) != 6 {
		t.Errorf("%d sessions in %d blocks", len(got), len(heads))
	}
}

func TestBindingsAreMergedInTheOrderInWhichTheyWereSaid(t *testing.T) {
	m := NewMerger()
	b := session.Binding{Prefix: netip.MustParsePrefix("10.0.0.1/32"), LastPort: 65535, From: 1e9, To: session.Forever, Subscriber: "anna", SourceKey: "k"}
	ended := b
	ended.To = 5e9
	other := b
	other.Prefix = netip.MustParsePrefix("2001:db8::/56")
	for _, list := range [][]session.Binding{{b, other}, {ended}, {b}} {
		plain, err := EncodeBindings(nil, Header{Gateway: "gw"}, list)
		if err == nil {
			err = m.Add(plain)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var out []session.Binding
	if err := m.Blocks(100, 1<<20, func(_ Header, plain []byte) error {
		_, list, err := DecodeBindings(plain)
		out = append(out, list...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(out, []session.Binding{b, ended, other}) || m.Twice() != 1 {
		t.Errorf("%+v, %d twice", out, m.Twice())
	}
}

func TestWhatCannotBeMergedIsRefused(t *testing.T) {
	m := NewMerger()
	sessions, err := EncodeSessions(nil, Header{}, realisticMix(3))
	if err != nil {
		t.Fatal(err)
	}
	bindings, err := EncodeBindings(nil, Header{}, []session.Binding{{Subscriber: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Add(sessions), m.Add(bindings)); !errors.Is(err, ErrKind) {
		t.Errorf("bindings among sessions: %v", err)
	}
	if err := m.Add(sessions[:len(sessions)-1]); !errors.Is(err, ErrDamaged) {
		t.Errorf("a block that is cut: %v", err)
	}
	if m.Len() != 3 {
		t.Errorf("%d rows", m.Len())
	}
}

func TestTheFramesOfABlockAreTheBlock(t *testing.T) {
	plain, err := EncodeSessions(nil, Header{Gateway: "gw"}, realisticMix(100))
	if err != nil {
		t.Fatal(err)
	}
	frames, err := Frames(nil, plain)
	if err != nil || len(frames) < 10 || !slices.Equal(slices.Concat(frames...), plain) {
		t.Errorf("%d frames, %v", len(frames), err)
	}
	for _, bad := range [][]byte{plain[:len(plain)-1], append(slices.Clone(plain), 0), plain[:20]} {
		if _, err := Frames(nil, bad); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

// BenchmarkMerge merges blocks of the size that the recorder merges.
func BenchmarkMerge(b *testing.B) {
	all := realisticMix(8 * 65536)
	var plains [][]byte
	for part := range slices.Chunk(all, 65536) {
		plain, err := EncodeSessions(nil, Header{}, part)
		if err != nil {
			b.Fatal(err)
		}
		plains = append(plains, plain)
	}
	before, after := 0, 0
	b.ReportAllocs()
	for b.Loop() {
		m := NewMerger()
		before, after = 0, 0
		for _, p := range plains {
			before += len(p)
			if err := m.Add(p); err != nil {
				b.Fatal(err)
			}
		}
		if err := m.Blocks(65536, 1<<20, func(_ Header, plain []byte) error { after += len(plain); return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(all)), "ns/session")
	b.ReportMetric(float64(before)/float64(len(all)), "B/session-before")
	b.ReportMetric(float64(after)/float64(len(all)), "B/session")
}

// realisticMix is n sessions of the mix, in the order of their ends.
func realisticMix(n int) []session.Session {
	return newMix(7, n, 400*time.Second).sessions()
}
