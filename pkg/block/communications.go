package block

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// Columns of a block of communications. The numbers are stored and never reused.
const (
	colSought   = 1 // filters of parties, of subscribers and users, of equipment and SIMs
	colBegun    = 2 // start, milliseconds after the row before
	colLasted   = 3 // end less start, milliseconds
	colNature   = 4 // kind and receipt
	colParties  = 5 // from, to, forwarded
	colTold     = 6 // this and the next nine: the texts in the order of session.Communication.Texts
	commColumns = 5 + session.CommunicationTexts
)

// Codes of parties. The numbers are stored and never reused.
const (
	partyNone  = 0 // there is none
	partyNew   = 1 // the next of the list, here for the first time
	partyFirst = 2 // and above: entry of the list
)

// maxParties bounds all receivers of a block.
const maxParties = 1 << 20

// Places of the texts that are sought, in the order of session.Communication.Texts.
const (
	textSubscriber = 1
	textUser       = 2
	textEquipment  = 3
	textSIM        = 4
)

// EncodeCommunications does for communications what EncodeSessions does for sessions.
func EncodeCommunications(dst []byte, h Header, c []session.Communication) ([]byte, error) {
	e := encoders.Get().(*Encoder)
	defer encoders.Put(e)
	return e.Communications(dst, h, c)
}

// Communications is EncodeCommunications with the buffers of e. Times are cut to whole
// milliseconds. The error wraps ErrEmpty or ErrTooBig; dst is then returned as it was.
func (e *Encoder) Communications(dst []byte, h Header, list []session.Communication) ([]byte, error) {
	if err := checkRows(len(list)); err != nil {
		return dst, fmt.Errorf("encode %d communications: %w", len(list), err)
	}
	h.Kind, h.Count = KindCommunications, len(list)
	rows, err := sortCommunications(&h, list)
	if err != nil {
		return dst, fmt.Errorf("encode %d communications: %w", len(list), err)
	}
	columns := make([]byte, commColumns)
	for i := range columns {
		columns[i] = byte(colSought + i)
	}
	out, err := e.begin(dst, &h, columns)
	if err != nil {
		return dst, err
	}
	at := len(out)
	e.p.out, e.err = out, nil
	write := []func(){
		func() { e.sought(rows) }, func() { e.begun(rows, h.MinStart) }, func() { e.lasted(rows) }, func() { e.nature(rows) }, func() { e.parties(rows) },
	}
	for i := range session.CommunicationTexts {
		write = append(write, func() { e.told(rows, i) })
	}
	for i := range columns {
		write[i]()
		at = e.close(len(dst), &h, len(columns), i, at)
	}
	out, e.p.out = e.p.out, nil
	if e.err != nil {
		return dst, fmt.Errorf("encode %d communications: %w", len(list), e.err)
	}
	return out, nil
}

// sortCommunications returns the rows in their order, and refuses what a reader would.
func sortCommunications(h *Header, list []session.Communication) ([]*session.Communication, error) {
	rows := make([]*session.Communication, len(list))
	h.MinStart, h.MaxEnd = MaxMilli, -MaxMilli
	receivers := 0
	for i := range list {
		c := &list[i]
		if err := checkCommunication(c); err != nil {
			return nil, fmt.Errorf("row %d: %w", i, err)
		}
		receivers += len(c.To) + len(c.Forwarded)
		h.MinStart, h.MaxEnd = min(h.MinStart, milli(c.Start)), max(h.MaxEnd, milli(c.End))
		rows[i] = c
	}
	if receivers > maxParties {
		return nil, fmt.Errorf("%w: %d receivers, at most %d", ErrTooBig, receivers, maxParties)
	}
	slices.SortStableFunc(rows, func(a, b *session.Communication) int {
		return cmp.Or(cmp.Compare(milli(a.Start), milli(b.Start)), cmp.Compare(a.End, b.End), cmp.Compare(a.From, b.From))
	})
	return rows, nil
}

