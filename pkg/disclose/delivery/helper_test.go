package delivery

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
)

var noon = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)

func at(d time.Duration) int64 { return noon.Add(d).UnixNano() }

func addr(s string) session.Addr { return session.AddrFrom(netip.MustParseAddr(s)) }

var timeouts = disclose.Timeouts{
	TCP: 5 * time.Minute, UDP: time.Minute, ICMP: time.Minute, Other: time.Minute, HalfOpen: 30 * time.Second, Linger: 2 * time.Second,
}

// evil is a text that each format has to put in quotes.
const evil = "=HYPERLINK(\"http://x\";'a') <b>&amp;\x07 Ærø\r\n--> ]]>"

// sessionsOf returns sessions of each kind there is.
func sampleHits() []disclose.Hit {
	base := session.Session{
		Start: at(-50 * time.Minute), End: at(-49*time.Minute) + 7e6, Proto: session.TCP, Local: session.SideInitiator, EndReason: session.EndFIN,
		Initiator: addr("192.0.2.10"), InitiatorPort: 4000, Responder: addr("198.51.100.9"), ResponderPort: 443,
		InitiatorTCP: 0x1b, ResponderTCP: 0x13, Subscriber: "anna",
	}
	with := func(change func(s *session.Session)) disclose.Hit {
		s := base
		change(&s)
		return disclose.Hit{Session: s, Stored: s.Subscriber}
	}
	hits := []disclose.Hit{
		with(func(*session.Session) {}),
		with(func(s *session.Session) { // translated, from inside
			s.Start, s.Inside, s.InsidePort, s.EndReason = s.Start+1e9, addr("100.64.0.5"), 51000, session.EndRST
		}),
		with(func(s *session.Session) { // translated, from outside
			s.Start, s.Local, s.Inside, s.InsidePort = s.Start+2e9, session.SideResponder, addr("100.64.0.6"), 25
			s.Initiator, s.Responder, s.InitiatorPort, s.ResponderPort = s.Responder, s.Initiator, 55555, 2525
		}),
		with(func(s *session.Session) { // IPv6
			s.Start, s.Initiator, s.Responder, s.Proto, s.EndReason = s.Start+3e9, addr("2001:db8::1"), addr("2001:db8:f::2"), session.UDP, session.EndIdle
			s.InitiatorTCP, s.ResponderTCP = 0, 0
		}),
		with(func(s *session.Session) { // NAT64
			s.Start, s.Inside, s.InsidePort = s.Start+4e9, addr("2001:db8::64"), 6464
		}),
		with(func(s *session.Session) { // no ports
			s.Start, s.Proto, s.InitiatorPort, s.ResponderPort, s.EndReason = s.Start+5e9, session.ICMP, 0, 0, session.EndIdle
			s.InitiatorTCP, s.ResponderTCP = 0, 0
		}),
		with(func(s *session.Session) { // the profile records one end only
			s.Start, s.Flags, s.Responder, s.ResponderPort = s.Start+6e9, session.LocalOnly, session.Addr{}, 0
			s.EndReason = session.EndShutdown
		}),
		with(func(s *session.Session) { // a sample
			s.Start, s.Flags, s.EndReason = s.Start+7e9, session.Sampled|session.MidStream, session.EndSample
		}),
		with(func(s *session.Session) { s.Start, s.Subscriber, s.EndReason = s.Start+8e9, evil, session.EndEvicted }),
	}
	hits[3].Stored, hits[3].Certainty, hits[3].Doubts = "bo", session.ToInferred, []string{`also held by "carl"; perhaps`}
	return hits
}

