package dhcp

import (
	"bytes"
	"fmt"
	"net/netip"
)

// dnsmasqParser reads the lease file of dnsmasq: "expiry MAC address name
// client-id"; after a line "duid …" also "expiry IAID address name DUID". The
// file says nothing of when a lease began or was renewed.
type dnsmasqParser struct {
	lineCount
	six    bool
	fields [][]byte
}

func newDnsmasqParser(file string) *dnsmasqParser {
	return &dnsmasqParser{lineCount: lineCount{file: file, line: 1}}
}

func (p *dnsmasqParser) lines() *lineCount { return &p.lineCount }

func (p *dnsmasqParser) parse(b []byte, whole bool, take func(*Record)) (int, error) {
	return p.eachLine(b, whole, func(line []byte, n int) error {
		p.fields = append(p.fields[:0], bytes.Fields(line)...)
		if len(p.fields) == 2 && string(p.fields[0]) == "duid" {
			p.six = true
			p.skipped++
			return nil
		}
		r, field, reason := p.row()
		if reason == "" {
			p.used++
			p.leases++
			take(&r)
			return nil
		}
		at := 0
		if field < len(p.fields) {
			at = columnOf(line, p.fields[field])
		}
		if p.used+p.skipped == 0 {
			p.bad(n, at, badForeign)
			return fmt.Errorf("%w: line %d column %d of %q is no lease of dnsmasq; check the path and kind of this server", ErrForeign, n, at, p.file)
		}
		p.bad(n, at, reason)
		return nil
	})
}

// row reads one lease from p.fields. With a reason, field is the bad one.
func (p *dnsmasqParser) row() (r Record, field int, reason string) {
	f := p.fields
	if len(f) != 5 {
		return r, 0, badColumns
	}
	until, ok := number(f[0], maxSeconds)
	if !ok {
		return r, 0, badTime
	}
	a, err := netip.ParseAddr(string(f[2]))
	if err != nil || a.Is6() != p.six || !r.setPrefix(a, false, 0) {
		return r, 2, badAddress
	}
	r.Until = int64(until) // 0 is never, here too
	if p.six {
		iaid, ok := number(bytes.TrimPrefix(f[1], []byte("T")), forever) // T: temporary
		if !ok {
			return r, 1, badSyntax
		}
		r.IAID = uint32(iaid)
	} else {
		r.setMAC(hardware(f[1]))
	}
	if len(f[3]) <= maxID && string(f[3]) != "*" {
		r.Hostname = string(f[3])
	}
	if len(f[4]) <= 3*maxID && string(f[4]) != "*" {
		r.Client = lowerHex(f[4])
	}
	if p.six {
		r.macOfDUID(fromHex(r.Client))
	}
	return r, 0, ""
}

// hardware takes the type off a hardware address that is not of Ethernet's
// ("06-00:11:…"): the address itself is what other servers give.
func hardware(b []byte) []byte {
	if len(b) > 3 && b[2] == '-' {
		return b[3:]
	}
	return b
}
