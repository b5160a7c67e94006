package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"filippo.io/age"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/disclose/delivery"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
)

// provider is a program of the scripts: it answers a request as an agent and an
// officer do, and leaves in the directory it is run in what the authority gets:
// answer.age, receiver.key, ledger.pub, checkpoint (of then) and later.
func provider() {
	to, err := age.GenerateX25519Identity()
	must(err)
	l, err := ledger.Open(must1(os.MkdirTemp("", "provider")), ledger.Options{Origin: "edgelog.example.net/gw1"})
	must(err)
	r := &disclose.Request{
		Authorisation: disclose.Authorisation{Country: "DK", Authority: "Politiet", Number: "2025-1234", LegalBasis: "RPL § 780"},
		Task: disclose.Task{MaxHits: 2, Priority: disclose.Urgent, Query: disclose.Query{
			Reference: "2025-1234", Subscriber: "anna", From: time.Date(2025, 3, 1, 11, 0, 0, 0, time.UTC).UnixNano(), To: time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano(),
		}},
		Delivery: disclose.Delivery{Recipient: to.Recipient().String()},
		Officer:  "officer", OfficerKey: to.Recipient().String(), Filed: time.Date(2025, 3, 1, 13, 0, 0, 0, time.UTC), Nonce: bytes.Repeat([]byte{1}, 32),
	}
	text := must1(r.Text())
	commitment := disclose.Commitment(text)
	add := func(kind ledger.Kind, fields map[string]string) int64 {
		return must1(l.Append(context.Background(), ledger.Entry{Kind: kind, Fields: fields}))
	}
	id := add(ledger.Request, map[string]string{"action": "file", "commitment": hex.EncodeToString(commitment[:])})
	number := strconv.FormatInt(id, 10)
	approval := add(ledger.Request, map[string]string{"action": "approve", "request": number})
	hit := disclose.Hit{Stored: "anna", Session: session.Session{
		Start: r.Task.Query.From, End: r.Task.Query.From + 5e9, Proto: session.TCP, Local: session.SideInitiator, EndReason: session.EndFIN, Subscriber: "anna",
		Initiator: session.AddrFrom(netip.MustParseAddr("192.0.2.10")), InitiatorPort: 4000, Responder: session.AddrFrom(netip.MustParseAddr("198.51.100.9")), ResponderPort: 443,
	}}
	p := must1(delivery.Build(delivery.Input{
		Request: r, Text: text, ID: id, Entries: []*ledger.Proof{must1(l.Prove(id)), must1(l.Prove(approval))}, LedgerKey: l.VerifierKey(),
		Sessions: &disclose.Answer{Hits: []disclose.Hit{hit, hit, hit}, Names: []disclose.Name{{Subscriber: "anna", Name: "Anna", To: session.Forever}},
			Summary: disclose.Summary{Gateway: "gw1", Provider: "Net", Profiles: []string{"session"}, LegalBasis: "BEK"}},
		Version: "1", Timeouts: disclose.Timeouts{TCP: time.Minute},
	}))
	intent := add(ledger.Intent, map[string]string{"action": "lookup", "request": number})
	digest := p.Digest()
	outcome := add(ledger.Outcome, map[string]string{
		"action": "lookup", "intent": strconv.FormatInt(intent, 10), "result": "answered", "manifest": hex.EncodeToString(digest[:]), "request": number,
	})
	receipt := &disclose.Receipt{Intent: must1(l.Prove(intent)), Outcome: must1(l.Prove(outcome)), Signature: must1(l.Statement(disclose.PackageStatement(digest)))}
	var sealed bytes.Buffer
	must(p.Seal(&sealed, receipt, r.Delivery.Recipient))
	then := l.Checkpoint().Note
	add(ledger.Gap, nil)
	for name, b := range map[string][]byte{
		"answer.age": sealed.Bytes(), "receiver.key": []byte(to.String() + "\n"), "ledger.pub": []byte(l.VerifierKey() + "\n"),
		"checkpoint": then, "later": l.Checkpoint().Note,
	} {
		must(os.WriteFile(name, b, 0o600))
	}
	must(l.Close())
	fmt.Println(delivery.Fingerprint(l.VerifierKey()))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func must1[T any](v T, err error) T {
	must(err)
	return v
}
