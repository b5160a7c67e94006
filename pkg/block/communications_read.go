package block

import (
	"fmt"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// CommunicationHeads is how many frames of a block of communications, from the first, a
// question opens to see whether the block may have an answer.
const CommunicationHeads = 2

// Sought is a question about communications: every condition that is given must hold.
// One matches when any part of it lies in [From, To], in whole milliseconds.
type Sought struct {
	Party      string // a number or mail address, in any place; "" for any
	Subscriber string // or the user's identity
	Equipment  string // an IMEI, with or without its last digits (session.EquipmentKey), or an IMSI

	From, To int64 // UTC, nanoseconds since 1970, both included
}

// Communications is a block of communications, by start. Its columns are unpacked
// when they are needed.
type Communications struct {
	Header
	dir   directory
	frame Frame
	d     *Decoder

	parties, subscribers, equipment filter

	start, end []int64 // milliseconds
	kind, got  []uint8
	names      []string
	from       []uint32    // 0 for none, or 1 + entry of names
	counts     [2][]uint32 // of receivers, and of those it was forwarded to
	to         [2][]uint32 // entries of names
	texts      [session.CommunicationTexts][]string
	which      [session.CommunicationTexts][]uint32
	wanted     []bool
}

// DecodeCommunications returns what EncodeCommunications was given, by start, with times in whole
// milliseconds. The error wraps ErrDamaged, ErrNewer or ErrKind.
func DecodeCommunications(b []byte) (Header, []session.Communication, error) {
	d := decoders.Get().(*Decoder)
	defer decoders.Put(d)
	c, err := d.LookCommunications(unsealed(b))
	if err != nil {
		return Header{}, nil, err
	}
	list, err := c.All(nil)
	return c.Header, list, err
}

// All appends all communications of the block to dst; errors are those of Match.
func (c *Communications) All(dst []session.Communication) ([]session.Communication, error) {
	before := len(dst)
	dst, err := c.Match(dst, Sought{From: c.MinStart * 1e6, To: c.MaxEnd * 1e6})
	if err == nil && len(dst)-before != c.Count {
		return dst[:before], fmt.Errorf("read block of communications: %w: its times are not those of its rows", ErrDamaged)
	}
	return dst, err
}

// LookCommunications reads no more of a block than says whether it may have an
// answer. Where frame gives nil for the filters anything may be there. The result is valid
// until the next call, and uses frame until then. The error wraps ErrDamaged, ErrNewer, ErrKind or that of
// frame.
func (d *Decoder) LookCommunications(frame Frame) (*Communications, error) {
	c := &d.communications
	b, err := frame(0)
	if err != nil {
		return nil, fmt.Errorf("read block of communications: %w", err)
	}
	if c.Header, err = c.dir.read(b, KindCommunications); err != nil {
		return nil, err
	}
	c.frame, c.d = frame, d
	c.parties.some, c.subscribers.some, c.equipment.some = false, false, false
	return c, c.column(colSought, func() {
		for _, f := range []*filter{&c.parties, &c.subscribers, &c.equipment} {
			d.u.filter(f)
		}
	})
}

// column unpacks one column, which must be there.
func (c *Communications) column(id byte, read func()) error {
	what := fmt.Sprintf("column %d", id)
	if c.dir.frame[id] == 0 {
		return fmt.Errorf("read block of communications: %w: %s is missing", ErrDamaged, what)
	}
	b, err := c.frame(int(c.dir.frame[id]))
	if err != nil {
		return fmt.Errorf("read block of communications, %s: %w", what, err)
	}
	if b == nil && id == colSought {
		return nil
	}
	if len(b) != int(c.dir.size[id]) {
		return fmt.Errorf("read block of communications, %s: %w: %d bytes instead of %d", what, ErrDamaged, len(b), c.dir.size[id])
	}
	c.d.u.err = nil
	c.d.u.begin(b, what)
	read()
	c.d.u.end(what)
	if c.d.u.err != nil {
		return fmt.Errorf("read block of communications: %w", c.d.u.err)
	}
	return nil
}

// MayMatch reports whether a communication of the block may be one that q asks
// for. No is certain; of what is not there about 1 in 256 gets a yes.
func (c *Communications) MayMatch(q Sought) bool {
	if c.MinStart > milli(q.To) || c.MaxEnd < milli(q.From) {
		return false
	}
	return (q.Party == "" || c.parties.mayHold(filterKey(q.Party))) &&
		(q.Subscriber == "" || c.subscribers.mayHold(filterKey(q.Subscriber))) &&
		(q.Equipment == "" || c.equipment.mayHold(filterKey(q.Equipment)) || c.equipment.mayHold(filterKey(session.EquipmentKey(q.Equipment))))
}

// Match appends the communications that q asks for to dst. It opens no more columns than it
// must to see that there is none; the error is that of LookCommunications, and dst is then
// returned as it was.
func (c *Communications) Match(dst []session.Communication, q Sought) ([]session.Communication, error) {
	if !c.MayMatch(q) {
		return dst, nil
	}
	c.wanted = grow(c.wanted, c.Count)
	for i := range c.wanted {
		c.wanted[i] = true
	}
	for _, narrow := range [...]func(q *Sought) error{c.byTime, c.byParty, c.bySubscriber, c.byEquipment} {
		if err := narrow(&q); err != nil {
			return dst, err
		}
		if !slices.Contains(c.wanted, true) {
			return dst, nil
		}
	}
	if err := c.rest(&q); err != nil {
		return dst, err
	}
	return c.rows(dst), nil
}

// byTime unpacks start and end.
func (c *Communications) byTime(q *Sought) error {
	d := c.d
	err := c.column(colBegun, func() {
		d.nums = d.u.planes(d.nums, c.Count, uint64(2*MaxMilli))
		c.start = grow(c.start, c.Count)
		last := c.MinStart
		for i, x := range d.nums {
			if last += int64(x); last > MaxMilli {
				d.u.fail("time out of range")
				return
			}
			c.start[i] = last
		}
	})
	if err != nil {
		return err
	}
	return c.column(colLasted, func() {
		d.nums = d.u.scaled(d.nums, c.Count, uint64(2*MaxMilli))
		c.end = grow(c.end, c.Count)
		for i, x := range d.nums {
			if c.end[i] = c.start[i] + int64(x); c.end[i] > c.MaxEnd {
				d.u.fail("time out of range")
				return
			}
			c.wanted[i] = c.start[i] <= milli(q.To) && c.end[i] >= milli(q.From)
		}
	})
}

// byParty unpacks the parties.
func (c *Communications) byParty(q *Sought) error {
	err := c.column(colParties, c.readParties)
	if err != nil || q.Party == "" {
		return err
	}
	found := slices.Index(c.names, q.Party)
	if found < 0 {
		clear(c.wanted)
		return nil
	}
	entry, at := uint32(found), [2]int{}
	for i := range c.Count {
		hit := c.from[i] == entry+1
		for k := range c.to {
			n := int(c.counts[k][i])
			hit = hit || slices.Contains(c.to[k][at[k]:at[k]+n], entry)
			at[k] += n
		}
		c.wanted[i] = c.wanted[i] && hit
	}
	return nil
}

// readParties is the inverse of Encoder.parties: codes come before the list that they
// are checked against.
func (c *Communications) readParties() {
	d, next := c.d, uint32(0)
	entry := func(code uint64) uint32 { // 0 for none, or 1 + entry
		switch {
		case code == partyNew:
			next++
			return next
		case code >= partyFirst && code-partyFirst >= uint64(next):
			d.u.fail("party %d of %d", code, next)
			return 0
		case code == partyNone:
			return 0
		}
		return uint32(code) - partyFirst + 1
	}
	d.nums = d.u.planes(d.nums, c.Count, maxParties+MaxRows+partyFirst)
	c.from = grow(c.from, c.Count)
	for i, code := range d.nums {
		c.from[i] = entry(code)
	}
	all := 0
	for k := range c.to {
		d.nums = d.u.planes(d.nums, c.Count, session.MaxReceivers)
		c.counts[k] = narrow(c.counts[k], d.nums)
		sum := 0
		for _, n := range d.nums {
			sum += int(n)
		}
		if all += sum; all > maxParties {
			d.u.fail("%d receivers", all)
			return
		}
		d.nums = d.u.planes(d.nums, sum, maxParties+MaxRows+partyFirst)
		c.to[k] = grow(c.to[k], sum)
		for i, code := range d.nums {
			x := entry(code)
			if x == 0 && d.u.err == nil {
				d.u.fail("a receiver without a name")
			}
			c.to[k][i] = x - 1
		}
	}
	n := d.u.uvarint(maxParties + MaxRows)
	if d.u.err == nil && n != int(next) {
		d.u.fail("%d parties that %d rows have", n, next)
	}
	if d.u.err != nil {
		return
	}
	c.names, d.lens = d.u.texts(c.names, d.lens, n)
}

func (c *Communications) bySubscriber(q *Sought) error {
	return c.byText(q.Subscriber, textSubscriber, textUser, func(s string) bool { return s == q.Subscriber })
}

func (c *Communications) byEquipment(q *Sought) error {
	return c.byText(q.Equipment, textEquipment, textSIM, func(imei string) bool { return session.EquipmentKey(imei) == session.EquipmentKey(q.Equipment) })
}

// byText keeps the rows of which the second text is the wanted one, or the first is
// like it.
func (c *Communications) byText(want string, first, second int, like func(string) bool) error {
	if want == "" {
		return nil
	}
	for _, i := range [...]int{first, second} {
		if err := c.text(i); err != nil {
			return err
		}
	}
	for row := range c.wanted {
		c.wanted[row] = c.wanted[row] && (like(c.texts[first][c.which[first][row]]) || c.texts[second][c.which[second][row]] == want)
	}
	return nil
}

// text unpacks one column of texts.
func (c *Communications) text(i int) error {
	return c.column(byte(colTold+i), func() {
		c.d.names, c.texts[i] = c.texts[i], c.d.names
		c.d.codes(c.Count)
		c.d.names, c.texts[i] = c.texts[i], c.d.names
		c.which[i] = narrow(c.which[i], c.d.nums)
	})
}

// rest unpacks what no question looks at.
func (c *Communications) rest(q *Sought) error {
	d := c.d
	err := c.column(colNature, func() {
		d.nums = d.u.planes(d.nums, c.Count, 0xff)
		c.kind = narrow(c.kind, d.nums)
		d.nums = d.u.planes(d.nums, c.Count, 0xff)
		c.got = narrow(c.got, d.nums)
	})
	for i := 0; err == nil && i < session.CommunicationTexts; i++ {
		if q.Subscriber != "" && (i == textSubscriber || i == textUser) || q.Equipment != "" && (i == textEquipment || i == textSIM) {
			continue // it is unpacked
		}
		err = c.text(i)
	}
	return err
}

// rows appends those that are wanted.
func (c *Communications) rows(dst []session.Communication) []session.Communication {
	at := [2]int{}
	for i, wanted := range c.wanted {
		var lists [2][]uint32
		for k := range c.to {
			n := int(c.counts[k][i])
			lists[k] = c.to[k][at[k] : at[k]+n]
			at[k] += n
		}
		if !wanted {
			continue
		}
		x := session.Communication{
			Kind: session.CommunicationKind(c.kind[i]), Delivered: session.Receipt(c.got[i]),
			Start: c.start[i] * 1e6, End: c.end[i] * 1e6, To: c.named(lists[0]), Forwarded: c.named(lists[1]),
		}
		if c.from[i] > 0 {
			x.From = c.names[c.from[i]-1]
		}
		for n, text := range x.Texts() {
			*text = c.texts[n][c.which[n][i]]
		}
		dst = append(dst, x)
	}
	return dst
}

func (c *Communications) named(entries []uint32) []string {
	if len(entries) == 0 {
		return nil
	}
	out := make([]string, len(entries))
	for i, x := range entries {
		out[i] = c.names[x]
	}
	return out
}
