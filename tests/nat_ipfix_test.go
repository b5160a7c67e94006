package tests

import (
	bytes "encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/tests/gateway"
)

// natEvent is an event of RFC 8158 as a translator reports it.
type natEvent struct {
	event       uint8
	at          time.Time
	inside      netip.AddrPort
	public      netip.AddrPort
	far         netip.AddrPort
	proto       uint8
	first, last uint16 // of a block
}

// export sends one datagram of IPFIX (RFC 7011) from the gateway to itself: the
// template and the events.
func export(t *testing.T, g *gateway.Gateway, sequence uint32, events ...natEvent) {
	t.Helper()
	fields := []uint16{323, 8, 230, 1, 8, 4, 225, 4, 7, 2, 227, 2, 12, 4, 11, 2, 4, 1, 361, 2, 362, 2}
	set := bytes.BigEndian.AppendUint16([]byte{0, 2}, uint16(8+2*len(fields)))
	set = bytes.BigEndian.AppendUint16(append(set, 1, 0), uint16(len(fields)/2))
	for _, f := range fields {
		set = bytes.BigEndian.AppendUint16(set, f)
	}
	var data []byte
	for _, e := range events {
		far := e.far
		if !far.IsValid() {
			far = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
		}
		data = append(bytes.BigEndian.AppendUint64(data, uint64(e.at.UnixMilli())), e.event)
		data = append(append(data, e.inside.Addr().AsSlice()...), e.public.Addr().AsSlice()...)
		data = bytes.BigEndian.AppendUint16(data, e.inside.Port())
		data = bytes.BigEndian.AppendUint16(data, e.public.Port())
		data = append(data, far.Addr().AsSlice()...)
		data = append(bytes.BigEndian.AppendUint16(data, far.Port()), e.proto)
		data = bytes.BigEndian.AppendUint16(data, e.first)
		data = bytes.BigEndian.AppendUint16(data, e.last)
	}
	set = bytes.BigEndian.AppendUint16(append(set, 1, 0), uint16(4+len(data)))
	set = append(set, data...)
	b := bytes.BigEndian.AppendUint16([]byte{0, 10}, uint16(16+len(set)))
	b = bytes.BigEndian.AppendUint32(b, uint32(time.Now().Unix()))
	b = bytes.BigEndian.AppendUint32(b, sequence)
	b = append(bytes.BigEndian.AppendUint32(b, 1), set...)
	err := g.Gateway().Do(func() error {
		c, err := net.Dial("udp4", "127.0.0.1:4739")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnotherTranslatorsEventsNameSessionsAndBecomeRecords(t *testing.T) {
	edit := quickEnds()
	edit["exporters ="] = `exporters = ["127.0.0.1"]`
	edit["listen = []"] = `listen = ["127.0.0.1:4739"]`
	g := start(t, gateway.Options{Edit: edit})
	ctx := limited(t)
	inside := netip.MustParseAddrPort("100.64.0.9:1234")
	x := &translator{Gateway: g}
	x.logOn(t, "zoe@example.net", inside.Addr())
	web := netip.AddrPortFrom(g.Server4, 80)
	if err := g.Internet.ServeHTTP(web, "hello"); err != nil {
		t.Fatal(err)
	}
	public := netip.AddrPortFrom(g.Subscribers[0].Addr4, 1500)
	began := time.Now()
	export(t, g, 0,
		natEvent{event: 16, at: began, inside: netip.AddrPortFrom(inside.Addr(), 0), public: netip.AddrPortFrom(public.Addr(), 0), first: 1024, last: 2047},
		natEvent{event: 4, at: began, inside: inside, public: public, far: web, proto: session.TCP})
	if _, err := g.Until(ctx, "they are taken", func(s *gateway.Status) bool { return s.NAT.IPFIX.Applied == 1 && s.NAT.Table.Open == 1 }); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Subscribers[0].Run(ctx, "curl", "--silent", "--fail", "--noproxy", "*", "--local-port", "1500", "http://"+web.String()+"/"); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Subscribers[0].Run(ctx, "curl", "--silent", "--fail", "--noproxy", "*", "--local-port", "1600", "http://"+web.String()+"/"); err != nil {
		t.Fatal(err) // of the block, and nobody tells of this session
	}
	export(t, g, 5, natEvent{event: 5, at: time.Now(), inside: inside, public: public, far: web, proto: session.TCP}) // 3 are missing
	s, err := g.Until(ctx, "it is stored", func(s *gateway.Status) bool {
		return s.Sessions.Named >= 2 && s.NAT.Table.Kept == 1 && s.NAT.IPFIX.Gaps == 1
	})
	if err != nil {
		t.Fatal(err)
	}
	if x := s.NAT.IPFIX; x.Lost != 3 || x.Malformed+x.Unusable+x.Strangers != 0 {
		t.Errorf("%+v", x)
	}
	_, list, err := g.Sessions(ctx, "--subscriber", "zoe@example.net")
	if err != nil || len(list) == 0 {
		t.Errorf("%v: %+v", err, list)
	}
	for _, s := range list {
		if s.InitiatorPort == 1500 && (s.Inside != "100.64.0.9" || s.InsidePort != 1234) {
			t.Errorf("%+v", s)
		}
	}
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	found := 0
	err = eachBinding(ctx, g, g.DataDir(), func(b *session.Binding) {
		if b.Source != session.SourceNAT || b.FirstPort != 1024 || b.LastPort != 2047 || b.Prefix.Addr() != public.Addr() {
			return
		}
		found++
		if b.Via != inside.Addr() {
			t.Errorf("the port block is of %v", b.Via)
		}
	})
	if err != nil || found == 0 {
		t.Errorf("%v: the port block is not among the access records", err)
	}
}
