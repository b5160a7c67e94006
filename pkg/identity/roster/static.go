package roster

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// ErrStatic is wrapped by every error about a static table.
var ErrStatic = errors.New("static table")

// Static says that a subscriber has a prefix, or ports of it, for good.
type Static struct {
	Prefix      netip.Prefix // masked
	FirstPort   uint16       // both 0: all ports
	LastPort    uint16
	Subscriber  string
	Line, Place string
	From, Until time.Time // zero: not known since when; for good
	Where       string    // for messages: "line 7", "static[2]"
}

const (
	maxText = 255     // bytes of a field
	maxRows = 1 << 20 // of a table
)

// columns that a file may have, and what its fields do.
var columns = map[string]func(s *Static, field string) error{
	"prefix": func(s *Static, f string) (err error) { s.Prefix, err = ParsePrefix(f); return err },
	"subscriber": func(s *Static, f string) error {
		s.Subscriber = f
		return nil
	},
	"line":  func(s *Static, f string) error { s.Line = f; return nil },
	"place": func(s *Static, f string) error { s.Place = f; return nil },
	"ports": func(s *Static, f string) (err error) { s.FirstPort, s.LastPort, err = ParsePorts(f); return err },
	"from":  func(s *Static, f string) (err error) { s.From, err = parseTime(f); return err },
	"until": func(s *Static, f string) (err error) { s.Until, err = parseTime(f); return err },
}

const columnNames = "prefix, subscriber, ports, line, place, from, until"

// ParsePrefix reads an address or a prefix without bits behind its length.
func ParsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" && !a.Is4In6() {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || p.Addr().Is4In6():
		return p, errors.New("it is not an address or prefix; write for example 192.0.2.8/29 or 2001:db8:7::/48")
	case p != p.Masked():
		return p, errors.New("it has bits set behind its length")
	case p.Bits() == 0:
		return p, errors.New("it would hold every address")
	}
	return p, nil
}

// ParsePorts reads "1024-2047"; "" is all ports.
func ParsePorts(s string) (first, last uint16, err error) {
	if s == "" {
		return 0, 0, nil
	}
	a, b, _ := strings.Cut(s, "-")
	x, err1 := strconv.ParseUint(a, 10, 16)
	y, err2 := strconv.ParseUint(b, 10, 16)
	if err1 != nil || err2 != nil || x > y || y == 0 {
		return 0, 0, errors.New("they are not a range of ports; write for example 1024-2047")
	}
	return uint16(x), uint16(y), nil
}

func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil && t.Year() >= 1971 && t.Year() < 2200 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errors.New("it is not a time; write for example 2025-03-01 or 2025-03-01T12:00:00Z")
}

// ParseStatic reads a table: CSV with a header, columns in any order, separated
// by comma or semicolon. The error wraps ErrStatic, names line and column, and
// repeats nothing of the file; then there are no rows.
func ParseStatic(r io.Reader) ([]Static, error) {
	in := bufio.NewReaderSize(r, 1<<16)
	if b, err := in.Peek(3); err == nil && string(b) == "\ufeff" {
		_, _ = in.Discard(3) // it was there to be peeked at
	}
	head, _ := in.Peek(4096) // short at the end of the file
	line, _, _ := strings.Cut(string(head), "\n")
	c := csv.NewReader(in)
	if strings.Count(line, ";") > strings.Count(line, ",") {
		c.Comma = ';'
	}
	c.TrimLeadingSpace = true
	names, err := c.Read()
	if err != nil {
		return nil, csvError(err)
	}
	if err := checkHeader(names); err != nil {
		return nil, err
	}
	var rows []Static
	for {
		fields, err := c.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, csvError(err)
		}
		if len(rows) == maxRows {
			return nil, fmt.Errorf("%w: more than %d rows", ErrStatic, maxRows)
		}
		row, err := parseRow(c, names, fields)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
}

