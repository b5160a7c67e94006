package disclose

import (
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)

func at(d time.Duration) int64 { return noon.Add(d).UnixNano() }

func port(n uint16) *uint16 { return &n }

func TestQueryIsOneIdentifierInOneWindow(t *testing.T) {
	good := Query{Reference: "2025-1", Subscriber: "anna", From: at(-time.Hour), To: at(0)}
	tests := []struct {
		name   string
		change func(*Query)
		want   string // "" when it may be asked
	}{
		{"a subscriber", func(*Query) {}, ""},
		{"an address and port", func(q *Query) { q.Subscriber, q.Address, q.Port = "", netip.MustParseAddr("10.0.0.1"), port(5) }, ""},
		{"a remote address", func(q *Query) { q.Subscriber, q.Remote = "", netip.MustParseAddr("2001:db8::1") }, ""},
		{"a number", func(q *Query) { q.Subscriber, q.Number, q.Ask = "", "+4512345678", WantCommunications }, ""},
		{"a service number", func(q *Query) { q.Subscriber, q.Number, q.Ask = "", "112", WantCommunications }, ""},
		{"the name of a sender", func(q *Query) { q.Subscriber, q.Number, q.Ask = "", "DSB", WantCommunications }, ""},
		{"a mail address", func(q *Query) { q.Subscriber, q.Mail, q.Ask = "", "Anna@example.net", WantCommunications }, ""},
		{"an IMEI", func(q *Query) { q.Subscriber, q.Equipment, q.Ask = "", "351234567890123", WantCommunications }, ""},
		{"a subscriber's calls", func(q *Query) { q.Ask = WantCommunications }, ""},
		{"a number of a session", func(q *Query) { q.Subscriber, q.Number = "", "+4512345678" }, "found among calls and mail only"},
		{"a mail address that logged on", func(q *Query) { q.Subscriber, q.Mail, q.Ask = "", "a@b.example", WantAccess }, "found among calls and mail only"},
		{"a number and a mail address", func(q *Query) { q.Subscriber, q.Number, q.Mail, q.Ask = "", "112", "a@b.example", WantCommunications }, "more than one identifier"},
		{"a national number", func(q *Query) { q.Subscriber, q.Number, q.Ask = "", "12345678", WantCommunications }, "not in the form in which numbers are kept"},
		{"a number with spaces", func(q *Query) { q.Subscriber, q.Number, q.Ask = "", "+45 12345678", WantCommunications }, "not in the form in which numbers are kept"},
		{"a domain in capitals", func(q *Query) { q.Subscriber, q.Mail, q.Ask = "", "a@B.example", WantCommunications }, "not in the form in which addresses are kept"},
		{"a MAC address that calls", func(q *Query) { q.Subscriber, q.Equipment, q.Ask = "", theirMAC, WantCommunications }, "not an IMEI or IMSI"},
		{"an address that calls", func(q *Query) {
			q.Subscriber, q.Address, q.Ask = "", netip.MustParseAddr("10.0.0.1"), WantCommunications
		}, "not found by address"},
		{"a number's port", func(q *Query) { q.Subscriber, q.Number, q.Port, q.Ask = "", "112", port(5), WantCommunications }, "not found by address, line or port"},
		{"calls without a window", func(q *Query) { q.Ask, q.From = WantCommunications, 0 }, "the window is missing"},
		{"no reference", func(q *Query) { q.Reference = "  " }, "a reference is missing"},
		{"a reference of two lines", func(q *Query) { q.Reference = "a\nb" }, "control characters"},
		{"a reference without end", func(q *Query) { q.Reference = strings.Repeat("x", 257) }, "longer than 256 bytes"},
		{"no identifier", func(q *Query) { q.Subscriber = "" }, "no identifier is given"},
		{"two identifiers", func(q *Query) { q.Address = netip.MustParseAddr("10.0.0.1") }, "more than one identifier"},
		{"a port of a subscriber", func(q *Query) { q.Port = port(80) }, "a port says nothing about a subscriber"},
		{"no window", func(q *Query) { q.From, q.To = 0, 0 }, "the window is missing"},
		{"half a window", func(q *Query) { q.From = 0 }, "the window is missing"},
		{"an empty window", func(q *Query) { q.From = q.To }, "ends before it begins"},
		{"a window longer than anything is kept", func(q *Query) { q.From = q.To - int64(400*24*time.Hour) - 1 }, "longer than 400 days"},
		{"a window longer than numbers go", func(q *Query) { q.From = math.MinInt64 }, "longer than 400 days"},
		{"a window into the future", func(q *Query) { q.To = at(time.Nanosecond) }, "ends in the future"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			q := good
			tc.change(&q)
			err := q.Check(noon)
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrQuery) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("want %q, got %v", tc.want, err)
			}
		})
	}
}

func TestDaysAroundAWindow(t *testing.T) {
	midnight := time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	q := Query{From: midnight, To: midnight + int64(24*time.Hour)}
	first, last := q.Days()
	if first.String() != "2025-03-01" || last != first {
		t.Errorf("a window of exactly one day lies in %v to %v", first, last)
	}
	if d := q.BindingsSince(); d.String() != "2025-02-28" {
		t.Errorf("bindings are read since %v", d)
	}
}
