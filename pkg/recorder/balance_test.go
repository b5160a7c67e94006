package recorder

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/identity/radius"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/store"
)

// even is a status in which every sum holds, and no addend is 0.
func even() *Status {
	counter := func() probe.PacketCounter {
		return probe.PacketCounter{Seen: 12, Outcomes: map[string]uint64{"recorded": 9, "table_full": 3}}
	}
	s := &Status{
		Probe: &probe.Status{
			Uplinks: []probe.UplinkStatus{{Name: "eth0", In: counter(), Out: counter()}},
			Table: probe.TableStatus{Started: 10, Reopened: 2, Stored: 6, Open: 4, Closed: 2,
				Sampled: 7, SamplesStored: 4, SamplesWaiting: 1, SamplesLost: 2},
		},
		Sessions: SessionStatus{Collected: 9, Stored: 6, Returned: 2, Waiting: 1},
		Store:    StoreStatus{Counted: 20, AtStart: 8, Again: 1},
		Bindings: BindingStatus{Records: 5, Changed: 2, Snapshot: 2, Again: 1},
		RADIUS: &RADIUSStatus{Stats: radius.Stats{
			Received: 10, Answered: 5, Repeated: 1, Dropped: map[string]uint64{"queue-full": 3}, InFlight: 1,
		}},
		Ledger: LedgerStatus{Noted: 6, Written: 3, Waiting: 2, Lost: 1},
	}
	s.Sums = s.sums()
	return s
}

func TestEvenCountersBalance(t *testing.T) {
	s := even()
	if err := s.Balance(); err != nil || !s.Settled() {
		t.Fatal(err, s.Sums)
	}
	if len(s.Sums) != 9 {
		t.Errorf("%d sums", len(s.Sums))
	}
}

func TestOneThatIsLostAnywhereIsFoundAndTheSumNamed(t *testing.T) {
	for name, c := range map[string]struct {
		lose func(*Status)
		want string
	}{
		"a packet without an outcome":          {func(s *Status) { s.Probe.Uplinks[0].In.Outcomes["recorded"]-- }, "packets eth0 in: seen 12"},
		"a packet with two outcomes":           {func(s *Status) { s.Probe.Uplinks[0].Out.Outcomes["not_ip"]++ }, "packets eth0 out: seen 12"},
		"a session that left the table":        {func(s *Status) { s.Probe.Table.Open-- }, "sessions: started 10"},
		"a session that began twice":           {func(s *Status) { s.Probe.Table.Reopened-- }, "sessions: started 10"},
		"a sample forgotten":                   {func(s *Status) { s.Probe.Table.SamplesStored-- }, "samples: taken 7"},
		"a session lost by the writer":         {func(s *Status) { s.Sessions.Collected++ }, "writer: collected 10"},
		"a block that the store does not have": {func(s *Status) { s.Store.Counted-- }, "store: records 19"},
		"a block that nobody stored":           {func(s *Status) { s.Store.Counted++ }, "store: records 21"},
		"an access record never sealed":        {func(s *Status) { s.Bindings.Changed++ }, "access records: sealed 5"},
		"an accounting request forgotten":      {func(s *Status) { s.RADIUS.Answered-- }, "accounting: received 10"},
		"a ledger entry forgotten":             {func(s *Status) { s.Ledger.Written-- }, "ledger: noted 6"},
	} {
		t.Run(name, func(t *testing.T) {
			s := even()
			c.lose(s)
			s.Sums = s.sums()
			err := s.Balance()
			if !errors.Is(err, ErrNotBalanced) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v does not name %q", err, c.want)
			}
			if n := strings.Count(err.Error(), "unaccounted for") + strings.Count(err.Error(), "too many"); n != 1 {
				t.Errorf("one fault is said %d times: %v", n, err)
			}
		})
	}
}

func TestWhatMovesWhileItIsCountedIsNoFault(t *testing.T) {
	s := even()
	s.Probe.Uplinks[0].In.Seen, s.Probe.Uplinks[0].In.Moving = 15, 3
	s.Probe.Table.Started, s.Probe.Table.Moving = 11, 2
	s.Sums = s.sums()
	if err := s.Balance(); err != nil || s.Settled() {
		t.Errorf("%v, settled %v", err, s.Settled())
	}
	s.Probe.Uplinks[0].In.Seen++
	s.Sums = s.sums()
	if err := s.Balance(); !errors.Is(err, ErrNotBalanced) {
		t.Errorf("more is missing than moved: %v", err)
	}
}

