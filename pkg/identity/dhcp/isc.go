package dhcp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// iscParser reads dhcpd.leases(5): declarations, of which the last one of an
// address counts. Other declarations than leases are skipped.
type iscParser struct {
	lineCount
	big bool // the byte order of the machine that wrote IAIDs
	lex iscLexer
	six [3]Record // scratch
}

func newISCParser(file string) *iscParser {
	return &iscParser{lineCount: lineCount{file: file, line: 1}}
}

func (p *iscParser) lines() *lineCount { return &p.lineCount }

// maxDeclaration is longer than any declaration, in bytes.
const maxDeclaration = 1 << 20

// otherDeclarations may stand in a lease file besides leases.
var otherDeclarations = map[string]bool{
	"failover": true, "server-duid": true, "authoring-byte-order": true, "host": true, "group": true, "class": true,
	"subclass": true, "zone": true, "key": true, "option": true, "set": true, "subnet": true, "subnet6": true, "shared-network": true, "pool": true,
}

func (p *iscParser) parse(b []byte, whole bool, take func(*Record)) (int, error) {
	done := 0
	for {
		p.lex = iscLexer{b: b, at: done, line: p.line}
		start := p.lex.next()
		begin, line := p.lex.from, p.lex.tokenLine
		if start == tokEnd {
			if p.lex.cut && !whole { // within a comment
				return done, nil
			}
			p.line = p.lex.line
			return len(b), nil
		}
		reason := badSyntax
		if start == tokWord {
			reason = p.declaration(take)
		}
		if !whole && len(b)-begin <= maxDeclaration && (reason == badCut || reason != "" && bytes.IndexByte(b[begin:], '\n') < 0) {
			return done, nil // until the rest is there, of the line at least
		}
		p.read++
		if reason == "" {
			done, p.line = p.lex.at, p.lex.line
			continue
		}
		if p.used+p.skipped == 0 {
			p.bad(line, column(b, begin), badForeign)
			return done, fmt.Errorf("%w: line %d column %d of %q is no declaration of dhcpd.leases(5); check the path and kind of this server",
				ErrForeign, p.lex.tokenLine, column(b, p.lex.from), p.file)
		}
		p.bad(line, column(b, begin), reason)
		done = p.resume(b, begin, line, whole, reason == badCut)
	}
}

// resume returns where reading goes on after a declaration at begin that could
// not be read: behind the next line with a closing brace in its first column,
// or before the next lease. A line that is not there to its end is left.
func (p *iscParser) resume(b []byte, begin, line int, whole, cut bool) int {
	at := begin
	for at < len(b) {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			break
		}
		at += i + 1
		line++
		next := b[at:]
		if !whole && bytes.IndexByte(next, '\n') < 0 {
			p.line = line
			return at
		}
		if bytes.HasPrefix(next, []byte("lease ")) || bytes.HasPrefix(next, []byte("ia-")) {
			p.line = line
			return at
		}
		if next2, ok := bytes.CutPrefix(next, []byte("}")); ok && (len(next2) == 0 || next2[0] == '\n') && !(cut && whole) {
			p.line = line
			return at + 1
		}
	}
	p.line = line
	return len(b)
}

// column returns the byte of its line that stands at b[at], from 1.
func column(b []byte, at int) int { return at - bytes.LastIndexByte(b[:at], '\n') }

// declaration reads one from its first word on. It returns why it could not be
// read, badCut if the text ends within it.
func (p *iscParser) declaration(take func(*Record)) string {
	switch w := string(p.lex.token); w {
	case "lease":
		var r Record
		reason := p.lease(&r)
		if reason != "" {
			return reason
		}
		p.used++
		p.leases++
		take(&r)
		return ""
	case "ia-na", "ia-ta", "ia-pd":
		return p.association(w == "ia-pd", take)
	case "authoring-byte-order":
		if p.lex.next() == tokWord {
			p.big = string(p.lex.token) == "big-endian"
		}
		if reason := p.lex.skip(); reason != "" {
			return reason
		}
	default:
		if !otherDeclarations[w] {
			return p.cutOr(badSyntax)
		}
		if reason := p.lex.skip(); reason != "" {
			return reason
		}
	}
	p.skipped++
	return ""
}

// cutOr returns badCut if the text ended, else the reason.
func (p *iscParser) cutOr(reason string) string {
	if p.lex.cut || p.lex.at >= len(p.lex.b) {
		return badCut
	}
	return reason
}

// open reads the opening brace of a declaration.
func (p *iscParser) open() bool { return p.lex.next() == tokOpen }

