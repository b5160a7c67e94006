package disclose

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// CommunicationsAnswer holds the calls and mails of one identifier, as the provider's own
// systems recorded them.
type CommunicationsAnswer struct {
	Query          *Query
	Communications []session.Communication // by start
	Names          []Name                  // of the subscribers in them, as far as the register has them
	Imports        *Imports                // the files that they can be of; nil: not known
	Summary        Summary
}

// communications answers a question about calls and mail.
func (r *reader) communications(ctx context.Context) (a *CommunicationsAnswer, err error) {
	r.exchange = &exchange{seen: map[session.CommunicationID]bool{}}
	if err := r.headsFirst(ctx, moreCommunications); err != nil {
		return nil, err
	}
	a = &CommunicationsAnswer{Query: r.q, Communications: r.exchange.sorted(), Imports: r.begin.Imports}
	r.sum.Records = len(a.Communications)
	r.sum.Coverage, r.sum.ClockErrorMicro, r.sum.Unsynchronised = nil, -1, 0 // these tell of packets
	a.Names, err = r.namesOf(ctx, a.moments())
	return a, err
}

// exchange collects what is found. What was imported twice is one.
type exchange struct {
	seen  map[session.CommunicationID]bool
	list  []session.Communication
	match []session.Communication // of one block
}

func (x *exchange) sorted() []session.Communication {
	type named struct {
		session.Communication
		id session.CommunicationID
	}
	order := make([]named, len(x.list))
	for i := range x.list {
		order[i] = named{x.list[i], x.list[i].ID()}
	}
	slices.SortFunc(order, func(a, b named) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End), bytes.Compare(a.id[:], b.id[:]))
	})
	for i := range order {
		x.list[i] = order[i].Communication
	}
	return x.list
}

func isExchange(kind uint8) bool { return kind == kindCalls || kind == kindMail }

// sought is what a block of communications is asked.
func (q *Query) sought() block.Sought {
	return block.Sought{Party: q.Number + q.Mail, Subscriber: q.Subscriber, Equipment: q.Equipment, From: q.From, To: q.To - 1}
}

// exchanges says in which of the two the identifier may be found.
func (q *Query) exchanges() (calls, mail bool) {
	return q.Mail == "", q.Number == "" && q.Equipment == ""
}

// notAsked says why a question cannot be asked about communications; "" when it can.
func (q *Query) notAsked() (what, remedy string) {
	number, err := session.Numbering{}.ParseSender(q.Number)
	mail, err2 := session.ParseMailAddress(q.Mail)
	switch {
	case q.Address.IsValid() || q.Remote.IsValid() || q.Line != "" || q.Port != nil:
		return "calls and mail are not found by address, line or port", "ask with one of " + q.flags()
	case q.Number != "" && (err != nil || number != q.Number):
		return "the number is not in the form in which numbers are kept", "write it as +4512345678, or a service number as 112"
	case q.Mail != "" && (err2 != nil || mail != q.Mail):
		return "the mail address is not in the form in which addresses are kept", "write it as name@example.net, the domain in lower case"
	case q.Equipment != "" && (len(q.Equipment) < 6 || len(q.Equipment) > 16 || strings.Trim(q.Equipment, "0123456789") != ""):
		return "the equipment is not an IMEI or IMSI", "write it as 6 to 16 digits"
	}
	return "", ""
}

// communicationBlock reads a block of communications, or the head of one: that says whether the
// rest is worth reading.
func (r *reader) communicationBlock(sealed []byte) error {
	x := r.exchange
	if x == nil {
		return errFrame // nobody asked for it
	}
	b, err := r.keyring.open(sealed)
	if errors.Is(err, errOutside) {
		return nil
	}
	if err != nil {
		r.unreadable(sealed)
		return nil
	}
	of, err := r.decoder.LookCommunications(func(i int) ([]byte, error) { return b.Frame(nil, i) })
	if err != nil {
		r.unreadable(sealed)
		return nil
	}
	name, q := nameOf(b.Place), r.q.sought()
	if !r.whole[name] { // else its head has been read
		r.note(&of.Header)
		if !of.MayMatch(q) {
			return nil
		}
		if isPart(sealed) {
			r.heads = append(r.heads, name)
			return nil
		}
	}
	if x.match, err = of.Match(x.match[:0], q); err != nil {
		r.failed()
		return nil
	}
	if len(x.match) == 0 {
		return nil
	}
	for i := range x.match {
		id := x.match[i].ID()
		switch {
		case x.seen[id]:
		case len(x.list) >= MostHits:
			r.sum.Limited = true
			return nil
		default:
			x.seen[id] = true
			x.list = append(x.list, x.match[i])
		}
	}
	return r.keyring.used(sealed)
}

// moments returns who is to be named, and as of when: each subscriber at the start
// of each of his communications.
func (a *CommunicationsAnswer) moments() []moment {
	var out []moment
	for i := range a.Communications {
		if c := &a.Communications[i]; c.Subscriber != "" {
			out = append(out, moment{c.Subscriber, c.Start})
		}
	}
	return out
}

// communications sends the heads of blocks of the reading's window.
func (g *Gate) communications(ctx context.Context, fw *frameWriter, rd *reading) (damaged int, err error) {
	if rd.query.Ask != WantCommunications {
		return 0, errors.New("it was not asked for")
	}
	calls, mail := rd.query.exchanges()
	return g.o.Shelf.Communications(ctx, calls, mail, rd.query.From, rd.query.To, block.CommunicationHeads, g.send(ctx, fw, rd, frameCommunications))
}

// lookCommunications decodes a block of communications and compares its rows with its place.
func (v *verification) lookCommunications(p *vault.Place, plain []byte) error {
	_, list, err := block.DecodeCommunications(plain)
	v.Communications += uint64(len(list))
	for i := range list {
		if c := &list[i]; session.DayOf(c.End) != session.Day(p.Day) || (c.Kind == session.Mail) != (p.Kind == kindMail) {
			return fmt.Errorf("%w: row %d is of another day or kind", errUnlike, i)
		}
	}
	return err
}
