package block

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// merged returns the rows and headers that m gives.
func merged(t testing.TB, m *Merger) (headers []Header, rows []session.Session) {
	t.Helper()
	err := m.Blocks(func(h Header, plain []byte) error {
		got, list, err := DecodeSessions(plain)
		if err != nil {
			return err
		}
		if h.Version = Version; got != h {
			t.Errorf("it says %+v of a block with %+v", h, got)
		}
		headers, rows = append(headers, h), append(rows, list...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return headers, rows
}

func add(t testing.TB, m *Merger, h Header, in []session.Session) {
	t.Helper()
	plain, err := EncodeSessions(nil, h, in)
	if err == nil {
		err = m.Add(plain)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestMergedBlocksHoldTheSameSessionsSorted(t *testing.T) {
	in := oddities(newMix(3, 20_000, time.Minute).sessions(), true, true)
	m := NewMerger(MergeOptions{MaxRows: 3000})
	for part := range slices.Chunk(in, 700) {
		add(t, m, aHeader(), part)
	}
	if m.Rows() != len(in) {
		t.Errorf("%d rows were added", m.Rows())
	}
	headers, out := merged(t, m)
	if sum(out) != sum(whole(in)) || m.Duplicates() != 0 {
		t.Fatalf("%d sessions of %d, %d duplicates", len(out), len(in), m.Duplicates())
	}
	split := 0
	at := 0
	for _, h := range headers {
		if h.Count > 3000 || h.Count < 2000 {
			t.Errorf("a block of %d rows", h.Count)
		}
		if at += h.Count; at < len(out) && localOf(&out[at]) == localOf(&out[at-1]) {
			split++
		}
	}
	if split > 0 || len(headers) > 8 {
		t.Errorf("%d blocks, %d addresses are split", len(headers), split)
	}
	if !slices.IsSortedFunc(out, func(a, b session.Session) int {
		if c := localOf(&a).compare(localOf(&b)); c != 0 {
			return c
		}
		return int(a.Start/1e6 - b.Start/1e6)
	}) {
		t.Error("not sorted by local address and start")
	}
	m.Reset()
	if headers, _ := merged(t, m); len(headers) != 0 || m.Rows() != 0 {
		t.Error("something is left after Reset")
	}
}

func localOf(s *session.Session) wide {
	local, _, _, _ := orient(s)
	return widen(*local)
}

func TestOfASessionThatWasWrittenTwiceTheLastWordIsKept(t *testing.T) {
	in := newMix(3, 3000, time.Second).sessions()
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 1500 { // more that begin at the same time with the same address
		in[i].Start, in[i].Initiator, in[i].Local = in[0].Start, in[0].Initiator, session.SideInitiator
		in[i].End = max(in[i].Start, in[i].End)
	}
	all := slices.Clone(in)
	for range 4000 {
		x := in[r.IntN(len(in))]
		switch r.IntN(5) {
		case 0:
			x.Flags |= session.Open
			x.End += 100e9
		case 1:
			x.End += r.Int64N(5000) * 1e6
		case 2:
			x.Subscriber = "another"
		}
		all = append(all, x)
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	best := map[session.ID]session.Session{}
	for _, x := range whole(all) {
		if old, ok := best[x.ID()]; !ok || x.Supersedes(&old) {
			best[x.ID()] = x
		}
	}
	m := NewMerger(MergeOptions{})
	for part := range slices.Chunk(all, 500) {
		add(t, m, aHeader(), part)
	}
	_, out := merged(t, m)
	if len(out) != len(best) || m.Duplicates() != len(all)-len(best) {
		t.Fatalf("%d sessions, %d duplicates; %d and %d expected", len(out), m.Duplicates(), len(best), len(all)-len(best))
	}
	for _, x := range out {
		if want := best[x.ID()]; x.End != want.End || (x.Flags^want.Flags)&session.Open != 0 {
			t.Fatalf("kept %+v and not %+v", x, want)
		}
	}
}

func TestBlocksOfDifferentKindsOfRecordingAreNotMixed(t *testing.T) {
	in := newMix(3, 400, time.Second).sessions()
	h := aHeader()
	h.Clock = Clock{Synchronised: true, MaxErrorMicros: 7}
	other := h
	other.Provider = "another"
	worse := h
	worse.Clock = Clock{MaxErrorMicros: 5}
	m := NewMerger(MergeOptions{})
	add(t, m, h, in[:100])
	add(t, m, other, in[100:200])
	add(t, m, worse, in[200:])
	headers, _ := merged(t, m)
	if len(headers) != 3 || headers[0].Count != 100 || headers[0].Clock != h.Clock ||
		headers[1].Provider != "another" || headers[1].Clock != h.Clock || headers[2].Count != 200 || headers[2].Clock != worse.Clock {
		t.Errorf("%+v", headers)
	}
	for what, b := range map[string][]byte{"nothing": nil, "half a block": encode(t, in)[:500]} {
		if err := m.Add(b); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	register, err := NewEncoder().Register(nil, h, someSubscribers())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Add(register); !errors.Is(err, ErrKind) || m.Rows() != 400 {
		t.Errorf("a register: %v", err)
	}
	enough := errors.New("enough")
	if err := m.Blocks(func(Header, []byte) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("yield's error: %v", err)
	}
}

func TestMergedBlocksAreNotLargerThanTheyMay(t *testing.T) {
	in := newMix(3, 9000, time.Minute).sessions()
	m := NewMerger(MergeOptions{MaxBytes: 20_000})
	add(t, m, aHeader(), in)
	n, rows := 0, 0
	if err := m.Blocks(func(h Header, plain []byte) error {
		n++
		rows += h.Count
		if len(plain) > 20_000 {
			t.Errorf("%d bytes", len(plain))
		}
		return nil
	}); err != nil || rows != len(in) || n < 5 {
		t.Errorf("%d rows in %d blocks, %v", rows, n, err)
	}
}

func TestMergedBlocksCanBeReadHoweverLongTheirTexts(t *testing.T) {
	in := wordy(maxTexts/MaxText + 100)
	m := NewMerger(MergeOptions{})
	for part := range slices.Chunk(in, 500) {
		add(t, m, aHeader(), part)
	}
	headers, out := merged(t, m)
	if len(headers) != 2 || sum(out) != sum(in) {
		t.Errorf("%d sessions of %d in %d blocks", len(out), len(in), len(headers))
	}
	bindings := make([]session.Binding, len(in))
	for i := range bindings {
		bindings[i] = session.Binding{From: int64(i), To: int64(i + 1), Line: in[i].Subscriber}
	}
	if b, err := EncodeBindings(nil, aHeader(), bindings); !errors.Is(err, ErrTooBig) || b != nil {
		t.Errorf("too much text in a block of bindings: %v", err)
	}
}

func TestMergedBindingsAreAllThere(t *testing.T) {
	in := newMix(3, 2000, time.Hour).bindings()
	m := NewMerger(MergeOptions{MaxRows: 300})
	for part := range slices.Chunk(append(slices.Clone(in), in[:500]...), 250) {
		plain, err := EncodeBindings(nil, aHeader(), part)
		if err == nil {
			err = m.Add(plain)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var out []session.Binding
	if err := m.Blocks(func(h Header, plain []byte) error {
		got, list, err := DecodeBindings(plain)
		if got != h || h.Count > 300 {
			t.Errorf("it says %+v of a block with %+v", h, got)
		}
		out = append(out, list...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if sum(out) != sum(in) || m.Duplicates() != 500 {
		t.Errorf("%d bindings of %d, %d twice", len(out), len(in), m.Duplicates())
	}
	if !slices.IsSortedFunc(out, func(a, b session.Binding) int { return netip.Addr.Compare(a.Prefix.Addr(), b.Prefix.Addr()) }) {
		t.Error("not sorted by address over all blocks")
	}
}

// TestMergingTakesLittleMemory: the store merges beside all else. What decoder
// and encoder keep for one block is left out, it is the same for any number.
func TestMergingTakesLittleMemory(t *testing.T) {
	const rows = 1 << 18
	m := NewMerger(MergeOptions{})
	var fresh [][]byte
	for part := range slices.Chunk(newMix(3, rows, 110*time.Second).sessions(), 1<<14) {
		fresh = append(fresh, encode(t, part))
	}
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	merge := func(list [][]byte) (most uint64) {
		for _, b := range list {
			if err := m.Add(b); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Blocks(func(Header, []byte) error { most = max(most, heap()); return nil }); err != nil {
			t.Fatal(err)
		}
		m.Reset()
		return most
	}
	merge(fresh[:4])
	before := heap()
	perRow := float64(merge(fresh)-before) / rows
	runtime.KeepAlive(fresh)
	if perRow > 100 {
		t.Errorf("%.0f bytes a row", perRow)
	}
	t.Logf("%.0f bytes a row", perRow)
}

func FuzzMerge(f *testing.F) {
	seed(f, "testdata/golden/v1-*.block")
	other := encode(f, newMix(1, 5, time.Second).sessions())
	m := NewMerger(MergeOptions{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m.Reset()
		if err := m.Add(other); err != nil {
			t.Fatal(err)
		}
		_ = m.Add(b) // damaged mostly
		m.o.MaxRows = m.Rows()/3 + 1
		rows := 0
		if err := m.Blocks(func(h Header, plain []byte) error {
			rows += h.Count
			if h.Kind == KindBindings {
				_, _, err := DecodeBindings(plain)
				return err
			}
			_, _, err := DecodeSessions(plain)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if rows+m.Duplicates() != m.Rows() {
			t.Fatalf("%d rows and %d duplicates of %d", rows, m.Duplicates(), m.Rows())
		}
	})
}
