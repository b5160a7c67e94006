package disclose

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/vault"
)

func accounted(reference string) *Accountable {
	port := uint16(4001)
	q := &Query{Reference: reference, Address: netip.MustParseAddr("192.0.2.7"), Port: &port, From: 1e18, To: 1e18 + 3600e9}
	return Account(q, "BEK 988/2006 § 5", "police@example.net", "anna", time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC))
}

func TestTheSevenFieldsOfAnAccessComeBack(t *testing.T) {
	a := accounted("2026-17")
	b, err := a.Payload()
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(b, &keys); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"reference", "identifier_entered", "search", "legal_basis", "delivery", "person", "at"} {
		if keys[k] == nil {
			t.Errorf("%s is not in %s", k, b)
		}
	}
	got, err := ParseAccountable(b)
	if err != nil || got.Identifier != "192.0.2.7:4001" || got.Search.By != "address and port" || got.Search.Kind != "lookup" ||
		got.At.Nanosecond() != 123e6 || got.Search.Window() != "2001-09-09T01:46:40.000Z to 2001-09-09T02:46:40.000Z" || *got.Search.Port != 4001 {
		t.Errorf("%+v, %v", got, err)
	}
	r := &Request{Task: Task{Query: Query{Reference: "x", Ask: WantAccess, Subscriber: "s1", From: 1e18, To: 2e18}, MaxHits: 50}, Delivery: Delivery{Recipient: "age1x"}}
	if of := AccountRequest(r, 17, "law", "bo", time.Now()); of.Check() != nil || of.Delivery != "age1x" || of.Search.MaxHits != 50 || *of.Request != 17 {
		t.Errorf("of a request: %+v", of)
	}
	if all := Account(&Query{Reference: "x", Ask: WantVerify}, "law", NoDelivery, "uid 0", time.Now()); all.Check() != nil || all.Search.Window() != "-" {
		t.Errorf("of a verification: %+v, %v", all, all.Check())
	}
}

func TestAnAccessWithoutOneOfTheFieldsIsNotAccountedFor(t *testing.T) {
	for name, spoil := range map[string]func(*Accountable){
		"reference":   func(a *Accountable) { a.Reference = " " },
		"identifier":  func(a *Accountable) { a.Identifier = "" },
		"window":      func(a *Accountable) { a.Search.To = a.Search.From },
		"kind":        func(a *Accountable) { a.Search.Kind = "" },
		"legal basis": func(a *Accountable) { a.LegalBasis = "" },
		"delivery":    func(a *Accountable) { a.Delivery = "" },
		"person":      func(a *Accountable) { a.Person = "" },
		"time":        func(a *Accountable) { a.At = time.Time{} },
	} {
		a := accounted("2026-17")
		spoil(a)
		if b, err := a.Payload(); b != nil || !errors.Is(err, ErrAccountable) || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %s, %v", name, b, err)
		}
	}
	for _, b := range []string{"", "{}", `{"reference":"x","found":1}`, "nonsense"} {
		if _, err := ParseAccountable([]byte(b)); !errors.Is(err, ErrAccountable) {
			t.Errorf("%q: %v", b, err)
		}
	}
}

