package block

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/pkg/session"
)

// someCalls are calls of n minutes, by start, each with all fields.
func someCalls(n int) []session.Communication {
	random := rand.New(rand.NewPCG(1, 2)) // the same each time
	number := func() string { return fmt.Sprintf("+45%08d", 20_000_000+random.IntN(5*n+50)) }
	out := make([]session.Communication, n)
	for i := range out {
		start := int64(1_763_700_000e9) + int64(i)*60e9
		out[i] = session.Communication{
			Kind: session.Call, Service: "voice", From: number(), To: []string{number()}, Start: start, End: start + random.Int64N(600e3)*1e6,
			Subscriber: fmt.Sprint("customer-", random.IntN(n)), Equipment: fmt.Sprintf("35%013d", random.IntN(n)), SIM: fmt.Sprintf("23801%010d", random.IntN(n)),
			Cell: "238-01-1-17", CellEnd: "238-01-1-18", Place: "55.6761,12.5683", PlaceEnd: "55.6762,12.5683", Delivered: session.Delivered, Record: fmt.Sprint("r", i),
		}
		if i%7 == 0 {
			out[i].Forwarded, out[i].Delivered = []string{number(), number()}, session.NotDelivered
		}
	}
	return out
}

// edgeCommunications are as odd as they may be, by start.
func edgeCommunications() []session.Communication {
	many := make([]string, session.MaxReceivers)
	for i := range many {
		many[i] = fmt.Sprintf("r%d@example.net", i%700)
	}
	return []session.Communication{
		{Kind: session.Mail, Start: -MaxMilli * 1e6, End: MaxMilli * 1e6, From: "a@example.net", To: many, Forwarded: []string{"a@example.net", "a@example.net"}},
		{},
		{Kind: session.Mail, Start: 1e6, End: 1e6, From: strings.Repeat("x", MaxText), User: "Ærø \x00\xff", To: []string{"a@example.net"}},
		{Kind: 0xff, Delivered: 0xff, Start: MaxMilli * 1e6, End: MaxMilli * 1e6, Record: strings.Repeat("r", MaxText)},
	}
}

func TestCommunicationsComeBackAsTheyWere(t *testing.T) {
	for name, want := range map[string][]session.Communication{"calls": someCalls(3000), "one": someCalls(1), "edges": edgeCommunications()} {
		shuffled := slices.Clone(want)
		rand.New(rand.NewPCG(3, 4)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		b, err := EncodeCommunications([]byte("before"), aHeader(), shuffled)
		if err != nil {
			t.Fatal(err)
		}
		h, got, err := DecodeCommunications(b[len("before"):])
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %d came back as %d, %v", name, len(want), len(got), err)
		}
		if h.Kind != KindCommunications || h.Count != len(want) || h.MinStart != want[0].Start/1e6 {
			t.Errorf("%s: %+v", name, h)
		}
	}
	c := session.Communication{Start: 1_999_999, End: 3_500_001}
	b, err := EncodeCommunications(nil, aHeader(), []session.Communication{c})
	if err != nil {
		t.Fatal(err)
	}
	if _, got, err := DecodeCommunications(b); err != nil || got[0].Start != 1e6 || got[0].End != 3e6 {
		t.Errorf("fractions of a millisecond: %+v, %v", got, err)
	}
}

