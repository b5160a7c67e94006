package block

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/edgelog/edgelog/pkg/session"
)

func aHeader() Header {
	return Header{Profile: session.ProfileSession, Gateway: "gw-aarhus-1", Provider: "Østjysk Net",
		Clock: Clock{Synchronised: true, MaxErrorMicros: 1500}}
}

// whole cuts the times of s as a block does.
func whole(s []session.Session) []session.Session {
	out := slices.Clone(s)
	for i := range out {
		out[i].Start, out[i].End = milli(out[i].Start)*1e6, milli(out[i].End)*1e6
	}
	return out
}

var hashSeed = maphash.MakeSeed()

// sum is the same for two lists of the same rows in any order, and for hardly
// any others.
func sum[T comparable](list []T) (total uint64) {
	for _, x := range list {
		total += maphash.Comparable(hashSeed, x)
	}
	return total + uint64(len(list))
}

func TestEverySessionComesBack(t *testing.T) {
	for _, n := range []int{1, 2, 3, 255, 256, 1000, 20000} {
		in := newMix(uint64(n), n, time.Minute).sessions()
		b, err := EncodeSessions([]byte("before"), aHeader(), in)
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.TrimPrefix(b, []byte("before"))
		h, out, err := DecodeSessions(b)
		if err != nil {
			t.Fatal(err)
		}
		if sum(whole(in)) != sum(out) {
			t.Fatalf("%d sessions came back changed", n)
		}
		want := aHeader()
		want.Version, want.Kind, want.Count = Version, KindSessions, n
		want.MinStart, want.MaxEnd = math.MaxInt64, math.MinInt64
		for _, s := range in {
			want.MinStart, want.MaxEnd = min(want.MinStart, milli(s.Start)), max(want.MaxEnd, milli(s.End))
		}
		if h != want {
			t.Fatalf("header is %+v, want %+v", h, want)
		}
		if again, err := ReadHeader(b); err != nil || again != want {
			t.Fatalf("ReadHeader = %+v, %v", again, err)
		}
	}
}

func TestRowsAreSortedByLocalAddressAndStart(t *testing.T) {
	_, out, err := DecodeSessions(encode(t, newMix(1, 5000, time.Minute).sessions()))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(out, func(a, b session.Session) int {
		x, _, _ := a.LocalEnd()
		y, _, _ := b.LocalEnd()
		return cmp.Or(widen(x).compare(widen(y)), cmp.Compare(a.Start, b.Start))
	}) {
		t.Error("rows are not sorted")
	}
}

func encode(t testing.TB, s []session.Session) []byte {
	t.Helper()
	b, err := EncodeSessions(nil, aHeader(), s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// anySession draws from few values, so that equal ones meet, and from extremes.
func anySession(t *rapid.T) session.Session {
	addr := rapid.OneOf(
		rapid.Just(session.Addr{}),
		rapid.Map(rapid.Uint32(), v4),
		rapid.Map(rapid.Uint32Range(0, 3), v4),
		rapid.Map(rapid.Uint64(), func(x uint64) session.Addr { return v6(x, scatter(x)) }),
		rapid.Map(rapid.Uint64Range(0, 2), func(x uint64) session.Addr { return v6(0, x) }),
	)
	far := MaxMilli * 1e6
	at := rapid.OneOf(rapid.Int64Range(0, 5e9), rapid.Int64Range(-far, far), rapid.SampledFrom([]int64{-far, far, -1, 0, 1}))
	port := rapid.OneOf(rapid.Uint16Range(0, 3), rapid.Uint16())
	return session.Session{
		Start: at.Draw(t, "start"), End: at.Draw(t, "end"),
		Initiator: addr.Draw(t, "initiator"), Responder: addr.Draw(t, "responder"),
		InitiatorPort: port.Draw(t, "iport"), ResponderPort: port.Draw(t, "rport"),
		Proto:        rapid.Uint8().Draw(t, "proto"),
		InitiatorTCP: rapid.Uint8().Draw(t, "itcp"), ResponderTCP: rapid.Uint8Range(0, 1).Draw(t, "rtcp"),
		Reuse: rapid.Uint8Range(0, 2).Draw(t, "reuse"),
		Local: session.Side(rapid.Uint8Range(0, 3).Draw(t, "local")), Flags: session.Flags(rapid.Uint8().Draw(t, "flags")),
		EndReason:  session.EndReason(rapid.Uint8().Draw(t, "reason")),
		Subscriber: rapid.OneOf(rapid.SampledFrom([]string{"", "a", "b"}), rapid.StringN(0, 5, 300)).Draw(t, "subscriber"),
	}
}

func TestAnySessionsComeBack(t *testing.T) {
	e, d := NewEncoder(), NewDecoder()
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(rapid.Custom(anySession), 1, 400).Draw(t, "sessions")
		b, err := e.Sessions(nil, aHeader(), in)
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.Sessions(b)
		if err != nil {
			t.Fatal(err)
		}
		if out := s.Append(nil); sum(whole(in)) != sum(out) {
			t.Fatalf("came back as %+v", out)
		}
	})
}