func sampleSummary(n int) disclose.Summary {
	line := session.Timeline{}.Add(session.Span{Uplink: "eth0", From: noon.Unix() - 3600, To: noon.Unix(), State: session.CoverComplete})
	line = line.Add(session.Span{Uplink: "eth0", From: noon.Unix() - 600, To: noon.Unix() - 590, State: session.CoverMissing, Reasons: session.TableFull, Refused: 12})
	report := session.Report("gw1", noon.Unix()-3600, noon.Unix(), noon.Unix()+100, map[string]session.Timeline{"eth0": line})
	report.Brief(1000)
	return disclose.Summary{
		Gateway: "gw1", Provider: "Net & Co", Profiles: []string{"session"}, LegalBasis: "BEK 988/2006 § 5 stk. 1",
		From: session.FormatTime(at(-time.Hour)), To: session.FormatTime(at(0)), Records: n, SessionBlocks: 3, ClockErrorMicro: 1500,
		RegisterImported: "2025-02-01T00:00:00.000Z", Coverage: report,
	}
}

func sampleNames() []disclose.Name {
	return []disclose.Name{
		{Subscriber: "anna", Name: "Anna Ærø", Address: "Gade 1; 8000 Århus", Services: "fibre", From: at(-1000 * time.Hour), To: session.Forever},
		{Subscriber: evil, Name: "+4512345678", Address: "@SUM(1)", To: session.Forever},
	}
}

func sampleAccess() *disclose.AccessAnswer {
	held := session.Binding{
		Prefix: netip.MustParsePrefix("192.0.2.10/32"), LastPort: 65535, From: at(-2 * time.Hour), To: at(-10 * time.Minute), Subscriber: "anna",
		Line: "+4512345678", Equipment: "02:00:5e:10:00:01", Place: "ap-7", Identity: "anna@net", Source: session.SourceRADIUS, SourceName: "nas1", SourceKey: "nas1/77",
	}
	with := func(change func(b *session.Binding)) disclose.AccessRecord {
		b := held
		change(&b)
		return disclose.AccessRecord{Binding: b}
	}
	records := []disclose.AccessRecord{
		with(func(*session.Binding) {}),
		with(func(b *session.Binding) { b.To, b.Prefix = session.Forever, netip.MustParsePrefix("2001:db8:1::/56") }),
		with(func(b *session.Binding) { b.Prefix = netip.MustParsePrefix("203.0.113.0/28") }),
		with(func(b *session.Binding) { // a block of ports
			b.FirstPort, b.LastPort, b.Via, b.Source = 1024, 2047, netip.MustParseAddr("100.64.0.5"), session.SourceNAT
		}),
		with(func(b *session.Binding) { // leased to equipment
			b.Equipment, b.Via = "", session.EquipmentAddr([6]byte{2, 0, 0x5e, 0x10, 0, 9})
		}),
		with(func(b *session.Binding) { b.Prefix = netip.MustParsePrefix("::1/128"); b.Equipment = "no mac" }),
	}
	records[1].Doubts = []string{"log-off not seen"}
	return &disclose.AccessAnswer{Records: records, Names: sampleNames(), Summary: sampleSummary(len(records))}
}

func sampleWho() *disclose.WhoAnswer {
	a := sampleAccess()
	hits := sampleHits()
	name := sampleNames()[0]
	s := sampleSummary(2)
	return &disclose.WhoAnswer{
		Verdict: disclose.Likely, Reason: "log-off not seen", Persons: 2, Proofs: 2, Summary: s,
		Candidates: []disclose.Candidate{
			{Subscriber: "anna", Name: &name, Links: []session.Binding{a.Records[3].Binding, a.Records[0].Binding}, From: at(-2 * time.Hour), To: session.Forever,
				Sessions: []session.Session{hits[0].Session, hits[1].Session}, Doubts: []string{"log-off not seen"}},
			{Subscriber: "", Links: []session.Binding{a.Records[0].Binding}, From: at(-3 * time.Hour), To: at(0), Sessions: []session.Session{hits[1].Session}},
		},
	}
}

// desk is an agent's ledger with a request that was filed and approved.
type desk struct {
	t      testing.TB
	ledger *ledger.Ledger
	in     Input
	to     *age.X25519Identity
}

