package radius

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"

	codec "layeh.com/radius"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

func addrOf(s string) session.Addr { return session.AddrFrom(netip.MustParseAddr(s)) }

func TestAMACAddressIsEquipmentAndNoPerson(t *testing.T) {
	const mac, calling = "e6fbdf057a88", "E6-FB-DF-05-7A-88"
	ppp := num(7, 1)
	for _, c := range []struct {
		name  string
		attrs []*codec.AVP
		sold  bool   // by equipment
		want  string // subscriber, identity, equipment, lease
	}{
		{"as hostapd sends it", []*codec.AVP{str(1, mac), str(31, calling)}, false, "|e6fbdf057a88|e6:fb:df:05:7a:88|100::e6fb:df05:7a88"},
		{"where access is sold by equipment", []*codec.AVP{str(1, mac), str(31, calling)}, true, "e6fbdf057a88||e6:fb:df:05:7a:88|100::e6fb:df05:7a88"},
		{"with a name that only the operator knows", []*codec.AVP{str(1, mac), str(31, calling), str(89, "cui-1")}, false, "cui-1|e6fbdf057a88|e6:fb:df:05:7a:88|100::e6fb:df05:7a88"},
		{"without a calling station", []*codec.AVP{str(1, "E6:FB:DF:05:7A:88")}, false, "|E6:FB:DF:05:7A:88|e6:fb:df:05:7a:88|100::e6fb:df05:7a88"},
		{"of digits alone, beside the same calling station", []*codec.AVP{str(1, "021122334455"), str(31, "02-11-22-33-44-55")}, false, "|021122334455|02:11:22:33:44:55|100::211:2233:4455"},
		{"a customer of twelve digits", []*codec.AVP{str(1, "451122334455")}, false, "451122334455|||"},
		{"a person by 802.1X", []*codec.AVP{str(1, "anna"), str(31, calling)}, false, "anna||e6:fb:df:05:7a:88|100::e6fb:df05:7a88"},
		{"a person within PPP", []*codec.AVP{str(1, "anna"), str(31, calling), ppp}, false, "anna||e6:fb:df:05:7a:88|"},
		{"equipment of all zeros", []*codec.AVP{str(1, "anna"), str(31, "00-00-00-00-00-00")}, false, "anna||00:00:00:00:00:00|"},
		{"a group of equipment", []*codec.AVP{str(1, "anna"), str(31, "FF-FF-FF-FF-FF-FF")}, false, "anna||ff:ff:ff:ff:ff:ff|"},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := DefaultOptions()
			opts.MACSubscriber = c.sold
			r := reader{opts: &opts, attrs: append(c.attrs, num(40, 3), str(44, "a"))}
			e, _, _ := r.event(netip.MustParseAddr("203.0.113.5"), arrival)
			lease := ""
			for _, l := range e.Leases {
				if l.Kind == identity.Equipment {
					lease = l.Prefix.Addr().String()
				}
			}
			if got := strings.Join([]string{e.Subscriber, e.Identity, e.Equipment, lease}, "|"); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// geoProfile encodes RFC 3825 §2.
func geoProfile(lat, lon float64, bits byte) []byte {
	number := func(v float64) []byte {
		n := uint64(int64(math.Round(v*(1<<25))))&(1<<34-1) | uint64(bits)<<34
		return []byte{byte(n >> 32), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	}
	return append(append(number(lat), number(lon)...), 0x11, 0, 0, 1, 0, 1)
}

func TestPlaces(t *testing.T) {
	info := func(index, code byte) *codec.AVP {
		return avp(127, append([]byte{0, index, code, 1}, append(make([]byte, 16), "manual"...)...))
	}
	civic := []byte("\x00\x01DK\x00\x02da\x03\x09Aarhus C.\x06\x0bBanegaardsp\x13\x011")
	geo := append([]byte{0, 2}, geoProfile(56.1502, -10.2045, 34)...)
	tables := &tables{places: []Place{
		{NAS: "ap-17", Port: "eth 1/", Text: "cellar"}, {NAS: "10.0.0.7", Text: "tower"}, {Called: "001906eab88c", Text: "hall 2"},
	}}
	for _, c := range []struct {
		name  string
		attrs []*codec.AVP
		want  string
	}{
		{"an access point of the table", []*codec.AVP{str(30, "00-19-06-EA-B8-8C:guests")}, "hall 2; 00-19-06-EA-B8-8C:guests"},
		{"a port of the table", []*codec.AVP{str(32, "ap-17"), str(87, "eth 1/5")}, "cellar; eth 1/5"},
		{"another port", []*codec.AVP{str(32, "ap-17"), str(87, "eth 2/5")}, "eth 2/5"},
		{"an access server by its address", []*codec.AVP{avp(4, []byte{10, 0, 0, 7})}, "tower"},
		{"a postal address", []*codec.AVP{info(1, 0), avp(128, civic)}, "DK, Aarhus C., Banegaardsp, 1"},
		{"coordinates", []*codec.AVP{info(2, 1), avp(128, geo)}, "56.15020 -10.20450 ±1 m"},
		{"both, and whose network it is", []*codec.AVP{str(30, "ap"), info(1, 0), info(2, 1), avp(128, civic), avp(128, geo), str(126, "1isp.example")},
			"ap; DK, Aarhus C., Banegaardsp, 1; 56.15020 -10.20450 ±1 m; operator isp.example"},
		{"a location of unknown profile", []*codec.AVP{avp(128, civic)}, ""},
		{"nothing", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := DefaultOptions()
			r := reader{opts: &opts, tables: tables, attrs: append(c.attrs, num(40, 3), str(44, "a"))}
			e, _, _ := r.event(netip.MustParseAddr("203.0.113.5"), arrival)
			if e.Place != c.want || r.notes[noteBadAttribute] {
				t.Errorf("got %q, want %q; bad: %v", e.Place, c.want, r.notes[noteBadAttribute])
			}
		})
	}
	for name, attrs := range map[string][]*codec.AVP{
		"a postal address that runs over its end": {info(1, 0), avp(128, []byte("\x00\x01DK\x03\x09Aar"))},
		"coordinates of half the length":          {info(2, 1), avp(128, geo[:9])},
		"a pole beyond the pole":                  {info(1, 1), avp(128, append([]byte{0, 1}, geoProfile(91, 0, 34)...))},
		"information without its fields":          {avp(127, []byte{0, 1, 0}), avp(128, civic)},
		"an operator without namespace":           {str(126, "x")},
	} {
		r := reader{attrs: attrs}
		if got := r.location(); got != "" || !r.notes[noteBadAttribute] {
			t.Errorf("%s: %q is believed", name, got)
		}
	}
}

func TestWhatAClientMayNotSay(t *testing.T) {
	lab := netip.MustParsePrefix("127.0.0.0/8")
	addr := func(a, b, c, d byte) *codec.AVP { return avp(4, []byte{a, b, c, d}) }
	for _, c := range []struct {
		name  string
		nas   []string
		attrs []*codec.AVP
		ok    bool
	}{
		{"anything where nothing is said", nil, []*codec.AVP{str(32, "x"), addr(1, 2, 3, 4)}, true},
		{"a name of the list", []string{"bng1", "bng2"}, []*codec.AVP{str(32, "bng2"), addr(1, 2, 3, 4)}, true},
		{"another name", []string{"bng1"}, []*codec.AVP{str(32, "bng2")}, false},
		{"an address instead of a name", []string{"bng1"}, []*codec.AVP{addr(10, 0, 0, 1)}, false},
		{"an address of the list", []string{"10.0.0.1"}, []*codec.AVP{addr(10, 0, 0, 1)}, true},
		{"an address of a prefix of the list", []string{"10.0.0.0/8"}, []*codec.AVP{addr(10, 9, 0, 1), str(32, "any")}, true},
		{"another address", []string{"10.0.0.0/8"}, []*codec.AVP{addr(11, 0, 0, 1)}, false},
		{"a right name with a wrong address", []string{"bng1", "10.0.0.1"}, []*codec.AVP{str(32, "bng1"), addr(11, 0, 0, 1)}, false},
		{"a wrong name with a right address", []string{"bng1", "10.0.0.1"}, []*codec.AVP{str(32, "bng2"), addr(10, 0, 0, 1)}, false},
		{"nothing, from an address of the list", []string{"127.0.0.1"}, nil, true},
		{"nothing, from another", []string{"127.0.0.2"}, nil, false},
		{"a name alone where only addresses are listed", []string{"127.0.0.1"}, []*codec.AVP{str(32, "x")}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			book := &testBook{}
			s := serve(t, book, Options{Workers: 1}, Client{Name: "lab", Prefix: lab, Secret: []byte(secret), Permit: Permit{NAS: c.nas}})
			nas := dial(t, s)
			nas.send(packet(t, codec.CodeAccountingRequest, 1, secret, append(c.attrs, num(40, 7))...))
			nas.settled()
			s.stop()
			st := s.Stats()
			if (st.Dropped["nas-not-allowed"] == 0) != c.ok || (len(book.got()) == 1) != c.ok || (st.Clients[0].ForeignNAS == 0) != c.ok {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestAnAddressThatAClientMayNotNameIsLeftOut(t *testing.T) {
	var said []string
	book := &testBook{}
	s := serve(t, book, Options{Workers: 1, Trouble: func(text string) { said = append(said, text) }}, Client{Name: "lab", Prefix: netip.MustParsePrefix("127.0.0.0/8"), Secret: []byte(secret),
		Permit: Permit{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}}})
	out, err := radclient(t, s, "acct", secret, "Acct-Status-Type = Start\nAcct-Session-Id = a\nUser-Name = anna\nCalling-Station-Id = E6-FB-DF-05-7A-88\n"+
		"Framed-IP-Address = 198.51.100.1\nDelegated-IPv6-Prefix = 2001:db8:1::/48\nFramed-IPv6-Prefix = 2002::/24\n"+range8045("203.0.113.7", 1024, 2047, 1), once...)
	if err != nil {
		t.Fatal(out)
	}
	s.stop()
	got := book.got()
	if len(got) != 1 || fmt.Sprint(len(got[0].Leases)) != "2" || got[0].Leases[0].Prefix.String() != "2001:db8:1::/48" || got[0].Leases[1].Kind != identity.Equipment {
		t.Errorf("%+v", got)
	}
	if st := s.Stats(); st.Remarks["prefix-not-allowed"] != 1 || st.Clients[0].ForeignPrefix != 1 || len(said) != 1 || !strings.Contains(said[0], "client lab names an address outside its prefixes") {
		t.Errorf("%+v %q", st, said)
	}
}
