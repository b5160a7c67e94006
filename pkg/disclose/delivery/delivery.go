package delivery

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
)

// Input is all that a package is made of. Nothing in it is changed.
type Input struct {
	Request *disclose.Request
	Text    []byte // the JSON text of Request, to which the ledger is committed
	ID      int64  // of the request: the index of its ledger entry

	// Entries prove the ledger entries of the request: its filing, then its
	// approvals, in the order of the ledger.
	Entries   []*ledger.Proof
	LedgerKey string // public key of the ledger (VerifierKey)

	// Exactly one of these.
	Sessions *disclose.Answer
	Who      *disclose.WhoAnswer
	Access   *disclose.AccessAnswer

	Communications *disclose.CommunicationsAnswer

	Contacts []disclose.Contact // who answers questions about it, at any hour
	Version  string             // of this software
	Timeouts disclose.Timeouts  // of the definition of a session
}

// ErrInput is wrapped by the errors of Build and Seal about what they are given.
var ErrInput = errors.New("the package cannot be made")

// Package is an answer as it is handed over, but for its receipt.
type Package struct {
	manifest Manifest
	text     []byte   // manifest.json
	members  []stored // that the manifest names
	entries  []*ledger.Proof
}

// Build makes the package of an answer. The same input makes the same package.
//
// Errors: ErrInput.
func Build(in Input) (*Package, error) {
	if err := in.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	f, err := take(&in)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	p := &Package{entries: in.Entries}
	if p.manifest, err = newManifest(&in, f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	m := &p.manifest
	whole := len(m.Answer.Incomplete) == 0
	for _, member := range []struct {
		name, what string
		write      func(io.Writer) error
	}{
		{"README.txt", "what each file is, and how to check it by hand", func(w io.Writer) error { return writeReadme(w, m, f) }},
		{f.kind + ".csv", "the answer, for a spreadsheet", f.csv},
		{f.kind + ".jsonl", "the answer as JSON lines, with all that is known", f.jsonLines},
		{f.kind + ".ipfix", "the answer as an IPFIX file (RFC 5655)", func(w io.Writer) error { return f.ipfix(w, in.Request.Task.Query.To) }},
		{"response.xml", "the answer in the shape of ETSI TS 102 657", func(w io.Writer) error { return f.xml(w, in.Request, whole) }},
		{summaryName, "one page for people", func(w io.Writer) error { return writeSummary(w, m, in.Request, f) }},
	} {
		if member.name == kindCommunications+".ipfix" {
			continue // IPFIX tells of packets
		}
		s, err := pack(member.name, member.write)
		if err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrInput, member.name, err)
		}
		p.members = append(p.members, s)
		m.Members = append(m.Members, Member{Name: member.name, What: member.what, Size: int64(s.size), SHA256: hex.EncodeToString(s.sum[:])})
	}
	if p.text, err = encode(m); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrInput, err)
	}
	return p, nil
}

// Digest returns the SHA-256 of manifest.json: what the ledger's outcome and the
// signature are about.
func (p *Package) Digest() [32]byte { return sha256.Sum256(p.text) }

// MostBytes is at least as long as the file that Seal writes, if the receipt has no
// more than some thousand hashes.
func (p *Package) MostBytes() int64 {
	n := int64(len(p.text)) + 1<<20
	for i := range p.members {
		n += int64(len(p.members[i].data)) + 1<<10
	}
	return n + n>>11 // age adds 16 bytes to each 64 KiB
}

// Manifest returns what manifest.json says.
func (p *Package) Manifest() Manifest { return p.manifest }

// Seal writes the package as a zip that is encrypted by age to the recipient. It
// checks the receipt first: what is sealed is a package that Verify accepts.
//
// Errors: ErrInput, or that of w.
func (p *Package) Seal(w io.Writer, receipt *disclose.Receipt, recipient string) error {
	to, err := age.ParseRecipients(strings.NewReader(recipient))
	if err != nil || len(to) != 1 {
		return fmt.Errorf("%w: %q is not one age public key; give the one of the authority, as age-keygen -y prints it", ErrInput, recipient)
	}
	out, err := age.Encrypt(w, to...)
	if err != nil {
		return fmt.Errorf("encrypt package: %w", err)
	}
	if err := p.write(out, receipt); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("encrypt package: %w", err)
	}
	return nil
}

