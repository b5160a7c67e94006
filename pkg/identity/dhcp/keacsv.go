package dhcp

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// parser reads the form of one program's lease file. It keeps its place between
// calls.
type parser interface {
	// parse takes whole items from the start of b and returns the bytes that
	// they fill; whole says that nothing more will come. An error says that
	// the file is of another program.
	parse(b []byte, whole bool, take func(*Record)) (int, error)
	lines() *lineCount
}

// lineCount counts lines, or with ISC dhcpd declarations: read = leases +
// skipped + faults.
type lineCount struct {
	file    string
	line    int // the next line's number, from 1
	read    uint64
	leases  uint64 // records, of which one declaration may hold several
	used    uint64 // items that held leases
	skipped uint64
	faulty  uint64
	fault   func(*Fault)
}

func (c *lineCount) bad(line, column int, reason string) {
	c.faulty++
	if c.fault != nil {
		c.fault(&Fault{File: c.file, Line: line, Column: column, Reason: reason})
	}
}

// maxLine is longer than any line of a lease file.
const maxLine = 1 << 16

// columns of Kea's lease files by name; the order is the file's own.
type keaColumn uint8

const (
	keaAddress keaColumn = iota
	keaHWAddr
	keaClientID
	keaDUID
	keaValid
	keaExpire
	keaType
	keaIAID
	keaPrefixLen
	keaHostname
	keaState
	keaContext
	keaColumns
)

var keaNames = map[string]keaColumn{
	"address": keaAddress, "hwaddr": keaHWAddr, "client_id": keaClientID, "duid": keaDUID, "valid_lifetime": keaValid,
	"expire": keaExpire, "lease_type": keaType, "iaid": keaIAID, "prefix_len": keaPrefixLen, "hostname": keaHostname,
	"state": keaState, "user_context": keaContext,
}

// keaParser reads Kea's memfile: comma-separated, one line for each change of a
// lease, the first line names the columns. Commas within a cell are written as
// &#x2c, but versions before 2.3 leave them as they are in user_context.
type keaParser struct {
	lineCount
	six     bool
	at      [keaColumns]int // column of each; -1: the file does not have it
	columns int             // 0: the first line has not been read
	cells   [][]byte
}

func newKeaParser(file string, six bool) *keaParser {
	return &keaParser{lineCount: lineCount{file: file, line: 1}, six: six}
}

func (p *keaParser) lines() *lineCount { return &p.lineCount }

func (p *keaParser) parse(b []byte, whole bool, take func(*Record)) (int, error) {
	return p.eachLine(b, whole, func(line []byte, n int) error {
		if p.columns == 0 {
			err := p.header(line)
			if err != nil {
				p.bad(n, 0, badForeign)
			} else {
				p.skipped++
			}
			return err
		}
		r, column, reason := p.row(line)
		switch {
		case reason != "":
			p.bad(n, column, reason)
		default:
			p.used++
			p.leases++
			take(&r)
		}
		return nil
	})
}