func checkCommunication(c *session.Communication) error {
	switch {
	case milli(c.End) < milli(c.Start):
		return fmt.Errorf("%w: it ends before it begins", ErrTooBig)
	case len(c.To) > session.MaxReceivers || len(c.Forwarded) > session.MaxReceivers:
		return fmt.Errorf("%w: more than %d receivers", ErrTooBig, session.MaxReceivers)
	}
	longest := len(c.From)
	for _, s := range c.Texts() {
		longest = max(longest, len(*s))
	}
	for _, some := range [...][]string{c.To, c.Forwarded} {
		for _, s := range some {
			if s == "" {
				return fmt.Errorf("%w: a receiver without a name", ErrTooBig)
			}
			longest = max(longest, len(s))
		}
	}
	if longest > MaxText {
		return fmt.Errorf("%w: a text has %d bytes, at most %d", ErrTooBig, longest, MaxText)
	}
	return nil
}

// sought writes the filters that a question looks at first.
func (e *Encoder) sought(rows []*session.Communication) {
	for _, keysOf := range [...]func(*session.Communication, func(string)){
		func(c *session.Communication, add func(string)) {
			add(c.From)
			for _, s := range c.To {
				add(s)
			}
			for _, s := range c.Forwarded {
				add(s)
			}
		},
		func(c *session.Communication, add func(string)) { add(c.Subscriber); add(c.User) },
		func(c *session.Communication, add func(string)) { add(session.EquipmentKey(c.Equipment)); add(c.SIM) },
	} {
		e.names.reset()
		for _, c := range rows {
			keysOf(c, func(s string) {
				if s != "" {
					e.names.number(s)
				}
			})
		}
		e.filterKeys = e.filterKeys[:0]
		for _, s := range e.names.values {
			e.filterKeys = append(e.filterKeys, filterKey(s))
		}
		e.p.filter(e.filterKeys)
	}
}

func (e *Encoder) begun(rows []*session.Communication, first int64) {
	e.nums = grow(e.nums, len(rows))
	last := first
	for i, c := range rows {
		at := milli(c.Start)
		e.nums[i], last = uint64(at-last), at
	}
	e.p.planes(e.nums)
}

func (e *Encoder) lasted(rows []*session.Communication) {
	e.nums = grow(e.nums, len(rows))
	for i, c := range rows {
		e.nums[i] = uint64(milli(c.End) - milli(c.Start))
	}
	e.p.scaled(e.nums)
}

func (e *Encoder) nature(rows []*session.Communication) {
	e.nums = grow(e.nums, len(rows))
	for i, c := range rows {
		e.nums[i] = uint64(c.Kind)
	}
	e.p.planes(e.nums)
	for i, c := range rows {
		e.nums[i] = uint64(c.Delivered)
	}
	e.p.planes(e.nums)
}

// parties writes the codes of from, how many receivers each row has and their codes, the
// same of those it was forwarded to, and the list of all.
func (e *Encoder) parties(rows []*session.Communication) {
	e.names.reset()
	code := func(s string) uint64 {
		if s == "" {
			return partyNone
		}
		known := len(e.names.values)
		n := int(e.names.number(s))
		if n == known {
			return partyNew
		}
		return uint64(n) + partyFirst
	}
	e.nums = grow(e.nums, len(rows))
	for i, c := range rows {
		e.nums[i] = code(c.From)
	}
	e.p.planes(e.nums)
	for _, of := range [...]func(*session.Communication) []string{
		func(c *session.Communication) []string { return c.To }, func(c *session.Communication) []string { return c.Forwarded },
	} {
		e.nums, e.lens = grow(e.nums, len(rows)), e.lens[:0]
		for i, c := range rows {
			list := of(c)
			e.nums[i] = uint64(len(list))
			for _, s := range list {
				e.lens = append(e.lens, code(s))
			}
		}
		e.p.planes(e.nums)
		e.p.planes(e.lens)
	}
	e.err = cmp.Or(e.err, checkTexts(e.names.values))
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(e.names.values)))
	e.lens = e.p.texts(e.names.values, e.lens)
}

// told writes a column of texts as Encoder.text does.
func (e *Encoder) told(rows []*session.Communication, which int) {
	e.names.reset()
	e.nums = grow(e.nums, len(rows))
	for i, c := range rows {
		known := len(e.names.values)
		if n := int(e.names.number(*c.Texts()[which])); n == known {
			e.nums[i] = 0
		} else {
			e.nums[i] = uint64(n) + 1
		}
	}
	e.p.planes(e.nums)
	e.err = cmp.Or(e.err, checkTexts(e.names.values))
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(e.names.values)))
	e.lens = e.p.texts(e.names.values, e.lens)
}
