package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
)

// Border is a small provider: two subscribers behind a gateway, and the
// internet behind the gateway's uplink. Addresses are those kept for
// documentation (RFC 5737, RFC 3849).
//
//	subscribers[0]  192.0.2.10     2001:db8:a:1::10 ─┐
//	                                                 gateway ── uplink ── internet
//	subscribers[1]  192.0.2.140    2001:db8:a:2::10 ─┘  198.51.100.1      198.51.100.10
//	                                                    2001:db8:f::1     2001:db8:f::10
type Border struct {
	*Lab
	Gateway     *Namespace
	Internet    *Namespace
	Subscribers [2]Subscriber

	Uplink string         // the gateway's interface towards the internet
	Local  []netip.Prefix // the provider's own addresses: the border runs around them
	MTU    int            // of all links, bytes

	Server4, Server6       netip.Addr // of the internet
	Gateway4, Gateway6     netip.Addr // of the gateway on its uplink
	Blackhole4, Blackhole6 netip.Addr // beyond the internet; packets to them are never answered
}

// Subscriber is a namespace with one address of each family.
type Subscriber struct {
	*Namespace
	Addr4, Addr6 netip.Addr
	Prefix6      netip.Prefix // the network that Addr6 is from, as a RADIUS server assigns it
}

// OpenBorder makes the network. mtu is in bytes, 0 means 1500.
func OpenBorder(mtu int) (*Border, error) {
	l, err := Open()
	if err != nil {
		return nil, err
	}
	if mtu == 0 {
		mtu = 1500
	}
	b := &Border{
		Lab: l, Uplink: "uplink", MTU: mtu,
		Local:   []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:a::/48")},
		Server4: netip.MustParseAddr("198.51.100.10"), Server6: netip.MustParseAddr("2001:db8:f::10"),
		Gateway4: netip.MustParseAddr("198.51.100.1"), Gateway6: netip.MustParseAddr("2001:db8:f::1"),
		Blackhole4: netip.MustParseAddr("203.0.113.1"), Blackhole6: netip.MustParseAddr("2001:db8:dead::1"),
	}
	if err := b.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("make border: %w", err), l.Close())
	}
	return b, nil
}

// NewBorder makes the network for a test, with an MTU of 1500 bytes.
func NewBorder(t testing.TB) *Border {
	t.Helper()
	b, err := OpenBorder(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

var (
	any4 = netip.MustParsePrefix("0.0.0.0/0")
	any6 = netip.MustParsePrefix("::/0")
)

func (b *Border) build() error {
	var err error
	if b.Gateway, err = b.Namespace("gateway"); err != nil {
		return err
	}
	if b.Internet, err = b.Namespace("internet"); err != nil {
		return err
	}
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if err := b.Gateway.Sysctl(key, "1"); err != nil {
			return err
		}
	}
	uplink := End{b.Gateway, b.Uplink, []netip.Prefix{netip.PrefixFrom(b.Gateway4, 24), netip.PrefixFrom(b.Gateway6, 64)}}
	far := End{b.Internet, "border", []netip.Prefix{netip.PrefixFrom(b.Server4, 24), netip.PrefixFrom(b.Server6, 64)}}
	if err := b.Link(uplink, far, b.MTU); err != nil {
		return err
	}
	for i := range b.Subscribers {
		if err := b.subscriber(i); err != nil {
			return err
		}
	}
	return errors.Join(
		b.Gateway.Route(any4, b.Server4), b.Gateway.Route(any6, b.Server6),
		b.Internet.Route(b.Local[0], b.Gateway4), b.Internet.Route(b.Local[1], b.Gateway6),
		b.Internet.Blackhole(netip.PrefixFrom(b.Blackhole4, 24).Masked()),
		b.Internet.Blackhole(netip.PrefixFrom(b.Blackhole6, 48).Masked()),
	)
}

// subscriber joins the subscriber of that number to the gateway.
func (b *Border) subscriber(i int) error {
	net4 := netip.MustParsePrefix([]string{"192.0.2.0/25", "192.0.2.128/25"}[i])
	net6 := netip.MustParsePrefix([]string{"2001:db8:a:1::/64", "2001:db8:a:2::/64"}[i])
	host := func(n netip.Prefix, last byte) netip.Addr {
		a := n.Addr().AsSlice()
		a[len(a)-1] += last
		addr, _ := netip.AddrFromSlice(a) // of the length that AsSlice gave
		return addr
	}
	n, err := b.Namespace(fmt.Sprintf("subscriber%d", i+1))
	if err != nil {
		return err
	}
	s := Subscriber{Namespace: n, Addr4: host(net4, 10), Addr6: host(net6, 0x10), Prefix6: net6}
	b.Subscribers[i] = s
	gw4, gw6 := host(net4, 1), host(net6, 1)
	err = b.Link(
		End{b.Gateway, fmt.Sprintf("sub%d", i+1), []netip.Prefix{netip.PrefixFrom(gw4, 25), netip.PrefixFrom(gw6, 64)}},
		End{n, "wan", []netip.Prefix{netip.PrefixFrom(s.Addr4, 25), netip.PrefixFrom(s.Addr6, 64)}}, b.MTU)
	if err != nil {
		return err
	}
	return errors.Join(n.Route(any4, gw4), n.Route(any6, gw6))
}