// eachLine calls do for each line that is not empty. The last one counts only
// with its line feed: until then it may be half written.
func (c *lineCount) eachLine(b []byte, whole bool, do func(line []byte, n int) error) (int, error) {
	done := 0
	for done < len(b) {
		end := bytes.IndexByte(b[done:], '\n')
		if end < 0 {
			if rest := len(b) - done; whole || rest > maxLine {
				c.read++
				reason := badCut
				if rest > maxLine {
					reason = badLength
				}
				c.bad(c.line, 0, reason)
				done = len(b)
			}
			break
		}
		line := bytes.TrimSuffix(b[done:done+end], []byte{'\r'})
		done += end + 1
		n := c.line
		c.line++
		c.read++
		switch {
		case len(line) == 0:
			c.skipped++
		case len(line) > maxLine:
			c.bad(n, 0, badLength)
		default:
			if err := do(line, n); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

// header reads the names of the columns.
func (p *keaParser) header(line []byte) error {
	names := bytes.Split(line, []byte{','})
	for i := range p.at {
		p.at[i] = -1
	}
	for i, n := range names {
		if c, ok := keaNames[string(bytes.TrimSpace(n))]; ok {
			p.at[c] = i
		}
	}
	need := []keaColumn{keaAddress, keaHWAddr, keaClientID, keaValid, keaExpire, keaState}
	if p.six {
		need = []keaColumn{keaAddress, keaDUID, keaValid, keaExpire, keaType, keaIAID, keaPrefixLen}
	}
	if slices.ContainsFunc(need, func(c keaColumn) bool { return p.at[c] < 0 }) {
		version := "DHCPv4"
		if p.six {
			version = "DHCPv6"
		}
		return fmt.Errorf("%w: line 1 of %q does not name the columns of Kea's %s leases; check the path and kind of this server", ErrForeign, p.file, version)
	}
	p.columns = len(names)
	return nil
}

// row reads one line. With a reason the record is not to be used; column is
// the byte at which the bad cell begins, from 1.
func (p *keaParser) row(line []byte) (r Record, column int, reason string) {
	if !p.split(line) {
		return r, 0, badColumns
	}
	bad := func(c keaColumn, reason string) (Record, int, string) {
		return Record{}, columnOf(line, p.cell(c)), reason
	}
	a, err := netip.ParseAddr(string(p.cell(keaAddress)))
	bits, delegated := 0, false
	if p.six {
		kind, _ := number(p.cell(keaType), 2)
		n, ok := number(p.cell(keaPrefixLen), 128)
		if !ok && kind == 2 {
			return bad(keaPrefixLen, badAddress)
		}
		bits, delegated = int(n), kind == 2
	}
	if err != nil || a.Is4() == p.six || !r.setPrefix(a, delegated, bits) {
		return bad(keaAddress, badAddress)
	}
	valid, ok := number(p.cell(keaValid), forever)
	if !ok {
		return bad(keaValid, badTime)
	}
	expire, ok := number(p.cell(keaExpire), maxSeconds+forever)
	if !ok || expire < valid || expire-valid > maxSeconds {
		return bad(keaExpire, badTime)
	}
	state := uint64(0)
	if p.at[keaState] >= 0 {
		if state, ok = number(p.cell(keaState), 9); !ok {
			return bad(keaState, badState)
		}
	}
	if !r.keaState(int64(state), int64(expire-valid), int64(valid)) {
		return bad(keaState, badState)
	}
	p.whom(&r)
	return r, 0, ""
}

// whom reads who holds the lease.
func (p *keaParser) whom(r *Record) {
	r.setMAC(p.cell(keaHWAddr))
	id := p.cell(keaClientID)
	if p.six {
		id = p.cell(keaDUID)
		iaid, _ := number(p.cell(keaIAID), forever)
		r.IAID = uint32(iaid)
	}
	if len(id) <= 3*maxID {
		r.Client = lowerHex(id)
	}
	if p.six && !r.HasMAC {
		r.macOfDUID(fromHex(r.Client))
	}
	if host := p.cell(keaHostname); len(host) <= maxID {
		r.Hostname = string(unescape(host))
	}
	if c := p.cell(keaContext); len(c) > 2 {
		r.keaContext(unescape(c))
	}
}

// Lease states of Kea (its lease.h).
const (
	keaDefault   = 0
	keaDeclined  = 1
	keaReclaimed = 2
	keaReleased  = 3 // since 2.7
)

// keaState sets state and times from Kea's numbers: a lifetime of 0 says that
// the lease is gone, and then cltt is not when it went.
func (r *Record) keaState(state, cltt, valid int64) bool {
	r.Heard = cltt
	if valid != forever {
		r.Until = cltt + valid
	}
	switch state {
	case keaDefault:
		if valid == 0 {
			r.State, r.Until = Released, 0
		}
	case keaDeclined:
		r.State, r.Ended = Declined, cltt
	case keaReclaimed:
		r.State, r.Ended = Expired, r.Until
		if valid == 0 {
			r.State, r.Ended, r.Until = Deleted, 0, 0
		}
	case keaReleased:
		r.State = Released
	default:
		return false
	}
	return true
}

// split cuts a line into p.cells. What is more than the columns belongs to
// user_context, see keaParser.
func (p *keaParser) split(line []byte) bool {
	p.cells = p.cells[:0]
	for rest, more := line, true; more; {
		var cell []byte
		cell, rest, more = cut(rest)
		p.cells = append(p.cells, cell)
	}
	extra := len(p.cells) - p.columns
	if extra <= 0 {
		return extra == 0
	}
	c := p.at[keaContext]
	if c < 0 {
		return false
	}
	first, last := p.cells[c], p.cells[c+extra]
	if len(first) == 0 || first[0] != '{' || len(last) == 0 || last[len(last)-1] != '}' {
		return false
	}
	from, to := len(line)-tail(line, first), len(line)-tail(line, last)+len(last)
	p.cells[c] = line[from:to]
	p.cells = append(p.cells[:c+1], p.cells[c+extra+1:]...)
	return true
}

func cut(b []byte) (cell, rest []byte, more bool) {
	if i := bytes.IndexByte(b, ','); i >= 0 {
		return b[:i:i], b[i+1:], true
	}
	return b, nil, false
}

// tail returns how many bytes of line there are from the start of part on.
func tail(line, part []byte) int {
	for i := range line {
		if len(part) > 0 && &line[i] == &part[0] {
			return len(line) - i
		}
	}
	return 0
}

func columnOf(line, cell []byte) int {
	if len(cell) == 0 {
		return 0
	}
	return len(line) - tail(line, cell) + 1
}

func (p *keaParser) cell(c keaColumn) []byte {
	if i := p.at[c]; i >= 0 {
		return p.cells[i]
	}
	return nil
}

// maxSeconds is a time far in the future, in seconds since 1970: the year 2262
// is where nanoseconds end.
const maxSeconds = 1 << 32

// number reads a decimal number up to most.
func number(b []byte, most uint64) (uint64, bool) {
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	n := uint64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + uint64(c-'0')
	}
	return n, n <= most
}

// lowerHex returns b as a string in lower case if it is hexadecimal with
// colons, else "".
func lowerHex(b []byte) string {
	lower := true
	for i, c := range b {
		switch {
		case c == ':' && i%3 == 2, c >= '0' && c <= '9', c >= 'a' && c <= 'f':
		case c >= 'A' && c <= 'F':
			lower = false
		default:
			return ""
		}
	}
	if lower {
		return string(b)
	}
	return string(bytes.ToLower(b))
}

// unescape turns Kea's &#xHH into the byte.
func unescape(b []byte) []byte {
	if !bytes.Contains(b, []byte("&#x")) {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '&' && i+4 < len(b) && b[i+1] == '#' && b[i+2] == 'x' {
			if n, err := strconv.ParseUint(string(b[i+3:i+5]), 16, 8); err == nil {
				out = append(out, byte(n))
				i += 4
				continue
			}
		}
		out = append(out, b[i])
	}
	return out
}