// lease reads "192.0.2.1 { … }".
func (p *iscParser) lease(r *Record) string {
	if p.lex.next() != tokWord {
		return p.cutOr(badSyntax)
	}
	a, err := netip.ParseAddr(string(p.lex.token))
	fine := err == nil && a.Is4() && r.setPrefix(a, false, 0)
	if !p.open() {
		return p.cutOr(badSyntax)
	}
	var t iscTimes
	r.State = Active // before 3.0 there was no state
	for {
		switch p.lex.next() {
		case tokClose:
			if !fine {
				return badAddress
			}
			return t.settle4(r)
		case tokWord:
			if reason := p.statement(r, &t); reason != "" {
				return reason
			}
		default:
			return p.cutOr(badSyntax)
		}
	}
}

// iscTimes are the times of a declaration, in seconds since 1970.
type iscTimes struct {
	starts, ends, cltt int64
	hasEnds, bad       bool
	state              string
}

// statement reads one of a lease, from its first word on.
func (p *iscParser) statement(r *Record, t *iscTimes) string {
	l := &p.lex
	switch string(l.token) {
	case "starts":
		t.starts = t.time(l)
	case "ends":
		t.ends, t.hasEnds = t.time(l), true
	case "cltt":
		t.cltt = t.time(l)
	case "binding":
		l.next() // "state"
		if l.last == tokWord && l.next() == tokWord {
			t.state = string(l.token)
		}
	case "abandoned":
		t.state = "abandoned"
		if l.last == tokSemi {
			return ""
		}
	case "hardware":
		if l.next() == tokWord && string(l.token) == "ethernet" && l.next() == tokWord {
			r.setMAC(l.token)
		}
	case "uid":
		if v := l.value(); len(v) <= maxID {
			r.Client = colons(v)
		}
	case "client-hostname":
		if v := l.value(); len(v) <= maxID {
			r.Hostname = string(v)
		}
	case "option":
		if l.next() == tokWord {
			p.option(r, l.token)
		}
	}
	return l.skip()
}

// option reads the value of an agent option.
func (p *iscParser) option(r *Record, name []byte) {
	var to *string
	switch string(name) {
	case "agent.circuit-id":
		to = &r.Circuit
	case "agent.remote-id":
		to = &r.Remote
	case "agent.unknown-6", "agent.subscriber-id":
		to = &r.Subscriber
	default:
		return
	}
	if v := p.lex.value(); len(v) <= maxID {
		*to = words(v)
	}
}

// settle4 makes the state of a DHCPv4 lease: the server sets "ends" when it
// ends, for whatever reason.
func (t *iscTimes) settle4(r *Record) string {
	if t.bad {
		return badTime
	}
	r.Heard, r.Until = t.cltt, t.ends
	if r.Heard == 0 {
		r.Heard = t.starts
	} else if t.starts > 0 && t.starts < t.cltt {
		r.Held = t.cltt - t.starts
	}
	switch t.state {
	case "active", "":
		return ""
	case "free", "backup", "reset", "bootp":
		r.State = Deleted
	case "expired":
		r.State = Expired
	case "released":
		r.State = Released
	case "abandoned":
		r.State = Declined
	default:
		return badState
	}
	r.Ended, r.Until = t.ends, 0
	return ""
}

// association reads `"…" { cltt …; iaaddr … { … } }`. Its name is the IAID and
// the client's DUID.
func (p *iscParser) association(delegated bool, take func(*Record)) string {
	if p.lex.next() != tokString {
		return p.cutOr(badSyntax)
	}
	id := unescapeISC(p.lex.token)
	var base Record
	if len(id) > 4 && len(id) <= 4+maxID {
		base.IAID = binary.LittleEndian.Uint32(id)
		if p.big {
			base.IAID = binary.BigEndian.Uint32(id)
		}
		base.Client = colons(id[4:])
		base.macOfDUID(id[4:])
	}
	if !p.open() {
		return p.cutOr(badSyntax)
	}
	var t iscTimes
	found := p.six[:0]
	for {
		switch p.lex.next() {
		case tokClose:
			if t.bad {
				return badTime
			}
			p.used++
			p.leases += uint64(len(found))
			for i := range found {
				take(&found[i])
			}
			return ""
		case tokWord:
			switch string(p.lex.token) {
			case "iaaddr", "iaprefix":
				r := base
				if reason := p.leaf(&r, delegated, t.cltt); reason != "" {
					return reason
				}
				found = append(found, r)
			default:
				if reason := p.statement(&Record{}, &t); reason != "" {
					return reason
				}
			}
		default:
			return p.cutOr(badSyntax)
		}
	}
}

