package session

import (
	"crypto/sha256"
	"encoding/binary"
)

// CommunicationKind says what a communication was. The numbers are stored in blocks
// and never reused.
type CommunicationKind uint8

// The kinds.
const (
	Call CommunicationKind = 1 // a call or short message: parties are numbers
	Mail CommunicationKind = 2 // an e-mail: parties are mail addresses
)

var communicationKinds = [...]string{Call: "call", Mail: "mail"}

// String returns the word that answers use.
func (k CommunicationKind) String() string {
	if k == Call || k == Mail {
		return communicationKinds[k]
	}
	return "kind-" + ProtoName(uint8(k))
}

// Receipt says whether a communication arrived (BEK 988/2006 § 4 no. 4). The
// numbers are stored in blocks and never reused.
type Receipt uint8

// The receipts.
const (
	ReceiptUnknown Receipt = 0 // the provider's record does not say
	Delivered      Receipt = 1 // answered, or delivered
	NotDelivered   Receipt = 2
)

var receipts = [...]string{ReceiptUnknown: "", Delivered: "yes", NotDelivered: "no"}

// String returns the word that files and answers use; "" where it is not known.
func (r Receipt) String() string {
	if int(r) < len(receipts) {
		return receipts[r]
	}
	return "receipt-" + ProtoName(uint8(r))
}

// ParseReceipt returns the receipt of that word, "" included.
func ParseReceipt(word string) (Receipt, bool) {
	for i, w := range receipts {
		if w == word {
			return Receipt(i), true
		}
	}
	return ReceiptUnknown, false
}

// Communication is a call, a short message or a mail as the provider's own systems
// have recorded it (BEK 988/2006 §§ 4 and 6). It comes from a file and not from
// packets, and never holds what was said.
type Communication struct {
	Kind    CommunicationKind
	Service string // of which kind, as the provider names it: voice, sms, mms, voip, smtp

	// Parties in the form of ParseNumber or ParseMailAddress.
	From      string   // the calling number or the sender; "" when it was withheld
	To        []string // the called number, or the receivers
	Forwarded []string // where it was forwarded to, in order

	Start int64 // or when it was sent: UTC, nanoseconds since 1970, whole milliseconds
	End   int64 // or when it was received: likewise, not before Start

	Subscriber string // the provider's id of the customer whose record it is; "" when there is none
	User       string // the identity that the service assigned to him: an account, a SIP user
	Equipment  string // IMEI, digits
	SIM        string // IMSI, digits

	Cell     string // that a mobile was connected to at the start
	CellEnd  string // and at the end
	Place    string // where the mast of Cell stood, as the provider writes it
	PlaceEnd string // and that of CellEnd

	Delivered Receipt
	Record    string // the provider's own number of the record; "" when there is none
}

// MaxReceivers is how many receivers one communication has at most, and to how many
// numbers it is forwarded.
const MaxReceivers = 1024

// CommunicationID names a communication by all that is recorded of it: two records with the
// same ID are one communication, imported twice.
type CommunicationID [sha256.Size]byte

// ID returns the name of c.
func (c *Communication) ID() CommunicationID {
	var space [512]byte
	b := append(space[:0], byte(c.Kind), byte(c.Delivered))
	b = binary.BigEndian.AppendUint64(b, uint64(c.Start))
	b = binary.BigEndian.AppendUint64(b, uint64(c.End))
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	for _, s := range c.Texts() {
		text(*s)
	}
	text(c.From)
	for _, list := range [...][]string{c.To, c.Forwarded} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, s := range list {
			text(s)
		}
	}
	return sha256.Sum256(b)
}

// CommunicationTexts is how many texts Texts returns.
const CommunicationTexts = 10

// Texts returns all that is text but the parties. The order is that of the columns of a
// block, and is never changed.
func (c *Communication) Texts() [CommunicationTexts]*string {
	return [...]*string{&c.Service, &c.Subscriber, &c.User, &c.Equipment, &c.SIM, &c.Cell, &c.CellEnd, &c.Place, &c.PlaceEnd, &c.Record}
}

// Has reports whether party is one of those of c.
func (c *Communication) Has(party string) bool {
	if c.From == party {
		return true
	}
	for _, list := range [...][]string{c.To, c.Forwarded} {
		for _, s := range list {
			if s == party {
				return true
			}
		}
	}
	return false
}