func TestQuartersAreThoseOfTheCalendar(t *testing.T) {
	for text, want := range map[string]string{
		"2026Q1": "2026-01-01 2026-04-01", "2026Q3": "2026-07-01 2026-10-01", "2026Q4": "2026-10-01 2027-01-01",
	} {
		from, to, err := Quarter(text)
		if got := from.Format(time.DateOnly) + " " + to.Format(time.DateOnly); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "2026", "2026Q0", "2026Q5", "2026q1", "26Q1", "2026Q11"} {
		if _, _, err := Quarter(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// book is a ledger with a clock of its own and a custodian who can open it.
type book struct {
	*ledger.Ledger
	t   *testing.T
	dir string
	now time.Time
	ids *vault.Identities
}

func newBook(t *testing.T) *book {
	t.Helper()
	pair, err := vault.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := vault.ParseIdentities(bytes.NewReader(pair.File()))
	if err != nil {
		t.Fatal(err)
	}
	to, err := vault.ParseRecipients([]string{pair.Recipient})
	if err != nil {
		t.Fatal(err)
	}
	b := &book{t: t, dir: t.TempDir(), now: time.Date(2026, 6, 30, 0, 0, 0, 0, time.UTC), ids: ids}
	b.Ledger, err = ledger.Open(b.dir, ledger.Options{Seal: to.SealTo, Clock: func() time.Time { return b.now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func (b *book) add(kind ledger.Kind, payload []byte) {
	b.t.Helper()
	if _, err := b.Append(context.Background(), ledger.Entry{Kind: kind, Fields: map[string]string{"action": "lookup"}, Payload: payload}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *book) reader() *ledger.Reader {
	b.t.Helper()
	r, err := ledger.OpenReader(b.dir, b.VerifierKey())
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *book) draw(percent int, seed string) *Sample {
	b.t.Helper()
	s, err := DrawSample(b.t.Context(), b.reader(), "2026Q3", percent, seed)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func indexes(s *Sample) string {
	var out []string
	for _, e := range s.Chosen {
		out = append(out, fmt.Sprint(e.Index))
	}
	return strings.Join(out, " ")
}

func TestASampleIsDrawnSoThatAnyoneDrawsTheSame(t *testing.T) {
	b := newBook(t)
	for range 3 {
		b.add(ledger.Intent, nil) // of the quarter before
	}
	if s := b.draw(20, ""); s.Intents != 0 || len(s.Chosen) != 0 || !s.Open || s.Size != 3 {
		t.Errorf("of a quarter without accesses: %+v", s)
	}
	b.now = time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	b.add(ledger.Intent, nil)
	if s := b.draw(20, ""); s.Intents != 1 || indexes(s) != "3" {
		t.Errorf("of one access: %+v", s)
	}
	for range 51 {
		b.now = b.now.Add(time.Hour)
		b.add(ledger.Intent, nil)
		b.add(ledger.Outcome, nil)
	}
	s := b.draw(20, "")
	if s.Intents != 52 || len(s.Chosen) != 11 || !s.Open || !strings.Contains(strings.Join(s.Lines(), "\n"), "may still change") {
		t.Fatalf("%d of %d, %v", len(s.Chosen), s.Intents, s.Lines())
	}
	b.holdsTheRule(s)
	// The first entry of the next quarter ends it, and nothing later changes it.
	b.now = time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	b.add(ledger.Intent, nil)
	ended := b.draw(20, "")
	b.add(ledger.Intent, nil)
	if later := b.draw(20, ""); ended.Open || indexes(ended) != indexes(s) || indexes(later) != indexes(s) || later.Size != s.Size {
		t.Errorf("%v, then %v, then %v", indexes(s), indexes(ended), indexes(later))
	}
	if other := b.draw(20, "heads"); indexes(other) == indexes(s) || len(other.Chosen) != 11 {
		t.Errorf("with a word of the auditor's: %v, as without", indexes(other))
	}
	if every := b.draw(100, ""); len(every.Chosen) != 52 {
		t.Errorf("all: %d", len(every.Chosen))
	}
	for _, percent := range []int{0, 101, -1} {
		if _, err := DrawSample(t.Context(), b.reader(), "2026Q3", percent, ""); err == nil {
			t.Errorf("%d %% is taken", percent)
		}
	}
}

// holdsTheRule draws by the rule, from its words alone.
func (b *book) holdsTheRule(s *Sample) {
	b.t.Helper()
	root := b.Checkpoint().Root
	below := map[string]bool{}
	var worst [32]byte
	for _, e := range s.Chosen {
		h := sha256.Sum256(binary.BigEndian.AppendUint64(root[:], uint64(e.Index)))
		below[fmt.Sprint(e.Index)] = true
		if bytes.Compare(h[:], worst[:]) > 0 {
			worst = h
		}
	}
	all, err := b.Entries(b.t.Context(), 3, b.Size())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range all {
		h := sha256.Sum256(binary.BigEndian.AppendUint64(root[:], uint64(e.Index)))
		if e.Kind == ledger.Intent && !below[fmt.Sprint(e.Index)] && bytes.Compare(h[:], worst[:]) < 0 {
			b.t.Errorf("entry %d should have been chosen", e.Index)
		}
	}
}

func TestASamplePrintsWhatIsSealedForWhoMayOpenItAlone(t *testing.T) {
	b := newBook(t)
	b.now = time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	a := accounted("=2+5")
	payload, err := a.Payload()
	if err != nil {
		t.Fatal(err)
	}
	b.add(ledger.Intent, payload)
	b.add(ledger.Intent, []byte("a text"))
	s := b.draw(100, "")
	var table, sheet, sealed strings.Builder
	if err := errors.Join(PrintSample(&table, s, b.ids, false), PrintSample(&sheet, s, b.ids, true), PrintSample(&sealed, s, nil, false)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"192.0.2.7:4001", "anna", "[ ] yes [ ] no", "root hash", "2 of 2 accesses", `"a text"`} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("%q is not in\n%s", want, table.String())
		}
	}
	if strings.Contains(sealed.String(), "192.0.2.7") || !strings.Contains(sealed.String(), "sealed, ") {
		t.Errorf("without a key:\n%s", sealed.String())
	}
	rows, err := csv.NewReader(strings.NewReader(sheet.String())).ReadAll()
	if err != nil || len(rows) != 3 || rows[1][3] != "'=2+5" || rows[1][9] != "anna" || rows[0][10] != "order_seen" {
		t.Errorf("%v\n%s", err, sheet.String())
	}
	stranger := newBook(t)
	e, err := b.Entries(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if x := Audit(&e[0], stranger.ids); x.Opened != nil || x.SealedText() != "sealed to others" {
		t.Errorf("%+v", x)
	}
}