func csvError(err error) error {
	var p *csv.ParseError
	switch {
	case errors.As(err, &p):
		return fmt.Errorf("%w: line %d, column %d: %w", ErrStatic, p.Line, p.Column, p.Err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it is empty; the first line names the columns: %s", ErrStatic, columnNames)
	}
	return fmt.Errorf("%w: %w", ErrStatic, err)
}

func checkHeader(names []string) error {
	for i := range names {
		names[i] = strings.ToLower(strings.TrimSpace(names[i]))
		if columns[names[i]] == nil {
			return fmt.Errorf("%w: line 1: column %d has no name that is known; use %s", ErrStatic, i+1, columnNames)
		}
		if slices.Contains(names[:i], names[i]) {
			return fmt.Errorf("%w: line 1: column %q is there twice", ErrStatic, names[i])
		}
	}
	for _, need := range []string{"prefix", "subscriber"} {
		if !slices.Contains(names, need) {
			return fmt.Errorf("%w: line 1: column %q is missing", ErrStatic, need)
		}
	}
	return nil
}

func parseRow(c *csv.Reader, names, fields []string) (row Static, err error) {
	for i, f := range fields {
		line, column := c.FieldPos(i)
		f = strings.TrimSpace(f)
		if err = columns[names[i]](&row, f); err == nil && len(f) > maxText {
			err = fmt.Errorf("it is longer than %d bytes", maxText)
		}
		if err != nil {
			return row, fmt.Errorf("%w: line %d, column %d (%s): %w", ErrStatic, line, column, names[i], err)
		}
		row.Where = fmt.Sprintf("line %d", line)
	}
	if err := row.check(); err != nil {
		return row, fmt.Errorf("%w: %s: %w", ErrStatic, row.Where, err)
	}
	return row, nil
}

func (s *Static) check() error {
	switch {
	case !s.Prefix.IsValid():
		return errors.New("the prefix is missing")
	case s.Subscriber == "":
		return errors.New("the subscriber is missing")
	case !s.Until.IsZero() && !s.From.Before(s.Until):
		return errors.New("it ends before it begins")
	case s.LastPort != 0 && !s.Prefix.IsSingleIP():
		return errors.New("ports belong to one address, not to a prefix")
	}
	return nil
}

// CheckStatic refuses rows that are incomplete, or of which two give one address
// and port to somebody at one time. The error wraps ErrStatic and names both.
func CheckStatic(rows []Static) error {
	order := make([]*Static, len(rows))
	for i := range rows {
		if err := rows[i].check(); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrStatic, rows[i].Where, err)
		}
		order[i] = &rows[i]
	}
	slices.SortStableFunc(order, func(a, b *Static) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	var around []*Static // those that hold the present row's first address
	for _, s := range order {
		around = slices.DeleteFunc(around, func(o *Static) bool { return !o.Prefix.Contains(s.Prefix.Addr()) })
		for _, o := range around {
			if s.meets(o) {
				return fmt.Errorf("%w: %s and %s overlap: the same addresses at the same time; make them disjoint, or give them other times", ErrStatic, o.Where, s.Where)
			}
		}
		around = append(around, s)
	}
	return nil
}

// meets reports whether rows of overlapping prefixes share ports and time.
func (s *Static) meets(o *Static) bool {
	a, b, c, d := s.FirstPort, s.lastPort(), o.FirstPort, o.lastPort()
	return a <= d && c <= b && (o.Until.IsZero() || s.From.Before(o.Until)) && (s.Until.IsZero() || o.From.Before(s.Until))
}

func (s *Static) lastPort() uint16 {
	if s.FirstPort == 0 && s.LastPort == 0 {
		return math.MaxUint16
	}
	return s.LastPort
}

// nas is the name of the table as a source.
const nas = "static"

// id names a row by all that it says: one that is changed is another one.
func (s *Static) id() string {
	return fmt.Sprintf("%s %d-%d %s %s %s %d %d", s.Prefix, s.FirstPort, s.lastPort(), s.Subscriber, s.Line, s.Place, unix(s.From), unix(s.Until))
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func (s *Static) event(kind identity.Kind, at time.Time) identity.Event {
	e := identity.Event{
		Kind: kind, At: at.UnixNano(), Source: session.SourceStatic, NAS: nas, Session: s.id(),
		Subscriber: s.Subscriber, Line: s.Line, Place: s.Place,
		Leases: []identity.Lease{{Kind: identity.StaticPrefix, Prefix: s.Prefix, FirstPort: s.FirstPort, LastPort: s.LastPort}},
	}
	if !s.Until.IsZero() {
		e.Until = s.Until.UnixNano()
	}
	return e
}

// Events returns what the rows say that the book does not know at the time now,
// when it holds those bindings.
func Events(rows []Static, held []session.Binding, now time.Time) (events []identity.Event) {
	known := map[string]*session.Binding{}
	for i := range held {
		if b := &held[i]; b.Source == session.SourceStatic && b.SourceName == nas && b.To > now.UnixNano() {
			known[b.SourceKey] = b
		}
	}
	for i := range rows {
		s := &rows[i]
		if !s.Until.IsZero() && !now.Before(s.Until) {
			continue // over: what is known of it is in the record
		}
		e := s.event(identity.Interim, now)
		if known[e.SourceKey()] != nil {
			delete(known, e.SourceKey())
			continue
		}
		if !s.From.IsZero() {
			events = append(events, s.event(identity.Start, s.From))
		}
		if s.From.Before(now) {
			events = append(events, e)
		}
	}
	for key, b := range known { // gone
		events = append(events, identity.Event{
			Kind: identity.Stop, At: max(now.UnixNano(), b.From), Source: session.SourceStatic, NAS: nas, Session: strings.TrimPrefix(key, keyPrefix), Subscriber: b.Subscriber,
			Leases: []identity.Lease{{Kind: identity.StaticPrefix, Prefix: b.Prefix, FirstPort: b.FirstPort, LastPort: b.LastPort}},
		})
	}
	return events
}

// keyPrefix stands before the session in the key of a row.
var keyPrefix = (&identity.Event{Source: session.SourceStatic, NAS: nas}).SourceKey()