// newDesk files a request for the answer, of which one is given.
func newDesk(t testing.TB, sessions *disclose.Answer, who *disclose.WhoAnswer, access *disclose.AccessAnswer, change ...func(*disclose.Request)) *desk {
	t.Helper()
	d := &desk{t: t}
	var err error
	d.ledger, err = ledger.Open(t.TempDir(), ledger.Options{Origin: "edgelog.example.net/gw1", Clock: func() time.Time { return noon.Add(time.Hour) }})
	d.ok(err)
	t.Cleanup(func() { d.ok(d.ledger.Close()) })
	d.to, err = age.GenerateX25519Identity()
	d.ok(err)
	q := disclose.Query{Reference: "2025-1234", Subscriber: "anna", From: at(-time.Hour), To: at(0)}
	switch {
	case who != nil:
		q = *disclose.Who("2025-1234", netip.MustParseAddr("192.0.2.10"), nil, at(-30*time.Minute), time.Second)
		who.Query = &q
	case access != nil:
		q.Ask = disclose.WantAccess
		access.Query = &q
	}
	r := &disclose.Request{
		Authorisation: disclose.Authorisation{Country: "DK", Authority: "Politi & Co", Number: "2025-1234", LegalBasis: "RPL § 780"},
		Task:          disclose.Task{Query: q, MaxHits: 100000, Priority: disclose.Routine},
		Delivery:      disclose.Delivery{Recipient: d.to.Recipient().String()},
		Officer:       "officer", OfficerKey: d.to.Recipient().String(), Filed: noon.Add(30 * time.Minute), Nonce: bytes.Repeat([]byte{7}, 32),
	}
	for _, c := range change {
		c(r)
	}
	text, err := r.Text()
	d.ok(err)
	commitment := disclose.Commitment(text)
	d.add(ledger.Start, nil)
	id := d.add(ledger.Request, map[string]string{"step": "file", "commitment": hex.EncodeToString(commitment[:])})
	d.add(ledger.Gap, nil)
	d.in = Input{
		Request: r, Text: text, ID: id, Entries: []*ledger.Proof{d.prove(id)}, LedgerKey: d.ledger.VerifierKey(),
		Sessions: sessions, Who: who, Access: access, Contacts: []disclose.Contact{{Name: "Vagten", Phone: "+45 12 34 56 78", Mail: "vagt@example.net"}},
		Version: "1.2.3", Timeouts: timeouts,
	}
	d.approve(1, 1)
	return d
}

// approve has so many custodians approve the request, of so many that must, as an agent
// writes it.
func (d *desk) approve(have, must int) {
	d.t.Helper()
	c := disclose.Case{ID: d.in.ID, State: disclose.Approved, Needed: must, Emergency: d.in.Request.Emergency != ""}
	if c.Emergency {
		c.Needed, c.Ratify = 1, noon.Add(24*time.Hour)
	}
	d.in.Entries = d.in.Entries[:1]
	for i := range have {
		c.Approvals = append(c.Approvals, strconv.Itoa(i))
		record, err := json.Marshal(c)
		d.ok(err)
		d.in.Entries = append(d.in.Entries, d.prove(d.add(ledger.Request, map[string]string{
			"step": "approve", "request": strconv.FormatInt(d.in.ID, 10), "record": string(record),
		})))
	}
}

// exchangeDesk has a request for calls and mail.
func exchangeDesk(t testing.TB, a *disclose.CommunicationsAnswer, change ...func(*disclose.Request)) *desk {
	t.Helper()
	d := newDesk(t, nil, nil, nil, append([]func(*disclose.Request){func(r *disclose.Request) {
		r.Task.Query = disclose.Query{Reference: "2025-1234", Ask: disclose.WantCommunications, Number: "+4511111111", From: at(-time.Hour), To: at(0)}
	}}, change...)...)
	a.Query = &d.in.Request.Task.Query
	d.in.Communications = a
	return d
}