// wordy makes n sessions, each of another subscriber with the longest of names.
func wordy(n int) []session.Session {
	out := make([]session.Session, n)
	for i := range out {
		out[i] = session.Session{Start: int64(i) * 1e6, End: int64(i) * 1e6, Initiator: v4(uint32(i)), Local: session.SideInitiator,
			Subscriber: fmt.Sprintf("%0*d", MaxText, i)}
	}
	return out
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	one := newMix(1, 1, time.Minute).sessions()[0]
	long, early := one, one
	long.Subscriber = strings.Repeat("x", MaxText+1)
	early.Start = math.MinInt64
	longName, badName := aHeader(), aHeader()
	longName.Provider = strings.Repeat("x", 256)
	badName.Gateway = "\xff"
	for what, c := range map[string]struct {
		h    Header
		s    []session.Session
		want error
	}{
		"nothing":         {aHeader(), nil, ErrEmpty},
		"too many rows":   {aHeader(), make([]session.Session, MaxRows+1), ErrTooBig},
		"long subscriber": {aHeader(), []session.Session{long}, ErrTooBig},
		"no such time":    {aHeader(), []session.Session{early}, ErrTooBig},
		"too much text":   {aHeader(), wordy(maxTexts/MaxText + 1), ErrTooBig},
		"long provider":   {longName, []session.Session{one}, nil},
		"bad gateway":     {badName, []session.Session{one}, nil},
	} {
		b, err := EncodeSessions([]byte("x"), c.h, c.s)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || string(b) != "x" {
			t.Errorf("%s: %q, %v", what, b, err)
		}
	}
	if b := encode(t, make([]session.Session, MaxRows)); len(b) > 1000 {
		t.Errorf("%d equal rows take %d bytes", MaxRows, len(b))
	}
}

func TestBytesThatAreNoBlockOfThisKind(t *testing.T) {
	b := encode(t, newMix(1, 50, time.Minute).sessions())
	newer := bytes.Clone(b)
	newer[4] = Version + 1
	if _, _, err := DecodeSessions(newer); !errors.Is(err, ErrNewer) {
		t.Errorf("newer version: %v", err)
	}
	if _, _, err := DecodeBindings(b); !errors.Is(err, ErrKind) {
		t.Errorf("sessions as bindings: %v", err)
	}
	for n := range b {
		if _, _, err := DecodeSessions(b[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(b), err)
		}
	}
	if _, _, err := DecodeSessions(append(bytes.Clone(b), 0)); !errors.Is(err, ErrDamaged) {
		t.Errorf("one byte more: %v", err)
	}
}

func TestAColumnThatIsNotKnownYetIsLetPass(t *testing.T) {
	in := newMix(1, 50, time.Minute).sessions()
	b := encode(t, in)
	h, n, at, err := readHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	end := at + n*columnPart
	more := append(bytes.Clone(b[:end]), 200, 0, 0, 0, 3)
	more = append(append(more, b[end:]...), "new"...)
	more[32]++
	got, out, err := DecodeSessions(more)
	if err != nil || got != h || sum(whole(in)) != sum(out) {
		t.Fatalf("%v", err)
	}
}

