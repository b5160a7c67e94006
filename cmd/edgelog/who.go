package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/session"
)

// whoQuery turns the command line into a query about who held an address.
func whoQuery(c *cli.Context, words []string, now time.Time) (*disclose.Query, error) {
	if n := len(words); n != 1 {
		return nil, usage("it is asked about one address, and %d words were given", n).hint("edgelog request new who 192.0.2.1:40000 --at 2025-03-01T12:00:00Z …")
	}
	if err := need(c, "at"); err != nil {
		return nil, err
	}
	addr, port, err := parseTarget(words[0])
	if err != nil {
		return nil, err
	}
	at, err := parseTime("at", c.String("at"), now)
	if err != nil {
		return nil, err
	}
	q := disclose.Who(c.String("reference"), addr, port, at, c.Duration("error"))
	if s := c.String("proto"); s != "" {
		if q.Proto, err = parseProto(s); err != nil {
			return nil, err
		}
	}
	return q, nil
}

// parseTarget reads an address with or without a port.
func parseTarget(s string) (netip.Addr, *uint16, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil && a.Zone() == "" {
		return a.Unmap(), nil, nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil || ap.Addr().Zone() != "" {
		return netip.Addr{}, nil, usage("%q is not an IP address, with or without port", s).hint("write 192.0.2.1:40000, [2001:db8::1]:40000, or the address alone")
	}
	port := ap.Port()
	return ap.Addr().Unmap(), &port, nil
}

func parseProto(s string) (uint8, error) {
	for _, p := range []uint8{session.TCP, session.UDP, session.ICMP, session.ICMPv6, session.SCTP, session.DCCP, session.UDPLite} {
		if strings.EqualFold(session.ProtoName(p), s) {
			return p, nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, usage("--proto %q is not known", s).hint("use tcp, udp, icmp, icmpv6, sctp, dccp, udplite or the number of an IP protocol")
	}
	return uint8(n), nil
}

// accessQuery turns the command line into a query for access records.
func accessQuery(c *cli.Context, now time.Time) (*disclose.Query, error) {
	q := &disclose.Query{
		Reference: c.String("reference"), Ask: disclose.WantAccess, Subscriber: c.String("subscriber"), Line: c.String("line"),
	}
	var err error
	if s := c.String("address"); s != "" {
		if q.Address, err = parseAddr("address", s); err != nil {
			return nil, err
		}
	}
	if s := c.String("equipment"); s != "" {
		if q.Equipment, err = parseMAC(s); err != nil {
			return nil, err
		}
	}
	return q, inWindow(c, q, now)
}

// parseMAC reads a MAC address in any of the usual notations.
func parseMAC(s string) (string, error) {
	hex := strings.Map(func(r rune) rune {
		if strings.ContainsRune(":-. ", r) {
			return -1
		}
		return r
	}, strings.ToLower(s))
	if _, err := strconv.ParseUint(hex, 16, 48); err != nil || len(hex) != 12 {
		return "", usage("--equipment %q is not a MAC address", s).hint("write it as 02:00:00:00:00:01")
	}
	return fmt.Sprintf("%s:%s:%s:%s:%s:%s", hex[0:2], hex[2:4], hex[4:6], hex[6:8], hex[8:10], hex[10:12]), nil
}