func sampleCommunications() *disclose.CommunicationsAnswer {
	call := session.Communication{
		Kind: session.Call, Service: "voice", From: "+4511111111", To: []string{"+4522222222"}, Start: at(-50 * time.Minute), End: at(-49*time.Minute) + 7e6,
		Subscriber: "anna", User: "anna@voip", Equipment: "351234567890123", SIM: "238010123456789", Cell: "17", CellEnd: "18", Place: "55.6761,12.5683",
		PlaceEnd: "Gade 1; 8000 Århus", Delivered: session.Delivered, Record: "=r-1",
	}
	with := func(change func(c *session.Communication)) session.Communication {
		c := call
		change(&c)
		return c
	}
	a := &disclose.CommunicationsAnswer{Names: sampleNames(), Summary: sampleSummary(5), Communications: []session.Communication{
		call,
		with(func(c *session.Communication) { // withheld, and forwarded
			c.Start, c.From, c.Forwarded, c.Delivered = c.Start+1e9, "", []string{"112", "+4533333333"}, session.NotDelivered
		}),
		with(func(c *session.Communication) { // to many
			c.Start, c.Service, c.From, c.To, c.End = c.Start+2e9, "sms", "DSB", []string{"+4511111111", "+4544444444", "+4555555555", "+4566666666"}, c.Start+2e9
		}),
		with(func(c *session.Communication) {
			c.Start, c.Subscriber, c.Service, c.Place = c.Start+3e9, evil, "mms", evil
		}),
		{Kind: session.Mail, From: "Anna.Berg@example.net", To: []string{"b@example.net", "c@example.net"}, Forwarded: []string{"d@example.net"}, Start: at(-20 * time.Minute), End: at(-20*time.Minute) + 2e9, Subscriber: "anna"},
	}}
	a.Summary.Coverage, a.Summary.ClockErrorMicro = nil, -1
	a.Imports = &disclose.Imports{Files: []disclose.ImportedFile{
		{Entry: 3, At: session.FormatTime(at(time.Hour)), Of: "calls", SHA256: "ab", Records: 77, Rejected: 2, FirstDay: "2025-02-27", LastDay: "2025-03-01"},
	}}
	return a
}

func (d *desk) ok(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) add(k ledger.Kind, fields map[string]string) int64 {
	d.t.Helper()
	i, err := d.ledger.Append(context.Background(), ledger.Entry{Kind: k, Fields: fields})
	d.ok(err)
	return i
}

func (d *desk) prove(i int64) *ledger.Proof {
	d.t.Helper()
	p, err := d.ledger.Prove(i)
	d.ok(err)
	return p
}

func (d *desk) build() *Package {
	d.t.Helper()
	p, err := Build(d.in)
	d.ok(err)
	return p
}

// receipt records a reading and its outcome, as the agent does.
func (d *desk) receipt(p *Package) *disclose.Receipt {
	d.t.Helper()
	id := strconv.FormatInt(d.in.ID, 10)
	intent := d.add(ledger.Intent, map[string]string{"action": "lookup", "request": id})
	digest := p.Digest()
	outcome := d.add(ledger.Outcome, map[string]string{
		"action": "lookup", "intent": strconv.FormatInt(intent, 10), "result": "answered", "manifest": hex.EncodeToString(digest[:]), "request": id,
	})
	sig, err := d.ledger.Statement(disclose.PackageStatement(digest))
	d.ok(err)
	return &disclose.Receipt{Intent: d.prove(intent), Outcome: d.prove(outcome), Signature: sig}
}

// zip returns the package as it is before it is encrypted.
func (d *desk) zip() []byte {
	d.t.Helper()
	p := d.build()
	var b bytes.Buffer
	d.ok(p.write(&b, d.receipt(p)))
	return b.Bytes()
}

// sealed returns the package as it is handed over.
func (d *desk) sealed() []byte {
	d.t.Helper()
	p := d.build()
	var b bytes.Buffer
	d.ok(p.Seal(&b, d.receipt(p), d.in.Request.Delivery.Recipient))
	return b.Bytes()
}

func sessionsDesk(t testing.TB) *desk {
	hits := sampleHits()
	return newDesk(t, &disclose.Answer{Hits: hits, Names: sampleNames(), Summary: sampleSummary(len(hits))}, nil, nil)
}

// member returns the content of a member of a zip.
func member(t testing.TB, zip []byte, name string) []byte {
	t.Helper()
	list, err := readZip(zip)
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		if list[i].name == name {
			var b bytes.Buffer
			if err := list[i].unpack(&b); err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		}
	}
	t.Fatalf("there is no %q", name)
	return nil
}