// TestNoBytesTakeMuchMemory flips bytes of a good block and counts what reading
// allocates: a forged length must not be believed.
func TestNoBytesTakeMuchMemory(t *testing.T) {
	b := encode(t, newMix(1, 300, time.Minute).sessions())
	d := NewDecoder()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] = 0xff
		_, _ = d.Sessions(bad)
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / uint64(len(b)); per > 1<<20 {
		t.Errorf("%d bytes allocated for each bad block of %d bytes", per, len(b))
	}
}

func TestEveryBindingComesBack(t *testing.T) {
	for _, n := range []int{1, 2, 300, 5000} {
		in := newMix(uint64(n), n, time.Hour).bindings()
		b, err := EncodeBindings(nil, aHeader(), in)
		if err != nil {
			t.Fatal(err)
		}
		h, out, err := DecodeBindings(b)
		if err != nil {
			t.Fatal(err)
		}
		if h.Kind != KindBindings || h.Count != n {
			t.Errorf("header %+v", h)
		}
		sameBindings(t, in, out)
	}
}

func sameBindings(t interface{ Fatalf(string, ...any) }, in, out []session.Binding) {
	in = slices.Clone(in)
	for i := range in {
		in[i].Prefix = in[i].Prefix.Masked()
	}
	if sum(in) != sum(out) {
		t.Fatalf("came back changed:\n%+v\n%+v", in, out)
	}
}

func TestAnyBindingsComeBack(t *testing.T) {
	text := rapid.OneOf(rapid.SampledFrom([]string{"", "a", "b"}), rapid.StringN(0, 5, 300))
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		switch rapid.IntRange(0, 2).Draw(t, "family") {
		case 0:
			return netip.PrefixFrom(v4(rapid.Uint32().Draw(t, "a")).Netip(), rapid.IntRange(0, 32).Draw(t, "bits"))
		case 1:
			hi := rapid.Uint64().Draw(t, "a")
			return netip.PrefixFrom(v6(hi|1<<63, hi).Netip(), rapid.IntRange(0, 128).Draw(t, "bits"))
		}
		return netip.Prefix{}
	})
	at := rapid.OneOf(
		rapid.Map(rapid.Int64Range(0, 3), func(x int64) int64 { return x * 1e9 }),
		rapid.Map(rapid.Int64Range(0, 3), func(x int64) int64 { return x * 1e6 }),
		rapid.Int64Range(1-farthest, farthest-1))
	binding := rapid.Custom(func(t *rapid.T) session.Binding {
		return session.Binding{
			Prefix: prefix.Draw(t, "prefix"), FirstPort: rapid.Uint16().Draw(t, "first"), LastPort: rapid.Uint16().Draw(t, "last"),
			From: at.Draw(t, "from"), To: rapid.OneOf(at, rapid.Just(session.Forever)).Draw(t, "to"),
			Subscriber: text.Draw(t, "s"), Line: text.Draw(t, "l"), Equipment: text.Draw(t, "e"), Place: text.Draw(t, "p"),
			Source: session.Source(rapid.Uint8().Draw(t, "source")), SourceName: text.Draw(t, "n"), SourceKey: text.Draw(t, "k"),
			Certainty: session.Certainty(rapid.Uint8().Draw(t, "certainty")),
		}
	})
	e, d := NewEncoder(), NewDecoder()
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(binding, 1, 50).Draw(t, "bindings")
		b, err := e.Bindings(nil, aHeader(), in)
		if err != nil {
			t.Fatal(err)
		}
		_, out, err := d.Bindings(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		sameBindings(t, in, out)
	})
}

func TestBindingsThatDoNotFitAreRefused(t *testing.T) {
	good := newMix(1, 1, time.Hour).bindings()[0]
	long, late := good, good
	long.SourceKey = strings.Repeat("x", MaxText+1)
	late.To = session.Forever - 1
	for what, b := range map[string][]session.Binding{"long text": {long}, "no such time": {good, late}} {
		if _, err := EncodeBindings(nil, aHeader(), b); !errors.Is(err, ErrTooBig) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := EncodeBindings(nil, aHeader(), nil); !errors.Is(err, ErrEmpty) {
		t.Errorf("none: %v", err)
	}
}
