package radius

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	codec "layeh.com/radius"

	"github.com/edgelog/edgelog/pkg/identity"
)

// range8045 is an IP-Port-Range.
func range8045(public string, first, last, alloc int) string {
	s := "IP-Port-Range-Ext-IPv4-Addr = " + public + "\nIP-Port-Range-Int-IPv4-Addr = 100.64.0.9\nIP-Port-Range-Local-Id = \"cpe 1\"\n" +
		fmt.Sprintf("IP-Port-Range-Range-Start = %d\nIP-Port-Range-Range-End = %d\n", first, last)
	if alloc != 0 {
		s += fmt.Sprintf("IP-Port-Range-Alloc = %d\n", alloc)
	}
	return s
}

func portName(b *identity.Book, addr string, port uint16, when time.Time) string {
	x, ok := b.At(addrOf(addr), port, when.UnixNano())
	if !ok {
		return "nobody"
	}
	return x.Subscriber()
}

// The life of blocks of one shared address, told by the real radclient.
func TestBlocksOfPortsThroughRadclientIntoTheBook(t *testing.T) {
	book := openBook(t)
	s := serve(t, book, Options{})
	begin := arrival.Add(-time.Hour).Truncate(time.Second)
	minute := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Minute) }
	say := func(status string, n int, who, more string) {
		t.Helper()
		out, err := radclient(t, s, "acct", secret, fmt.Sprintf("Acct-Status-Type = %s\nNAS-Identifier = bng\nEvent-Timestamp = %d\nUser-Name = %s\nAcct-Session-Id = %s-1\n%s",
			status, minute(n).Unix(), who, who, more), once...)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	const pub = "203.0.113.7"
	say("Start", 1, "anna", range8045(pub, 1024, 2047, 1))
	say("Start", 1, "bo", range8045(pub, 2048, 3071, 1))
	say("Start", 1, "cy", range8045(pub, 4096, 5119, 0)) // a report of the whole
	say("Interim-Update", 5, "anna", range8045(pub, 8192, 9215, 1))
	say("Interim-Update", 6, "cy", range8045(pub, 5120, 6143, 0)) // instead of the one before
	say("Interim-Update", 10, "anna", range8045(pub, 1024, 2047, 2))
	say("Stop", 20, "anna", "")
	say("Start", 12, "dan", range8045(pub, 1024, 2047, 1))
	say("Interim-Update", 15, "anna", range8045(pub, 10240, 11263, 1)) // late: the session has ended
	for _, c := range []struct {
		port   uint16
		minute int
		want   string
	}{
		{1024, 2, "anna"}, {2047, 9, "anna"}, {2048, 2, "bo"}, {3072, 2, "nobody"}, {1023, 2, "nobody"},
		{8192, 4, "nobody"}, {8192, 6, "anna"}, {8192, 19, "anna"}, {8192, 21, "nobody"},
		{1024, 11, "nobody"}, {1024, 13, "dan"}, {4096, 2, "cy"}, {4096, 7, "nobody"}, {5120, 7, "cy"},
		{10240, 16, "anna"}, {10240, 21, "nobody"}, {2048, 50, "bo"},
	} {
		if got := portName(book, pub, c.port, minute(c.minute)); got != c.want {
			t.Errorf("port %d in minute %d was %s's, want %s", c.port, c.minute, got, c.want)
		}
	}
	say("Accounting-On", 40, "nobody", "")
	if n := len(book.InForce()); n != 0 {
		t.Errorf("%d in force after accounting-on", n)
	}
}

func TestBlocksStillEndWithTheirSessionAfterARestart(t *testing.T) {
	book := openBook(t)
	s := serve(t, book, Options{})
	if out, err := radclient(t, s, "acct", secret, "Acct-Status-Type = Start\nNAS-Identifier = a/b\nUser-Name = anna\nAcct-Session-Id = x/y\n"+range8045("203.0.113.7", 1024, 2047, 1), once...); err != nil {
		t.Fatal(out)
	}
	s.stop()
	s = serve(t, book, Options{})
	if out, err := radclient(t, s, "acct", secret, "Acct-Status-Type = Stop\nNAS-Identifier = a/b\nAcct-Session-Id = x/y\n", once...); err != nil {
		t.Fatal(out)
	}
	if n := len(book.InForce()); n != 0 {
		t.Errorf("%d in force", n)
	}
}

