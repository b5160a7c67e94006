package radius

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	codec "layeh.com/radius"

	"github.com/edgelog/edgelog/pkg/identity"
)

func importText(t testing.TB, book Book, text string) (*Server, Imported, error) {
	t.Helper()
	s, err := New(book, nil, Options{Clock: func() time.Time { return arrival }})
	if err != nil {
		t.Fatal(err)
	}
	im, err := s.Import(context.Background(), strings.NewReader(text))
	if im.Entries != im.Taken+im.Ignored+im.Broken && err == nil {
		t.Errorf("the counters do not add up: %+v", im)
	}
	return s, im, err
}

// someDetail is an entry as FreeRADIUS 3.2 writes it.
func someDetail(more string) string {
	return fmt.Sprintf("Mon Jun  1 12:00:00 2026\n\tUser-Name = \"anna\"\n\tAcct-Status-Type = Start\n\tAcct-Session-Id = \"a\"\n\tNAS-Identifier = \"bng\"\n"+
		"\tFramed-IP-Address = 192.0.2.1\n\tClass = 0x00ff\n\tTunnel-Type:0 = L2TP\n%s\tEvent-Timestamp = \"Jun  1 2026 11:59:58 UTC\"\n\tAcct-Unique-Session-Id = \"0123456789abcdef\"\n\tTimestamp = %d\n\n",
		more, arrival.Unix())
}

func TestAnEntrySaysWhatItsPacketSaid(t *testing.T) {
	book := &testBook{}
	_, im, err := importText(t, book, someDetail("\tCalling-Station-Id = \"tab\\there \\\"and\\\" \\303\\246\"\n"+
		"\tFramed-IPv6-Prefix = 2001:db8:1:2::/64\n\tFramed-Interface-Id = 0:0:0:5\n\tDelegated-IPv6-Prefix = 2001:db8:ff00::/56\n"+
		"\tADSL-Agent-Circuit-Id = \"dslam\"\n\tAttr-26.3561.2 = 0xcafe\n\tNAS-IP-Address += 10.0.0.1\n\tAcct-Delay-Time := 3\n"+
		"\tIP-Port-Range-Ext-IPv4-Addr = 203.0.113.7\n\tIP-Port-Range-Range-Start = 1024\n\tIP-Port-Range-Range-End = 2047\n"+
		"\tIP-Port-Range-Ext-IPv4-Addr = 203.0.113.7\n\tIP-Port-Range-Range-Start = 4096\n\tIP-Port-Range-Range-End = 5119\n"))
	if err != nil || im.Taken != 1 {
		t.Fatalf("%+v %v", im, err)
	}
	e := book.got()[0]
	var leases []string
	for _, l := range e.Leases {
		leases = append(leases, fmt.Sprintf("%s/%d-%d", l.Prefix, l.FirstPort, l.LastPort))
	}
	if e.At != arrival.Truncate(time.Second).Add(-2*time.Second).UnixNano() || e.NAS != "bng@10.0.0.1" || e.Line != "0x74616209686572652022616e642220c3a6; dslam; 0xcafe" {
		t.Errorf("%+v", e)
	}
	if got := strings.Join(leases, " "); got != "192.0.2.1/32/0-0 2001:db8:1:2::/64/0-0 2001:db8:1:2::5/128/0-0 2001:db8:ff00::/56/0-0 203.0.113.7/32/1024-2047 203.0.113.7/32/4096-5119" {
		t.Error(got)
	}
}