// write writes the zip itself.
func (p *Package) write(w io.Writer, receipt *disclose.Receipt) error {
	r := receiptFile{Intent: receipt.Intent, Outcome: receipt.Outcome, Entries: p.entries}
	for _, m := range p.members {
		sum := sha256.Sum256(m.data)
		r.Packed = append(r.Packed, packedMember{m.name, hex.EncodeToString(sum[:])})
	}
	c := checker{manifest: &p.manifest, digest: p.Digest(), key: p.manifest.Ledger.Key, report: &Report{}}
	if err := c.signature(receipt.Signature); err != nil {
		return fmt.Errorf("%w: %w", ErrInput, err)
	}
	if err := c.proofs(&r); err != nil {
		return fmt.Errorf("%w: %w", ErrInput, err)
	}
	text, err := encode(&r)
	if err != nil {
		return fmt.Errorf("%w: receipt: %w", ErrInput, err)
	}
	return writeZip(w, p.zip(text, receipt.Signature))
}

// zip returns the members in their order.
func (p *Package) zip(receipt, signature []byte) []stored {
	out := slices.Insert(slices.Clone(p.members), 1, plainMember(manifestName, p.text))
	return append(out, plainMember(signatureName, signature), plainMember(receiptName, receipt))
}

// The members that no manifest names.
const (
	manifestName  = "manifest.json"
	signatureName = "signature.txt"
	receiptName   = "receipt.json"
)

// check looks at what does not depend on the kind of the answer.
func (in *Input) check() error {
	if in.Request == nil || len(in.Entries) == 0 {
		return errors.New("it has no request, or no ledger entry of it")
	}
	text, err := in.Request.Text()
	if err != nil {
		return err
	}
	if !bytes.Equal(text, in.Text) {
		return errors.New("the text is not that of the request")
	}
	if in.Request.Task.MaxHits < 1 || len(in.Request.Nonce) != 32 {
		return disclose.ErrRequest
	}
	for i, p := range in.Entries {
		if p == nil {
			return fmt.Errorf("ledger entry %d of the request is missing", i)
		}
	}
	return nil
}

// newManifest says all but what members there are.
func newManifest(in *Input, f *found) (Manifest, error) {
	r, s, q := in.Request, f.summary, &in.Request.Task.Query
	salt, err := hkdf.Key(sha256.New, r.Nonce, nil, "edgelog package salt 1", 32)
	if err != nil {
		return Manifest{}, err
	}
	commitment := disclose.Commitment(in.Text)
	m := Manifest{
		Format: manifestFormat, Salt: hex.EncodeToString(salt), Software: "edgelog " + in.Version, Contacts: slices.Clone(in.Contacts),
		Request: RequestFacts{
			Entry: in.ID, Commitment: hex.EncodeToString(commitment[:]), Filed: session.FormatTime(r.Filed.UnixNano()),
			Country: r.Authorisation.Country, Authority: r.Authorisation.Authority, Number: r.Authorisation.Number,
			LegalBasis: r.Authorisation.LegalBasis, Document: r.Authorisation.Document, Priority: string(r.Task.Priority), Emergency: r.Emergency,
			Asked: f.kind, Identifier: identifierKind(q), From: session.FormatTime(q.From), To: session.FormatTime(q.To),
		},
		Answer: AnswerFacts{
			Found: f.all, Delivered: f.delivered, MaxHits: r.Task.MaxHits, LimitReached: f.all > f.delivered, MoreThanFound: f.more,
			Incomplete: f.incomplete(), Holds: slices.Clone(s.Holds), RegisterImported: s.RegisterImported, AsOf: s.AsOf, Later: s.Later(),
		},
		Recording: recordingOf(in, s),
		Ledger:    LedgerFacts{Key: in.LedgerKey, Fingerprint: Fingerprint(in.LedgerKey)},
	}
	if f.communications != nil {
		m.Recording = importsOf(in.Communications, q)
	}
	if q.Ask == disclose.WantWho {
		m.Request.At, m.Request.ErrorMilli = session.FormatTime(q.At), q.Error/1e6
		m.Answer.Verdict, m.Answer.Reason = string(f.who.Verdict), f.who.Reason
	}
	m.Request.Approvals = len(in.Entries) - 1
	for _, p := range in.Entries {
		e, err := p.Check(in.LedgerKey)
		if err != nil {
			return Manifest{}, fmt.Errorf("ledger entry %d of the request: %w", p.Index, err)
		}
		sum := sha256.Sum256(p.Entry)
		m.Ledger.Entries = append(m.Ledger.Entries, EntryFacts{
			Index: p.Index, Time: session.FormatTime(e.Time.UnixNano()), Kind: string(e.Kind), SHA256: hex.EncodeToString(sum[:]),
		})
		m.Request.ApprovalsNeeded, m.Request.Ratify = 0, ""
		if a := disclose.ApprovalsIn(&e); a != nil { // the last one knows most
			m.Request.ApprovalsNeeded, m.Request.Ratify = a.Needed, ratify(a)
		}
	}
	return m, nil
}

// encode writes JSON for people and machines: the same bytes for the same value.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
