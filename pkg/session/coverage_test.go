package session

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// second is one second of the model that timelines are compared with.
type second struct {
	state   Cover
	reasons CoverReasons
}

// The model's seconds lie around a full hour.
const (
	modelSeconds = 60
	modelStart   = hour - 30
)

type model [modelSeconds]second

func (m *model) add(s Span) {
	for i := s.From - modelStart; i < s.To-modelStart; i++ {
		if m[i].state == CoverUnknown && s.State == CoverUnknown {
			continue
		}
		m[i].state = max(m[i].state, s.State)
		m[i].reasons |= s.Reasons
	}
}

func (t Timeline) model() (m model, refused, sampled uint64) {
	for _, s := range t {
		for i := s.From; i < s.To; i++ {
			m[i-modelStart] = second{s.State, s.Reasons}
		}
		refused += s.Refused
		sampled += s.Sampled
	}
	return m, refused, sampled
}

// inOrder fails unless t keeps the promises of its type.
func inOrder(t *testing.T, line Timeline) {
	t.Helper()
	for i, s := range line {
		if s.From >= s.To || s.State == CoverUnknown {
			t.Fatalf("span %d is empty or unknown: %+v", i, line)
		}
		if i > 0 && (line[i-1].To > s.From || joins(&line[i-1], &s)) {
			t.Fatalf("span %d overlaps or repeats the one before: %+v", i, line)
		}
	}
}

func randomSpan(r *rand.Rand) Span {
	from := r.Int64N(modelSeconds)
	s := Span{Uplink: "u", From: modelStart + from, To: modelStart + from + r.Int64N(modelSeconds-from+1), State: Cover(r.IntN(4)), Reasons: CoverReasons(r.IntN(4))}
	if s.State > CoverComplete {
		s.Refused, s.Sampled = r.Uint64N(9), r.Uint64N(3)
	}
	return s
}

func TestATimelineSaysTheSameAsAnArrayOfSeconds(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		var line Timeline
		var want model
		var refused, sampled uint64
		for range 1 + r.IntN(12) {
			s := randomSpan(r)
			before := slices.Clone(line)
			next := line.Add(s)
			if d := cmp.Diff(before, line); d != "" {
				t.Fatalf("seed %d: Add changed what it was called on: %s", seed, d)
			}
			line = next
			want.add(s)
			if s.From < s.To {
				refused, sampled = refused+s.Refused, sampled+s.Sampled
			}
			inOrder(t, line)
			got, gotRefused, gotSampled := line.model()
			if got != want || gotRefused != refused || gotSampled != sampled {
				t.Fatalf("seed %d: after %+v: %+v, counts %d/%d want %d/%d", seed, s, line, gotRefused, gotSampled, refused, sampled)
			}
		}
		at := r.Int64N(modelSeconds + 1)
		a, b := line.Split(modelStart + at)
		inOrder(t, a)
		inOrder(t, b)
		ma, ra, sa := a.model()
		mb, rb, sb := b.model()
		for i := range want {
			part, other := ma[i], mb[i]
			if int64(i) >= at {
				part, other = other, part
			}
			if part != want[i] || other != (second{}) {
				t.Fatalf("seed %d: split at %d: second %d is %v and %v", seed, at, i, part, other)
			}
		}
		if ra+rb != refused || sa+sb != sampled {
			t.Fatalf("seed %d: a split lost counts", seed)
		}
		if joined := Timelines(append(slices.Clone(b), a...)); len(line) > 0 && cmp.Diff([]Timeline{line}, joined) != "" {
			t.Fatalf("seed %d: what was split is not what it was: %s", seed, cmp.Diff([]Timeline{line}, joined))
		}
	}
}

func TestAWindowIsWholeAndWhatIsNotKnownIsUnknown(t *testing.T) {
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 2))
		var line Timeline
		var want model
		for range r.IntN(6) {
			s := randomSpan(r)
			line = line.Add(s)
			want.add(s)
		}
		from := modelStart + r.Int64N(modelSeconds)
		to := from + r.Int64N(modelStart+modelSeconds-from+1)
		at := from
		spans := line.Filled("u", from, to)
		for _, s := range spans {
			if s.From != at {
				t.Fatalf("seed %d: a hole before %+v", seed, s)
			}
			for ; at < s.To; at++ {
				if want[at-modelStart] != (second{s.State, s.Reasons}) {
					t.Fatalf("seed %d: second %d is %+v, not %+v", seed, at, s, want[at-modelStart])
				}
			}
		}
		if at != to {
			t.Fatalf("seed %d: the window ends at %d, not %d", seed, at, to)
		}
		total := Sum("u", spans)
		if total.Seconds != to-from || total.Complete+total.Sampled+total.Missing+total.Unknown != total.Seconds {
			t.Fatalf("seed %d: %+v", seed, total)
		}
	}
}