func TestFilesThatCannotBeReadWholly(t *testing.T) {
	good := someDetail("")
	for _, c := range []struct {
		name, text     string
		taken, ignored uint64
		problems       []string
		foreign        bool
	}{
		{"empty", "", 0, 0, nil, false},
		{"two entries, with the line ends of another system", strings.ReplaceAll(good+good, "\n", "\r\n"), 2, 0, nil, false},
		{"no empty line between and after", strings.TrimSpace(good) + "\n" + strings.TrimSpace(good), 2, 0, nil, false},
		{"an access request", "Mon\n\tPacket-Type = Access-Request\n\tUser-Name = \"anna\"\n\tTimestamp = 5\n\n" + good, 1, 1, nil, false},
		{"another status", strings.Replace(good, "= Start", "= Tunnel-Start", 1), 0, 1, nil, false},
		{"cut at its end", good + good[:strings.Index(good, "\tEvent")], 1, 0, []string{"line 13: it has no Timestamp: it was not written to its end"}, false},
		{"cut at its begin", good[30:] + good, 1, 0, []string{"line 1: its beginning is missing"}, false},
		{"a line that is no attribute", strings.Replace(good, "\tClass", "\tgarbage\n\tClass", 1) + good, 1, 0, []string{"line 7: it is not \"Name = value\""}, false},
		{"a quote without end", good + strings.Replace(good, `"anna"`, `"anna`, 1), 1, 0, []string{"line 14: attribute User-Name: a quoted value has no end"}, false},
		{"an address that is none", good + strings.Replace(good, "192.0.2.1", "192.0.2", 1), 1, 0, []string{"line 18: attribute Framed-IP-Address"}, false},
		{"without a session", strings.ReplaceAll(good, "-Session-Id", "-Nothing"), 0, 0, []string{"line 1: no-acct-session-id"}, false},
		{"without an access server", strings.Replace(good, "NAS-Identifier", "Nothing", 1), 0, 0, []string{"line 1: it names no access server"}, false},
		{"too old to be kept", strings.Replace(good, fmt.Sprint(arrival.Unix()), "1000000000", 1), 0, 0, []string{"line 1: it was received in the future, or longer ago"}, false},
		{"a line of a mebibyte", good + "Mon\n\tUser-Name = \"" + strings.Repeat("x", 1<<20) + "\"\n\n" + good, 2, 0, []string{"line 14: a line is longer"}, false},
		{"leases of a DHCP server", "lease 192.0.2.1 {\n  starts 4 2026/06/01 10:00:00;\n  hardware ethernet 00:11:22:33:44:55;\n}\n", 0, 0, nil, true},
		{"a configuration", "[radius]\n  listen = \"x\"\n\n[store]\n  a = 1\n", 0, 0, nil, true},
		{"text", strings.Repeat("some text\n", 20), 0, 0, nil, true},
		{"compressed", "\x1f\x8b\x08\x00", 0, 0, nil, true},
		{"binary", string(bytes.Repeat([]byte{0, 1, 2, '\n'}, 100)), 0, 0, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			book := &testBook{}
			_, im, err := importText(t, book, c.text)
			if errors.Is(err, ErrNotDetail) != c.foreign || (err != nil) != c.foreign {
				t.Fatalf("%+v: %v", im, err)
			}
			if im.Taken != c.taken || im.Ignored != c.ignored || len(im.Problems) != len(c.problems) || uint64(len(book.got())) != c.taken {
				t.Fatalf("%+v", im)
			}
			for i, p := range c.problems {
				if !strings.HasPrefix(im.Problems[i], p) {
					t.Errorf("%q, want %q", im.Problems[i], p)
				}
			}
		})
	}
}

func TestTimesInDetailFiles(t *testing.T) {
	for text, want := range map[string]int64{
		"Jun  1 2026 12:00:00 UTC": 1780315200, "Jun  1 2026 14:00:00 CEST": 1780315200, "1780315200": 1780315200,
		"Jun  1 2026 12:00:00 XST": -1, "Jun 31 2026 12:00:00 UTC": -2, "yesterday": -2,
	} {
		b, err := date(text)
		got := int64(-1)
		switch {
		case err != nil:
			got = -2
		case b != nil:
			got = int64(bigEndian(b))
		}
		if got != want {
			t.Errorf("%q is %d, want %d", text, got, want)
		}
	}
}

func TestImportedAgainOrHeardBeforeItIsOneBinding(t *testing.T) {
	book := openBook(t)
	s := serve(t, book, Options{})
	nas := dial(t, s)
	nas.send(packet(t, codec.CodeAccountingRequest, 1, secret, append(startAttrs("a"), num(55, uint32(arrival.Unix())-2))...))
	nas.receive()
	for range 2 {
		if _, im, err := importText(t, book, someDetail("")); err != nil || im.Taken != 1 {
			t.Fatalf("%+v %v", im, err)
		}
	}
	// Without a time of its own the seconds of receipt differ a little.
	if _, _, err := importText(t, book, strings.Replace(someDetail(""), "Event-Timestamp", "Nothing", 1)); err != nil {
		t.Fatal(err)
	}
	if list := book.AllOn(addrOf("192.0.2.1"), 0, 0, 0, arrival.Add(time.Hour).UnixNano()); len(list) != 1 {
		t.Errorf("%+v", list)
	}
}

func TestAnImportThatCannotBeStoredSaysSo(t *testing.T) {
	book := &testBook{fail: 1}
	_, im, err := importText(t, book, someDetail(""))
	if !errors.Is(err, errDisk) || im.Taken != 0 {
		t.Errorf("%+v %v", im, err)
	}
}

func FuzzDetail(f *testing.F) {
	f.Add(someDetail("\tCalling-Station-Id = \"\\303\\246\"\n") + someDetail("\tgarbage\n"))
	f.Add("\n\n\tAttr-241.6.3 = 0xcb007107\n\tAttr-26.2011.161 = 0x01\n\tTimestamp = 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		d := newDetail(strings.NewReader(text))
		for n := 0; ; n++ {
			_, err := d.next()
			if errors.Is(err, io.EOF) || errors.Is(err, ErrNotDetail) {
				break
			}
			if err != nil || n > len(text) {
				t.Fatalf("after %d entries: %v", n, err)
			}
		}
		s, err := New(valid{t}, nil, Options{Clock: func() time.Time { return arrival }})
		if err != nil {
			t.Fatal(err)
		}
		im, err := s.Import(context.Background(), strings.NewReader(text))
		if err == nil && im.Entries != im.Taken+im.Ignored+im.Broken {
			t.Fatalf("%+v", im)
		}
	})
}

// valid is a book that takes whatever is valid.
type valid struct{ t *testing.T }

func (v valid) Apply(_ context.Context, events []identity.Event) error {
	for i := range events {
		if err := events[i].Validate(); err != nil {
			v.t.Fatal(err)
		}
	}
	return nil
}
