package disclose

import (
	"testing"

	"github.com/edgelog/edgelog/pkg/vault"
)

// unknown stands for somebody of whom the kernel says nothing.
var unknown = &Caller{}

func (r *gateRoom) olga() Caller {
	return Caller{Person: "Olga", UID: 101, GID: 100, Officer: true, Key: r.officer.pair.Recipient}
}

func (r *gateRoom) carl() Caller {
	return Caller{Person: "Carl", UID: 102, GID: 100, Custodian: true, Key: r.custodian.pair.Recipient}
}

func (r *gateRoom) as(c Caller) { r.by.Store(&c) }

// order is a request for what q asks.
func (r *gateRoom) order(q *Query) *Request {
	return &Request{
		Authorisation: Authorisation{Country: "DK", Authority: "Police of the West", Number: q.Reference, LegalBasis: "RPL 786, court order of 1 March"},
		Task:          Task{Query: *q, MaxHits: MostHits, Priority: Routine},
		Delivery:      Delivery{Recipient: r.officer.pair.Recipient, To: "by hand"},
	}
}

// filed has Olga file a request for what q asks.
func (r *gateRoom) filed(t *testing.T, q *Query) int64 {
	t.Helper()
	r.as(r.olga())
	f, err := FileRequest(t.Context(), r.client, r.order(q))
	if err != nil {
		t.Fatal(err)
	}
	return f.Case.ID
}

// approve has somebody approve it with an identity.
func (r *gateRoom) approve(t *testing.T, id int64, by Caller, ids *vault.Identities) (*Case, *Found, error) {
	t.Helper()
	r.as(by)
	l, err := GetRequest(t.Context(), r.client, id)
	if err != nil {
		return nil, nil, err
	}
	return ApproveRequest(t.Context(), r.client, l, ids, r.options.Now(), nil)
}

// run has Olga run it.
func (r *gateRoom) run(t *testing.T, id int64) (*Found, error) {
	t.Helper()
	r.as(r.olga())
	l, err := GetRequest(t.Context(), r.client, id)
	if err != nil {
		return nil, err
	}
	p, _, err := RunPermit(l, r.officer.ids)
	if err != nil {
		return nil, err
	}
	f, _, err := Read(t.Context(), r.client, p)
	return f, err
}

// whole is the way of a question: filed by Olga, approved by Carl, run by Olga.
func (r *gateRoom) whole(t *testing.T, q *Query) (*Found, error) {
	t.Helper()
	id := r.filed(t, q)
	if _, _, err := r.approve(t, id, r.carl(), r.custodian.ids); err != nil {
		return nil, err
	}
	return r.run(t, id)
}

func (r *gateRoom) ask(t *testing.T, q *Query) (*Answer, error) {
	t.Helper()
	f, err := r.whole(t, q)
	if err != nil {
		return nil, err
	}
	return f.Sessions, nil
}

func (r *gateRoom) askWho(t *testing.T, q *Query) (*WhoAnswer, error) {
	t.Helper()
	f, err := r.whole(t, q)
	if err != nil {
		return nil, err
	}
	return f.Who, nil
}

func (r *gateRoom) askAccess(t *testing.T, q *Query) (*AccessAnswer, error) {
	t.Helper()
	f, err := r.whole(t, q)
	if err != nil {
		return nil, err
	}
	return f.Access, nil
}

// holdOf has Carl hold what Olga's request for q finds.
func (r *gateRoom) holdOf(t *testing.T, q *Query, ids *vault.Identities) (*HoldAnswer, error) {
	t.Helper()
	asked := *q
	asked.Ask = ""
	id := r.filed(t, &asked)
	if _, _, err := r.approve(t, id, r.carl(), r.custodian.ids); err != nil {
		return nil, err
	}
	l, err := GetRequest(t.Context(), r.client, id)
	if err != nil {
		return nil, err
	}
	p, _, err := HoldPermit(l, r.custodian.ids)
	if err != nil {
		return nil, err
	}
	p.Identities = ids
	return MakeHold(t.Context(), r.client, p)
}

// permit is by what right Carl reads to approve what Olga files for q.
func (r *gateRoom) permit(t *testing.T, q *Query, ids *vault.Identities) *Permit {
	t.Helper()
	id := r.filed(t, q)
	r.as(r.carl())
	l, err := GetRequest(t.Context(), r.client, id)
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := l.Cases[0].Open(r.custodian.ids)
	if err != nil {
		t.Fatal(err)
	}
	return &Permit{Act: Approve, Request: id, Text: text, Query: q, Identities: ids}
}

// opening is what Carl's process begins with.
func (r *gateRoom) opening(t *testing.T) opening {
	p := r.permit(t, askAnna(), nil)
	return opening{Act: p.Act, Request: p.Request, Text: p.Text}
}

// mayRun has Carl approve a request of Olga's, and returns by what right she runs it.
func (r *gateRoom) mayRun(t *testing.T) *Permit {
	t.Helper()
	id := r.filed(t, askAnna())
	if _, _, err := r.approve(t, id, r.carl(), r.custodian.ids); err != nil {
		t.Fatal(err)
	}
	r.as(r.olga())
	l, err := GetRequest(t.Context(), r.client, id)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := RunPermit(l, r.officer.ids)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