func TestCountersOfOthersAreReadAgainWhenTheyAreNotEven(t *testing.T) {
	readings := []radius.Stats{
		{Received: 10, Answered: 7, InFlight: 2},
		{Received: 12, Answered: 9, InFlight: 1},
		{Received: 15, Answered: 14, InFlight: 1},
	}
	n := 0
	s := steadyStats(func() radius.Stats { n++; return readings[n-1] })
	if n != 3 || s.Received != 12 || s.Moving != 5+7+inTheirHands {
		t.Errorf("%d readings, %+v", n, s)
	}
	n = 2
	s = steadyStats(func() radius.Stats { n++; return readings[n-1] })
	if n != 3 || s.Moving != 0 || !reflect.DeepEqual(s.Stats, readings[2]) {
		t.Errorf("%d readings, %+v", n, s)
	}
}

// balanced has the room's agent say what it counted, and all of it add up.
func (r *room) balanced(where string) *Status {
	r.t.Helper()
	if err := r.sessions.settle(); err != nil {
		r.t.Errorf("%s: %v", where, err)
	}
	r.publish()
	s := r.Status()
	if err := s.Balance(); err != nil {
		r.t.Errorf("%s: %v", where, err)
	}
	if !s.Settled() {
		r.t.Errorf("%s: nothing moves, and yet %+v", where, s.Sums)
	}
	return s
}

func TestTheAgentsOwnCountersAddUpThroughFailures(t *testing.T) {
	r := newRoom(t, "")
	f := &faulty{Store: r.store}
	r.sessions.shelf.store = f
	r.balanced("at the start")
	r.logOn("anna", "10.0.0.1", evening.Add(-time.Hour))
	r.table.add(seen(2500, evening)...)
	if _, err := r.sessions.step(false); err != nil {
		t.Fatal(err)
	}
	if s := r.balanced("while some are still to come"); s.Sessions.Stored == 0 || s.Sessions.Stored == 2500 {
		t.Errorf("stored %d", s.Sessions.Stored)
	}
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	if s := r.balanced("stored"); s.Sessions.Stored != 2500 || s.Bindings.Snapshot == 0 {
		t.Errorf("%+v %+v", s.Sessions, s.Bindings)
	}
	f.err = store.ErrNoSpace
	r.table.add(seen(10, evening.Add(time.Second))...)
	r.logOn("bent", "10.0.0.2", evening)
	if err := r.step(); !errors.Is(err, store.ErrNoSpace) {
		t.Fatal(err)
	}
	if s := r.balanced("on a full disk"); s.Sessions.Returned == 0 {
		t.Errorf("%+v", s.Sessions)
	}
	f.err = nil
	r.clock.add(time.Minute)
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	r.balanced("with room again")
	r.table.add(seen(1, evening)...)
	if _, err := r.sessions.step(false); err != nil {
		t.Fatal(err)
	}
	if s := r.balanced("with one that waits"); s.Sessions.Waiting != 1 {
		t.Errorf("%+v", s.Sessions)
	}
	r.shut()
	r.open()
	if err := r.Status().Balance(); err != nil {
		t.Errorf("before the agent has done anything: %v", err)
	}
	if s := r.balanced("started again"); s.Store.AtStart < 2510 {
		t.Errorf("%+v", s.Store)
	}
}

// halfway stores some of what it is given at once, and fails with the rest.
type halfway struct {
	*store.Store
	puts, failFrom int
}

func (h *halfway) Put(b ...store.Sealed) error {
	if h.puts++; h.puts >= h.failFrom {
		return store.ErrNoSpace
	}
	return h.Store.Put(b...)
}

func TestALoadThatFailsInTheMiddleIsCountedAsStoredAgain(t *testing.T) {
	r := newRoom(t, "")
	l := r.sessions.shelf.load(nil)
	for range 2 {
		if err := l.sessions(r.header(), 20000, seen(300, evening)); err != nil {
			t.Fatal(err)
		}
	}
	h := &halfway{Store: r.store, failFrom: 2}
	l.f.store = h
	l.blocks[1] = append(l.blocks[1], make([]byte, store.MaxPut)...) // too large for one go
	done, err := l.put()
	if !errors.Is(err, store.ErrNoSpace) {
		t.Fatal(err)
	}
	r.sessions.shelf.again += done
	if s := r.balanced("after half a load"); s.Store.Again != 300 {
		t.Errorf("%+v", s.Store)
	}
}

func TestEntriesThatTheLedgerDoesNotTakeAreCounted(t *testing.T) {
	r := newRoom(t, "")
	broken := &brokenLedger{Ledger: r.ledger, err: errors.New("no")}
	r.evidence.ledger = broken
	for range maxOwed + 7 {
		r.evidence.note(ledger.Gap, nil)
	}
	if s := r.balanced("with a ledger that fails"); s.Ledger.Waiting != maxOwed || s.Ledger.Lost != 7 || s.Ledger.OK {
		t.Errorf("%+v", s.Ledger)
	}
	broken.err = nil
	r.clock.add(lastRetry)
	r.evidence.step()
	if s := r.balanced("with a ledger that works again"); s.Ledger.Written != maxOwed || s.Ledger.Lost != 7 || s.Ledger.Waiting != 0 {
		t.Errorf("%+v", s.Ledger)
	}
}
