package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

func whoCommand() *cli.Command {
	return &cli.Command{
		Name:      "who",
		Usage:     "say who held an address, or one of its ports, at a time",
		ArgsUsage: "ADDRESS[:PORT]",
		UsageText: "edgelog who ADDRESS[:PORT] --at TIME [--error 2s] --reference TEXT --identity KEYFILE",
		Description: "The first line says what the answer is worth: certain, likely, uncertain or not known, and why. All who may\n" +
			"have held it within the error of the time follow, each with what shows it and what could make it wrong.\n" +
			"An IPv6 address with a port is written in brackets: [2001:db8::1]:443. Times are RFC 3339 with a zone.\n" +
			"The question is written to the ledger before anything is read, and its outcome before anything is printed.",
		Flags: []cli.Flag{
			referenceFlag(), identityFlag(),
			&cli.StringFlag{Name: "at", Usage: "the `TIME` that is asked about"},
			&cli.DurationFlag{Name: "error", Usage: "how wrong that time may be, either way, as `DURATION`", Value: 2 * time.Second},
			&cli.StringFlag{Name: "proto", Usage: "only sessions of this `PROTOCOL` are shown: tcp, udp, icmp or a number"},
			formatFlag(), configFlag(), socketFlag(),
		},
		Action: who,
	}
}

func who(c *cli.Context) error {
	q, err := whoQuery(c, time.Now())
	if err != nil {
		return err
	}
	var a *disclose.WhoAnswer
	err = askAgent(c, func(client *http.Client, ids *vault.Identities) (err error) {
		a, err = disclose.AskWho(c.Context, client, q, ids)
		return err
	})
	if err != nil {
		return err
	}
	return give(c, &a.Summary, func(w io.Writer, format string) error { return disclose.PrintWho(w, a, format) },
		func() []string { return append(a.Head(), a.Summary.Lines()...) })
}

// whoQuery turns the command line into a query that may be asked.
func whoQuery(c *cli.Context, now time.Time) (*disclose.Query, error) {
	if n := c.Args().Len(); n != 1 {
		return nil, usage("it is asked about one address, and %d words were given", n).hint("edgelog who 192.0.2.1:40000 --at 2025-03-01T12:00:00Z")
	}
	if err := errors.Join(need(c, "reference", "identity", "at"), knownFormat(c)); err != nil {
		return nil, err
	}
	addr, port, err := parseTarget(c.Args().First())
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
	if err := q.Check(now); err != nil {
		return nil, usage("%w", err)
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

func accessCommand() *cli.Command {
	return &cli.Command{
		Name:      "access",
		Usage:     "read the access records of one identifier: who had which address, when",
		UsageText: "edgelog access --reference TEXT --identity KEYFILE\n   (--subscriber S | --address IP | --equipment MAC | --line ID) --from TIME --to TIME",
		Description: "A record that was corrected shows what is known now, and what was sealed before.\n" +
			"The question is written to the ledger before anything is read, and its outcome before anything is printed.\n" +
			"Times are RFC 3339, for example 2025-03-01T12:00:00Z; --to may be \"now\".",
		Flags: []cli.Flag{
			referenceFlag(), identityFlag(),
			&cli.StringFlag{Name: "subscriber", Usage: "records of the subscriber, or of the assigned identity, `S`"},
			&cli.StringFlag{Name: "address", Usage: "records of the address `IP`"},
			&cli.StringFlag{Name: "equipment", Usage: "records of the equipment with this `MAC` address"},
			&cli.StringFlag{Name: "line", Usage: "records of the phone or line `ID`"},
			&cli.StringFlag{Name: "from", Usage: "window from `TIME`"},
			&cli.StringFlag{Name: "to", Usage: "window until before `TIME`"},
			formatFlag(), configFlag(), socketFlag(),
		},
		Action: access,
	}
}

func access(c *cli.Context) error {
	if err := errors.Join(noArgs(c), need(c, "reference", "identity", "from", "to"), knownFormat(c)); err != nil {
		return err
	}
	q, err := accessQuery(c, time.Now())
	if err != nil {
		return err
	}
	var a *disclose.AccessAnswer
	err = askAgent(c, func(client *http.Client, ids *vault.Identities) (err error) {
		a, err = disclose.AskAccess(c.Context, client, q, ids)
		return err
	})
	if err != nil {
		return err
	}
	return give(c, &a.Summary, func(w io.Writer, format string) error { return disclose.PrintAccess(w, a, format) },
		func() []string { return append(disclose.NameLines(a.Names), a.Summary.Lines()...) })
}

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
	if q.From, err = parseTime("from", c.String("from"), now); err != nil {
		return nil, err
	}
	if q.To, err = parseTime("to", c.String("to"), now); err != nil {
		return nil, err
	}
	fitWindow(q, now)
	if err := q.Check(now); err != nil {
		return nil, usage("%w", err)
	}
	return q, nil
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