func TestWhatNoBlockOfCommunicationsMayHoldIsRefused(t *testing.T) {
	long := strings.Repeat("x", MaxText+1)
	for name, list := range map[string][]session.Communication{
		"nothing":                   nil,
		"ends before it begins":     {{Start: 2e6, End: 1e6}},
		"too many receivers":        {{To: make([]string, session.MaxReceivers+1)}},
		"forwarded too often":       {{Forwarded: make([]string, session.MaxReceivers+1)}},
		"a receiver without a name": {{To: []string{"a", ""}}},
		"a long party":              {{From: long}},
		"a long receiver":           {{To: []string{long}}},
		"a long text":               {{Record: long}},
	} {
		if b, err := EncodeCommunications(nil, aHeader(), list); err == nil || b != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	crowd := make([]session.Communication, maxParties/session.MaxReceivers+1)
	for i := range crowd {
		crowd[i].To = slices.Repeat([]string{"a"}, session.MaxReceivers)
	}
	if _, err := EncodeCommunications(nil, aHeader(), crowd); !errors.Is(err, ErrTooBig) {
		t.Errorf("more receivers than a block holds: %v", err)
	}
}

// matches is what a question means, said once more.
func matches(c *session.Communication, q *Sought) bool {
	return (q.Party == "" || c.Has(q.Party)) && (q.Subscriber == "" || c.Subscriber == q.Subscriber || c.User == q.Subscriber) &&
		(q.Equipment == "" || c.Equipment[:14] == (q.Equipment + "x")[:14] || c.SIM == q.Equipment) && milli(c.Start) <= milli(q.To) && milli(c.End) >= milli(q.From)
}

func TestAQuestionAboutCommunicationsFindsThoseAndNoOthers(t *testing.T) {
	list := someCalls(500)
	list[3].User, list[4].From = "anna@voip", ""
	b, err := EncodeCommunications(nil, aHeader(), list)
	if err != nil {
		t.Fatal(err)
	}
	whole := Sought{From: list[0].Start, To: list[499].End}
	ask := []Sought{whole, {From: list[100].Start, To: list[110].Start}, {From: list[0].Start - 1, To: list[0].Start - 1}, {From: whole.To + 1e9, To: whole.To + 2e9}}
	for i := 0; i < 500; i += 7 {
		c := &list[i]
		for _, q := range []Sought{{Party: c.From}, {Party: c.To[0]}, {Party: c.Forwarded[1]}, {Subscriber: c.Subscriber}, {Equipment: c.Equipment}, {Equipment: c.Equipment[:14]}, {Equipment: c.Equipment + "9"}, {Equipment: c.SIM},
			{Party: c.From, Subscriber: c.Subscriber, Equipment: c.SIM}, {Subscriber: "anna@voip"}, {Party: c.Subscriber}, {Subscriber: c.From}, {Equipment: "an unknown one"}, {Party: fmt.Sprint("+46", i)}} {
			q.From, q.To = whole.From, whole.To
			ask = append(ask, q)
			q.From, q.To = c.Start, c.End
			ask = append(ask, q)
		}
	}
	d, opened, wrong := NewDecoder(), 0, 0
	frames, err := Frames(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ask {
		q := &ask[i]
		var want []session.Communication
		for k := range list {
			if matches(&list[k], q) {
				want = append(want, list[k])
			}
		}
		opened = 0
		look, err := d.LookCommunications(func(i int) ([]byte, error) { opened++; return frames[i], nil })
		if err != nil {
			t.Fatal(err)
		}
		may := look.MayMatch(*q)
		got, err := look.Match(nil, *q)
		if err != nil || !reflect.DeepEqual(got, want) || len(want) > 0 && !may {
			t.Fatalf("%+v: %d found instead of %d, %v", *q, len(got), len(want), err)
		}
		if len(want) == 0 && opened > CommunicationHeads {
			wrong++
		}
	}
	if wrong > len(ask)/20 {
		t.Errorf("of %d questions %d opened more than the head for nothing", len(ask), wrong)
	}
}

func TestADamagedBlockOfCommunicationsIsNoticedOrReadsTheSameWay(t *testing.T) {
	b, err := EncodeCommunications(nil, aHeader(), someCalls(40))
	if err != nil {
		t.Fatal(err)
	}
	d := NewDecoder()
	for i := range b {
		for _, bit := range []byte{1, 0x80} {
			bad := slices.Clone(b)
			bad[i] ^= bit
			c, err := d.LookCommunications(unsealed(bad))
			if err == nil {
				var list []session.Communication
				if list, err = c.All(nil); err == nil && len(list) != c.Count {
					t.Fatalf("byte %d: %d rows of %d, and no error", i, len(list), c.Count)
				}
			}
			if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) && !errors.Is(err, ErrKind) {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
		if _, _, err := DecodeCommunications(b[:i]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut off behind %d bytes: %v", i, err)
		}
	}
}

// FuzzCommunications reads any bytes; what can be read must survive another turn, and be
// found by what is in it.
func FuzzCommunications(f *testing.F) {
	seed(f, "testdata/golden/v1-calls.block")
	seed(f, "testdata/golden/v1-mail.block")
	small, err := EncodeCommunications(nil, aHeader(), someCalls(3))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, list, err := DecodeCommunications(b)
		if err != nil {
			return
		}
		again, err := EncodeCommunications(nil, h, list)
		if err != nil {
			t.Fatal(err)
		}
		_, list2, err := DecodeCommunications(again)
		if err != nil || len(list2) != len(list) {
			t.Fatalf("%d came back as %d, %v", len(list), len(list2), err)
		}
		c, err := NewDecoder().LookCommunications(unsealed(again))
		if err != nil {
			t.Fatal(err)
		}
		for i := range min(len(list), 5) {
			q := Sought{Party: list[i].From, Subscriber: list[i].User, Equipment: list[i].SIM, From: list[i].Start, To: list[i].End}
			if got, err := c.Match(nil, q); err != nil || len(got) == 0 {
				t.Fatalf("row %d is not found by what is in it: %v", i, err)
			}
		}
	})
}