func TestBeforeTheFirstRecordNothingIsComplete(t *testing.T) {
	r := Report("gw", 100, 200, 0, nil)
	if r.Plain() || r.Totals[0].Unknown != 100 || r.Totals[0].Complete != 0 {
		t.Errorf("%+v", r)
	}
	r = Report("gw", 100, 200, 180, map[string]Timeline{"eth0": {{Uplink: "eth0", From: 150, To: 180, State: CoverComplete}}})
	if r.Plain() || r.Totals[0].Unknown != 50 || r.Totals[0].Complete != 30 || r.Totals[0].Seconds != 80 {
		t.Errorf("%+v", r)
	}
	if r = Report("gw", 160, 200, 180, map[string]Timeline{"eth0": {{Uplink: "eth0", From: 150, To: 180, State: CoverComplete}}}); !r.Plain() {
		t.Errorf("%+v", r)
	}
}

func TestACutSpanSaysThatItsCountsAreOfMore(t *testing.T) {
	line := Timeline{{Uplink: "u", From: 0, To: 10, State: CoverMissing, Reasons: TableFull, Refused: 7}}
	if w := line.Window(0, 10); w[0].Cut {
		t.Error("it is whole")
	}
	if w := line.Window(5, 10); !w[0].Cut || w[0].Refused != 7 || w[0].From != 5 {
		t.Errorf("%+v", w)
	}
	if w := (Timeline{{From: 0, To: 10, State: CoverComplete}}).Window(5, 10); w[0].Cut {
		t.Error("there is nothing to count")
	}
}

func TestALongGapIsKeptByTheHourAndShownAsOne(t *testing.T) {
	line := Timeline(nil).Add(Span{Uplink: "u", From: 1800, To: 4*hour + 1, State: CoverMissing, Reasons: TableFull, Refused: 9})
	if len(line) != 5 || line[0].Refused != 9 || line[1].Refused != 0 || line[4].To != 4*hour+1 {
		t.Errorf("%+v", line)
	}
	want := []Span{{Uplink: "u", From: 1800, To: 4*hour + 1, State: CoverMissing, Reasons: TableFull, Refused: 9}}
	if d := cmp.Diff(want, Together(line)); d != "" {
		t.Error(d)
	}
}

func TestEveryReasonHasANameAndAText(t *testing.T) {
	if len(coverNames) != len(coverReasons) {
		t.Fatalf("%d names, %d texts", len(coverNames), len(coverReasons))
	}
	for i := range 32 {
		r := CoverReasons(1) << i
		back, err := ParseReasons(r.Names())
		if err != nil || back != r || len(r.Words()) != 1 {
			t.Errorf("reason %d: %v, %v, %v", i, r.Names(), back, err)
		}
	}
	if _, err := ParseReasons([]string{"boredom"}); err == nil {
		t.Error("any reason will do")
	}
	// The numbers are on disks: these may never change.
	if TableFull != 1 || TableLost != 1<<9 || AttachUnsure != 1<<16 || CoverMissing != 3 {
		t.Error("a number was changed")
	}
}

func TestASpanReadsBackFromJSON(t *testing.T) {
	want := Span{Uplink: "eth0", From: 1763720000, To: 1763720007, State: CoverSampled, Reasons: TableFull | ClockUnsynced, Refused: 12, Sampled: 3, Cut: true}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Span
	if err := json.Unmarshal(b, &got); err != nil || got != want {
		t.Errorf("%s: %+v, %v", b, got, err)
	}
	for _, bad := range []string{`{"state":"fine"}`, `{"state":"complete","reasons":["boredom"]}`, `7`} {
		if json.Unmarshal([]byte(bad), &got) == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestOnlyWhatIsWholeIsAHundredPercent(t *testing.T) {
	total := CoverTotal{Seconds: 86400, Complete: 86399}
	if s := total.Share(total.Complete); s >= 100 || s != 99.99 {
		t.Errorf("%v", s)
	}
	if s := total.Share(86400); s != 100 {
		t.Errorf("%v", s)
	}
}
