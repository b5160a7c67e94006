package tests

import (
	bytesof "encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// relay speaks to a DHCP server as the relay of an access network does
// (RFC 3046 §2.1): it asks for clients of its own making.
type relay struct {
	d    *dhcpLab
	conn net.PacketConn
	addr netip.Addr
}

// newRelay puts one into the clients' namespace, with an address there.
func newRelay(d *dhcpLab) *relay {
	d.t.Helper()
	r := &relay{d: d, addr: netip.MustParseAddr(dhcpNet4 + ".200")}
	if out, err := d.client.Run(d.ctx, "ip", "addr", "replace", r.addr.String()+"/24", "dev", "wan"); err != nil {
		d.t.Fatal(err, out)
	}
	d.must(d.client.Do(func() (err error) {
		r.conn, err = net.ListenPacket("udp4", netip.AddrPortFrom(r.addr, 67).String())
		return err
	}))
	d.t.Cleanup(func() { _ = r.conn.Close() })
	return r
}

// optionsOf82 returns option 82 with circuit-id, remote-id and subscriber-id;
// "" leaves one out.
func optionsOf82(circuit, remote, subscriber string) []byte {
	var b []byte
	for _, s := range []struct {
		code byte
		text string
	}{{1, circuit}, {2, remote}, {6, subscriber}} {
		if s.text != "" {
			b = append(append(b, s.code, byte(len(s.text))), s.text...)
		}
	}
	return append([]byte{82, byte(len(b))}, b...)
}

// lease4 gets a lease for a client with this MAC address (RFC 2131 §3.1).
func (r *relay) lease4(mac [6]byte, option82 []byte) netip.Addr {
	r.d.t.Helper()
	offer := r.ask(mac, append([]byte{53, 1, 1}, option82...))
	yours := netip.AddrFrom4([4]byte(offer[16:20]))
	server := netip.MustParseAddr(dhcpNet4 + ".1").As4()
	a := yours.As4()
	request := append([]byte{53, 1, 3, 50, 4}, a[:]...)
	request = append(append(request, 54, 4), server[:]...)
	r.ask(mac, append(request, option82...))
	return yours
}

// ask sends a message and returns the answer; as a client does it tries again.
func (r *relay) ask(mac [6]byte, options []byte) []byte {
	r.d.t.Helper()
	m := make([]byte, 240)
	m[0], m[1], m[2], m[3] = 1, 1, 6, 1 // BOOTREQUEST, Ethernet, one hop
	bytesof.BigEndian.PutUint32(m[4:], 0x1000+uint32(mac[5])<<8+uint32(options[2]))
	copy(m[24:], r.addr.AsSlice())
	copy(m[28:], mac[:])
	copy(m[236:], []byte{0x63, 0x82, 0x53, 0x63})
	m = append(append(m, options...), 255)
	buf := make([]byte, 1500)
	for r.d.ctx.Err() == nil {
		_, err := r.conn.WriteTo(m, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(dhcpNet4+".1"), 67)))
		if err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			r.d.t.Fatal(err)
		}
		r.d.must(r.conn.SetReadDeadline(time.Now().Add(time.Second)))
		n, _, err := r.conn.ReadFrom(buf)
		if err == nil && n >= 240 && bytesof.BigEndian.Uint32(buf[4:]) == bytesof.BigEndian.Uint32(m[4:]) {
			return buf[:n]
		}
	}
	r.d.t.Fatal("the DHCP server does not answer the relay")
	return nil
}
