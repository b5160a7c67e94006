package day

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

func TestTheSameSeedMakesTheSameDayHoweverItIsCut(t *testing.T) {
	a := New(Options{Seed: 7}).Append(nil, 4096)
	s := New(Options{Seed: 7})
	b := s.Append(s.Append(nil, 1), 4095)
	if !reflect.DeepEqual(a, b) {
		t.Error("two streams of one seed differ")
	}
	if reflect.DeepEqual(a, New(Options{Seed: 8}).Append(nil, 4096)) {
		t.Error("another seed makes the same sessions")
	}
}

func TestADayHasTheSessionsAndTheHoursThatItSays(t *testing.T) {
	s := New(Options{Subscribers: 1000, Seed: 1})
	begin := s.Now()
	var hours [24]float64
	total := 0.0
	var list []session.Session
	for s.Now() < begin+int64(24*time.Hour) {
		before := s.Now()
		list = s.Append(list[:0], 256)
		hours[time.Unix(0, before).UTC().Hour()] += float64(len(list))
		total += float64(len(list))
	}
	if want := 1000.0 * 60 * 24; math.Abs(total/want-1) > 0.01 {
		t.Errorf("the day has %.0f sessions, want %.0f", total, want)
	}
	if got := hours[20] * 24 / total; math.Abs(got/BusyHour()-1) > 0.03 {
		t.Errorf("the busy hour has %.3f times the mean, want %.3f", got, BusyHour())
	}
}

func TestSessionsAreHeardOfInOrderAndAreWhole(t *testing.T) {
	s := New(Options{Seed: 3})
	heard := s.Now()
	shares, six, shared := map[string]int{}, 0, 0
	const n = 200_000
	for range n {
		x := s.Append(nil, 1)[0]
		if s.Now() < heard || x.Start > x.End || x.End > s.Now() {
			t.Fatalf("heard at %d after %d: %+v", s.Now(), heard, x)
		}
		heard = s.Now()
		a, port, ok := x.LocalEnd()
		if !ok || x.Initiator.Is4() != x.Responder.Is4() || session.HasPorts(x.Proto) != (port != 0) || x.EndReason == session.EndUnknown {
			t.Fatalf("%+v", x)
		}
		if x.Inside != (session.Addr{}) {
			shared++
		} else if x.Subscriber == "" && x.Local != session.SideResponder {
			t.Fatalf("nobody's: %+v", x)
		}
		if !a.Is4() {
			six++
		}
		if x.ResponderPort == 53 {
			shares["dns"]++
		}
		if x.EndReason == session.EndHalfOpen {
			shares["half-open"]++
		}
	}
	for _, c := range []struct {
		name      string
		got, want float64 // of all
	}{
		{"DNS", float64(shares["dns"]), 0.34}, {"half-open TCP", float64(shares["half-open"]), 0.0575},
		{"IPv6", float64(six), 0.93 * 0.6 * 0.55}, {"behind a translator", float64(shared), 0.2 * 0.66},
	} {
		if got := c.got / n; math.Abs(got/c.want-1) > 0.15 {
			t.Errorf("%s: %.4f of all, want %.4f", c.name, got, c.want)
		}
	}
}

func BenchmarkStream(b *testing.B) {
	s := New(Options{Seed: 1})
	list := make([]session.Session, 0, 65536)
	n := 0
	for b.Loop() {
		list = s.Append(list[:0], 65536)
		n += len(list)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds()/1e6, "Msessions/s")
}
