package main

import (
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/recorder"
)

// healthy is the status of an agent that has nothing to complain of.
func healthy() *recorder.Status {
	watched := probe.AttachStatus{Mode: "xdp", Program: 7}
	return &recorder.Status{
		Version: "1", Gateway: "gw1", Provider: "Net", State: "recording", Started: time.Unix(1, 0),
		Probe: &probe.Status{
			Uplinks: []probe.UplinkStatus{{Name: "eth0", Ifindex: 2, Up: true, Ingress: watched, Egress: probe.AttachStatus{Mode: "tcx", Program: 8}}},
			Table:   probe.TableStatus{Slots: 65536, HalfOpen: 5, HalfOpenLimit: 100, RingFull: 3, Refused: map[string]uint64{"table_full": 0}},
			Clock:   probe.ClockStatus{Synchronised: true},
		},
		Store: recorder.StoreStatus{OK: true, State: "ok"}, Ledger: recorder.LedgerStatus{OK: true},
		RADIUS: &recorder.RADIUSStatus{}, Custodians: recorder.CustodianStatus{Keys: 2, Minimum: 1},
	}
}

func printed(s *recorder.Status, costs ...probe.Cost) string {
	var b strings.Builder
	printStatus(&b, s, costs)
	return b.String()
}

func TestAHealthyAgentIsSaidToBeWellOnOneScreen(t *testing.T) {
	out := printed(healthy())
	for _, want := range []string{
		"\nverdict    all is well\n", "losing     nothing now, nor since the table was made", "half-open  5 of at most 100 (5.0 %)",
		"3 did not fit: harmless", `cost       not measured; "edgelog status --cost"`, "custodians 2 keys",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if n := strings.Count(out, "\n"); n > 24 {
		t.Errorf("%d lines are no screen\n%s", n, out)
	}
}

func TestEachTroubleStandsAtTheTop(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(*recorder.Status)
		want string
	}{
		"a direction that is not watched":  {func(s *recorder.Status) { s.Probe.Uplinks[0].Egress.Mode = "none" }, "eth0 is NOT WATCHED"},
		"packets refused just now":         {func(s *recorder.Status) { s.Lately = recorder.Lately{Seconds: 5, Refused: 12} }, "LOSING sessions now: 12 packets"},
		"a store that takes nothing":       {func(s *recorder.Status) { s.Store.OK = false }, "NOT STORING"},
		"a disk that fills up":             {func(s *recorder.Status) { s.Store.State = "low" }, "the disk is nearly full"},
		"a ledger that fails":              {func(s *recorder.Status) { s.Ledger.OK = false }, "the ledger CANNOT BE WRITTEN"},
		"a ledger that is not what it was": {func(s *recorder.Status) { s.Ledger.OK, s.Ledger.Doubt = false, "forked" }, "the ledger CANNOT BE TRUSTED"},
		"a witness that is not reached": {func(s *recorder.Status) {
			s.Ledger.Witness = []recorder.WitnessStatus{{To: "file:/mnt/w", Text: "no such file"}}
		}, "the witness file:/mnt/w is NOT REACHED"},
		"evidence that is lost":     {func(s *recorder.Status) { s.Ledger.Lost = 3 }, "3 entries lost for the ledger"},
		"a clock that nobody keeps": {func(s *recorder.Status) { s.Probe.Clock.Synchronised = false }, "the clock is NOT SYNCHRONISED"},
		"an agent that is late":     {func(s *recorder.Status) { s.Probe.Lag.WalkAge = 90 }, "the agent is late"},
		"bindings that contradict":  {func(s *recorder.Status) { s.Bindings.Book.Contradictions = 2 }, "2 contradictions between bindings"},
		"counters that do not add up": {func(s *recorder.Status) {
			s.Sums = []recorder.Sum{{Text: "sessions: started 3 = stored 2", Left: 3, Right: 2}}
		}, "counters are NOT BALANCED"},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			c.harm(s)
			lines := strings.Split(printed(s), "\n")
			if !strings.HasPrefix(lines[1], "LOOK AT    ") || !strings.Contains(lines[1], c.want) {
				t.Errorf("the second line does not say %q: %s", c.want, lines[1])
			}
			if strings.Contains(strings.Join(lines, "\n"), "all is well") {
				t.Error("and all is well")
			}
		})
	}
}

func TestASumThatDoesNotHoldIsShoutedWithTheReason(t *testing.T) {
	s := healthy()
	s.Sums = []recorder.Sum{
		{Text: "a: 5 = 3", Left: 5, Right: 3},
		{Text: "b: 5 = 3", Left: 5, Right: 3, Moving: 2},
		{Text: "c: 5 = 5", Left: 5, Right: 5},
	}
	out := printed(s)
	for _, want := range []string{"sum        a: 5 = 3: NOT BALANCED, 2 unaccounted for;", "sum        b: 5 = 3: ok, in motion\n", "sum        c: 5 = 5: ok\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

func TestWhatWasRefusedOnceIsNotCalledALossNow(t *testing.T) {
	s := healthy()
	s.Probe.Table.Refused = map[string]uint64{"table_full": 1000, "half_open": 5, "contended": 0}
	s.Probe.Table.Sampled = 2
	out := printed(s)
	if want := "losing     nothing now; packets REFUSED since the table was made: half_open 5, table_full 1000; 2 samples, 0 lost\n"; !strings.Contains(out, want) {
		t.Errorf("%q is not in\n%s", want, out)
	}
	if !strings.Contains(out, "all is well") {
		t.Error(out)
	}
}

func TestTheCostOfAPacketStandsBesideItsUplink(t *testing.T) {
	out := printed(healthy(), probe.Cost{Program: 7, Runs: 100, Time: 6 * time.Microsecond}, probe.Cost{Program: 8})
	if want := "cost       eth0: in 60 ns a packet (100), out no packet;"; !strings.Contains(out, want) {
		t.Errorf("%q is not in\n%s", want, out)
	}
}

func TestASocketsPathThatIsTooLongIsSaidSo(t *testing.T) {
	var out, errs strings.Builder
	code := run(t.Context(), []string{"edgelog", "status", "--socket", "/" + strings.Repeat("x", 150)}, &out, &errs)
	if code != 1 || !strings.Contains(errs.String(), "a socket's path has at most 107 bytes, not 151") || !strings.Contains(errs.String(), "edgelog: hint: ") {
		t.Errorf("%d %s", code, errs.String())
	}
}