// vendorCases are what radclient sends, by the names of FreeRADIUS's
// dictionaries, and how it is to be understood.
var vendorCases = []struct {
	name, attrs string
	block       PortBlock
	want        string
}{
	{"Nokia", "Alc-Nat-Outside-Ip-Addr = 203.0.113.7\nAlc-Nat-Port-Range = \"203.0.113.7 1024-2047 router base\"", PortBlock{Vendor: 6527, Address: 141, Range: 121}, "203.0.113.7 1024-2047"},
	{"Nokia without the address of its own", "Alc-Nat-Port-Range = \"203.0.113.7 1024..2047\"", PortBlock{Vendor: 6527, Address: 141, Range: 121}, "203.0.113.7 1024-2047"},
	{"Nokia, the address apart", "Alc-Nat-Outside-Ip-Addr = 203.0.113.7\nAlc-Nat-Port-Range = \"1024-2047\"", PortBlock{Vendor: 6527, Address: 141, Range: 121}, "203.0.113.7 1024-2047"},
	{"Huawei", "Huawei-NAT-Public-Address = 203.0.113.7\nHuawei-NAT-Start-Port = 1024\nHuawei-NAT-End-Port = 2047", PortBlock{Vendor: 2011, Address: 161, Start: 162, End: 163}, "203.0.113.7 1024-2047"},
	{"Huawei, two blocks of one address", "Huawei-NAT-Public-Address = 203.0.113.7\nHuawei-NAT-Start-Port = 1024\nHuawei-NAT-End-Port = 2047\nHuawei-NAT-Start-Port = 4096\nHuawei-NAT-End-Port = 5119", PortBlock{Vendor: 2011, Address: 161, Start: 162, End: 163}, "203.0.113.7 1024-2047, 203.0.113.7 4096-5119"},
	{"H3C", "H3C-NAT-IP-Address = 203.0.113.7\nH3C-NAT-Start-Port = 1024\nH3C-NAT-End-Port = 2047", PortBlock{Vendor: 25506, Address: 32, Start: 33, End: 34}, "203.0.113.7 1024-2047"},
	{"netElastic", "NetElastic-NAT-Public-Address = 203.0.113.7\nNetElastic-NAT-Start-Port = 1024\nNetElastic-NAT-End-Port = 2047", PortBlock{Vendor: 54268, Address: 161, Start: 162, End: 163}, "203.0.113.7 1024-2047"},
	{"Travelping", "TP-NAT-IP-Address = 203.0.113.7\nTP-NAT-Port-Start = 1024\nTP-NAT-Port-End = 2047", PortBlock{Vendor: 18681, Address: 16, Start: 28, End: 29}, "203.0.113.7 1024-2047"},
	{"VasExperts", "VasExperts-NAT-IP = 203.0.113.7", PortBlock{Vendor: 43823, Address: 21, Whole: true}, "203.0.113.7 0-65535"},
	{"Starent, whose layout is its own", "SN-NAT-IP-Address = 203.0.113.7", PortBlock{Vendor: 8164, Address: 297, Whole: true}, "203.0.113.7 0-65535"},
	{"an address without its ports", "Huawei-NAT-Public-Address = 203.0.113.7", PortBlock{Vendor: 2011, Address: 161, Start: 162, End: 163}, ""},
	{"ports in the wrong order", "Huawei-NAT-Public-Address = 203.0.113.7\nHuawei-NAT-Start-Port = 2047\nHuawei-NAT-End-Port = 1024", PortBlock{Vendor: 2011, Address: 161, Start: 162, End: 163}, ""},
	{"ports beyond the last", "Huawei-NAT-Public-Address = 203.0.113.7\nHuawei-NAT-Start-Port = 1024\nHuawei-NAT-End-Port = 70000", PortBlock{Vendor: 2011, Address: 161, Start: 162, End: 163}, ""},
	{"a text that is no range", "Alc-Nat-Port-Range = \"many\"", PortBlock{Vendor: 6527, Address: 141, Range: 121}, ""},
}

