package radius

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func troubled(t *testing.T) (*Server, *[]string) {
	t.Helper()
	var said []string
	s, err := New(nil, []Client{{Name: "bng", Prefix: netip.MustParsePrefix("10.0.0.0/8"), Secret: []byte("s")}},
		Options{Trouble: func(text string) { said = append(said, text) }})
	if err != nil {
		t.Fatal(err)
	}
	return s, &said
}

func TestWhatNeedsAnOperatorIsSaidOnceAMinuteWithItsRemedy(t *testing.T) {
	s, said := troubled(t)
	now := time.Unix(1_700_000_000, 0)
	stranger := netip.MustParseAddr("192.0.2.7")
	for range 100 {
		s.unknownClient(now, stranger)
		s.wrongSecret(now, s.client(netip.MustParseAddr("10.1.1.1")))
	}
	if len(*said) != 2 || !strings.Contains((*said)[0], "192.0.2.7 is dropped: no [[radius.client]]") || !strings.Contains((*said)[1], "client bng is dropped") {
		t.Errorf("%q", *said)
	}
	s.unknownClient(now.Add(troublePause), stranger)
	if len(*said) != 3 {
		t.Errorf("not said again after a minute: %q", *said)
	}
}

func TestManyStrangersDoNotFillTheMemory(t *testing.T) {
	s, said := troubled(t)
	now := time.Unix(1_700_000_000, 0)
	for i := range 10 * troubleKinds {
		s.unknownClient(now, netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}))
	}
	if len(*said) != troubleKinds || len(s.troubles.said) != troubleKinds {
		t.Errorf("%d said, %d remembered", len(*said), len(s.troubles.said))
	}
	s.unknownClient(now.Add(2*troublePause), netip.MustParseAddr("203.0.113.1"))
	if len(*said) != troubleKinds+1 || len(s.troubles.said) != 1 {
		t.Errorf("%d said, %d remembered later", len(*said), len(s.troubles.said))
	}
}

func TestAClockIsJudgedByTheRequestThatCameFastest(t *testing.T) {
	for name, c := range map[string]struct {
		lag  func(i int) time.Duration
		want string
	}{
		"right, though most requests waited": {func(i int) time.Duration { return time.Duration(i) * time.Minute }, ""},
		"behind":                             {func(i int) time.Duration { return 100*time.Second + time.Duration(i)*time.Second }, "100 s behind"},
		"ahead":                              {func(i int) time.Duration { return time.Duration(i)*time.Second - 40*time.Second }, "40 s ahead"},
	} {
		t.Run(name, func(t *testing.T) {
			s, said := troubled(t)
			for i := range clockWindow {
				s.judgeClock(time.Unix(1_700_000_000, 0), s.client(netip.MustParseAddr("10.1.1.1")), c.lag(i))
			}
			switch {
			case c.want == "" && len(*said) != 0, c.want != "" && (len(*said) != 1 || !strings.Contains((*said)[0], c.want)):
				t.Errorf("%q", *said)
			}
			if off := s.Stats().Clients[0].ClockBehind; (off == 0) != (c.want == "") {
				t.Errorf("status says %d", off)
			}
		})
	}
}