// leaf reads an address or prefix of an association.
func (p *iscParser) leaf(r *Record, delegated bool, cltt int64) string {
	if p.lex.next() != tokWord {
		return p.cutOr(badSyntax)
	}
	fine := false
	text := string(p.lex.token)
	if x, err := netip.ParsePrefix(text); err == nil && delegated {
		fine = r.setPrefix(x.Addr(), true, x.Bits())
	} else if a, err := netip.ParseAddr(text); err == nil && !delegated && a.Is6() {
		fine = r.setPrefix(a, false, 0)
	}
	if !p.open() {
		return p.cutOr(badSyntax)
	}
	t := iscTimes{cltt: cltt}
	for {
		switch p.lex.next() {
		case tokClose:
			switch {
			case !fine:
				return badAddress
			case t.bad:
				return badTime
			}
			return t.settle6(r)
		case tokWord:
			if reason := p.statement(r, &t); reason != "" {
				return reason
			}
		default:
			return p.cutOr(badSyntax)
		}
	}
}

// settle6 makes the state of a DHCPv6 lease: "ends" stays what it was when a
// client gives the lease back, and "cltt" is when it did.
func (t *iscTimes) settle6(r *Record) string {
	r.Heard, r.Until = t.cltt, t.ends
	switch t.state {
	case "active", "":
		return ""
	case "expired":
		r.State, r.Ended = Expired, t.ends
	case "released":
		r.State, r.Ended = Released, t.cltt
	case "abandoned":
		r.State, r.Ended = Declined, t.cltt
	case "free", "backup", "reset":
		r.State, r.Ended = Deleted, t.ends
	default:
		return badState
	}
	r.Until = 0
	return ""
}

// time reads "2 2013/12/10 12:57:04", "epoch 1507216949" or "never"; 0 is never
// and not said.
func (t *iscTimes) time(l *iscLexer) int64 {
	if l.next() != tokWord {
		t.bad = true
		return 0
	}
	switch string(l.token) {
	case "never":
		return 0
	case "epoch":
		if l.next() == tokWord {
			if n, ok := number(l.token, maxSeconds); ok {
				return int64(n)
			}
		}
		t.bad = true
		return 0
	}
	if l.next() != tokWord { // after the day of the week
		t.bad = true
		return 0
	}
	y, m, d, ok1 := triple(l.token, '/')
	if l.next() != tokWord {
		t.bad = true
		return 0
	}
	h, min, s, ok2 := triple(l.token, ':')
	if !ok1 || !ok2 || y < 1970 || y > 2105 || m < 1 || m > 12 || d < 1 || d > 31 || h > 23 || min > 59 || s > 60 {
		t.bad = true
		return 0
	}
	return daysSince1970(y, m, d)*86400 + int64(h*3600+min*60+s)
}

// triple reads three numbers with a separator between.
func triple(b []byte, sep byte) (x, y, z int, ok bool) {
	var n [3]int
	i := 0
	for _, c := range b {
		switch {
		case c == sep && i < 2:
			i++
		case c >= '0' && c <= '9' && n[i] < 1e5:
			n[i] = 10*n[i] + int(c-'0')
		default:
			return 0, 0, 0, false
		}
	}
	return n[0], n[1], n[2], i == 2
}

// daysSince1970 counts days of the Gregorian calendar.
func daysSince1970(y, m, d int) int64 {
	if m <= 2 {
		y--
		m += 12
	}
	return int64(365*y+y/4-y/100+y/400+(153*(m-3)+2)/5+d-1) - 719468
}

// unescapeISC undoes quotify of dhcpd: \" \\ and three octal digits.
func unescapeISC(b []byte) []byte {
	if bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c != '\\' || i+1 >= len(b) {
			out = append(out, c)
			continue
		}
		i++
		if i+2 < len(b) && isOctal(b[i]) && isOctal(b[i+1]) && isOctal(b[i+2]) {
			out = append(out, (b[i]-'0')<<6|(b[i+1]-'0')<<3|(b[i+2]-'0'))
			i += 2
			continue
		}
		if j := strings.IndexByte("ntrb", b[i]); j >= 0 {
			out = append(out, "\n\t\r\b"[j])
			continue
		}
		out = append(out, b[i])
	}
	return out
}

func isOctal(c byte) bool { return c >= '0' && c <= '7' }