func TestBlocksInTheAttributesOfVendorsThroughRadclient(t *testing.T) {
	for _, c := range vendorCases {
		t.Run(c.name, func(t *testing.T) {
			book := &testBook{}
			s := serve(t, book, Options{})
			if err := s.SetTables(Tables{Blocks: []PortBlock{c.block}}); err != nil {
				t.Fatal(err)
			}
			out, err := radclient(t, s, "acct", secret, "Acct-Status-Type = Start\nAcct-Session-Id = a\nUser-Name = anna\n"+c.attrs+"\n", once...)
			if err != nil {
				t.Fatal(out)
			}
			var got []string
			for _, l := range book.got()[0].Leases {
				got = append(got, fmt.Sprintf("%s %d-%d", l.Prefix.Addr(), l.FirstPort, l.LastPort))
			}
			if strings.Join(got, ", ") != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestABlockThatIsSaidToBeReleasedEnds(t *testing.T) {
	book := openBook(t)
	s := serve(t, book, Options{})
	if err := s.SetTables(Tables{Blocks: []PortBlock{{Vendor: 2011, Address: 161, Start: 162, End: 163, Update: 165, Released: 2}}}); err != nil {
		t.Fatal(err)
	}
	for _, update := range []int{1, 2} {
		out, err := radclient(t, s, "acct", secret, fmt.Sprintf("Acct-Status-Type = Interim-Update\nAcct-Session-Id = a\nUser-Name = anna\nEvent-Timestamp = %d\n"+
			"Huawei-NAT-Public-Address = 203.0.113.7\nHuawei-NAT-Start-Port = 1024\nHuawei-NAT-End-Port = 2047\nHuawei-NAT-Port-Range-Update = %d\n",
			arrival.Add(time.Duration(update-10)*time.Minute).Unix(), update), once...)
		if err != nil {
			t.Fatal(out)
		}
	}
	if a, b := portName(book, "203.0.113.7", 1500, arrival.Add(-8*time.Minute-30*time.Second)), portName(book, "203.0.113.7", 1500, arrival.Add(-7*time.Minute)); a != "anna" || b != "nobody" {
		t.Errorf("before %s, after %s", a, b)
	}
}

func TestABlockOfNobodyIsWhosesoeverTheAddressBehindItIs(t *testing.T) {
	book := &testBook{}
	s := serve(t, book, Options{})
	if out, err := radclient(t, s, "acct", secret, "Acct-Status-Type = Start\nAcct-Session-Id = a\n"+range8045("203.0.113.7", 1024, 2047, 0), once...); err != nil {
		t.Fatal(out)
	}
	if via := book.got()[0].Leases[0].Via; via != netip.MustParseAddr("100.64.0.9") {
		t.Errorf("via %v", via)
	}
}

func TestTablesThatCannotBe(t *testing.T) {
	s := serve(t, &testBook{}, Options{})
	for name, p := range map[string]PortBlock{
		"without vendor": {Address: 1, Range: 2}, "without address": {Vendor: 1, Start: 1, End: 2}, "without ports": {Vendor: 1, Address: 1},
		"with half a range": {Vendor: 1, Address: 1, Start: 2}, "with two kinds of range": {Vendor: 1, Range: 1, Start: 2, End: 3}, "whole and shared": {Vendor: 1, Address: 1, Range: 2, Whole: true},
	} {
		if err := s.SetTables(Tables{Blocks: []PortBlock{p}}); err == nil {
			t.Errorf("a block %s is accepted", name)
		}
	}
}

func TestExtendedAttributes(t *testing.T) {
	for _, c := range []struct {
		name  string
		attrs codec.Attributes
		want  string
		bad   int
	}{
		{"a short one", codec.Attributes{avp(241, []byte{6, 1, 2})}, "241.6:0102 ", 0},
		{"one without value", codec.Attributes{avp(242, []byte{6})}, "", 1},
		{"a long one of one piece", codec.Attributes{avp(245, []byte{4, 0, 9})}, "245.4:09 ", 0},
		{"a long one of three pieces", codec.Attributes{avp(246, []byte{4, 0x80, 1}), avp(246, []byte{4, 0x80, 2}), avp(246, []byte{4, 0, 3}), avp(246, []byte{4, 0, 4})}, "246.4:010203 246.4:04 ", 0},
		{"a long one whose next piece is another's", codec.Attributes{avp(245, []byte{4, 0x80, 1}), avp(245, []byte{5, 0, 2})}, "245.5:02 ", 1},
		{"a long one without its end", codec.Attributes{avp(245, []byte{4, 0x80, 1})}, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, bad := "", 0
			eachExtended(c.attrs, func(x extended) { got += fmt.Sprintf("%d.%d:%x ", x.space, x.kind, x.value) }, func() { bad++ })
			if got != c.want || bad != c.bad {
				t.Errorf("%q with %d bad ones, want %q with %d", got, bad, c.want, c.bad)
			}
		})
	}
}

func FuzzAttributes(f *testing.F) {
	f.Add([]byte{241, 27, 6, 3, 6, 203, 0, 113, 7, 9, 6, 0, 0, 4, 0, 10, 6, 0, 0, 7, 255, 8, 6, 0, 0, 0, 1})
	f.Add([]byte{245, 5, 6, 0x80, 1, 245, 5, 6, 0, 2, 26, 12, 0, 0, 0x19, 0x7f, 121, 6, '1', '-', '2', ' '})
	f.Add([]byte{127, 22, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 8, 0, 1, 'D', 'K', 3, 1})
	f.Add([]byte{126, 5, '1', 'i', 's', 128, 20, 0, 1, 0x4d, 0x4d, 0x6b, 0x4a, 0x2b, 0x4c, 0x4d, 0x6b, 0x4a, 0x2b, 0x11, 0, 0, 1, 0, 1, 0})
	opts := DefaultOptions()
	tables := &tables{
		blocks: []PortBlock{{Vendor: 6527, Address: 141, Range: 121}, {Vendor: 2011, Address: 161, Start: 162, End: 163, Update: 165, Released: 2}, {Vendor: 8164, Address: 297, Whole: true}},
		places: []Place{{Called: "00", Text: "here"}, {NAS: "x", Port: "y", Text: "there"}},
	}
	s, err := New(&testBook{}, nil, opts)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		attrs, err := codec.ParseAttributes(b)
		if err != nil {
			return
		}
		r := reader{opts: &opts, tables: tables, attrs: append(attrs, num(40, 3), str(44, "a"))}
		e, v, _ := r.event(netip.MustParseAddr("192.0.2.1"), arrival)
		if v != use {
			return
		}
		for _, e := range s.expand(nil, e, &r) {
			if err := e.Validate(); err != nil {
				t.Fatalf("%v: %+v", err, e)
			}
			for _, l := range e.Leases {
				if l.Kind == identity.PortBlock && l.LastPort == 0 {
					t.Fatalf("a block of no ports would be one of all: %+v", l)
				}
			}
		}
	})
}
