package disclose

import (
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// Audited is an entry of the ledger as an auditor sees it.
type Audited struct {
	Index  int64             `json:"index"`
	Time   string            `json:"time"`
	Kind   ledger.Kind       `json:"kind"`
	Fields map[string]string `json:"fields,omitempty"`
	Sealed int               `json:"sealed_bytes,omitempty"` // 0: there is nothing sealed
	Opened json.RawMessage   `json:"opened,omitempty"`       // what was sealed, where the identity opens it
	Closed string            `json:"closed,omitempty"`       // why it does not
}

// Audit opens what is sealed in an entry; with ids nil it stays so.
func Audit(e *ledger.Record, ids *vault.Identities) Audited {
	a := Audited{Index: e.Index, Time: session.FormatTime(e.Time.UnixNano()), Kind: e.Kind, Fields: e.Fields, Sealed: len(e.Sealed)}
	if ids == nil || len(e.Sealed) == 0 {
		return a
	}
	plain, err := vault.OpenSealed(e.Sealed, ids)
	switch {
	case errors.Is(err, vault.ErrWrongIdentity):
		a.Closed = "sealed to others"
	case err != nil:
		a.Closed = err.Error()
	case json.Valid(plain):
		a.Opened = plain
	default:
		a.Opened, _ = json.Marshal(string(plain)) // a string always has a form
	}
	return a
}

// FieldText returns the fields in one line, by name.
func (a *Audited) FieldText() string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(a.Fields)) {
		out = append(out, k+"="+printable(a.Fields[k]))
	}
	return strings.Join(out, " ")
}

// SealedText says what is known of the sealed part, in one line.
func (a *Audited) SealedText() string {
	switch {
	case a.Opened != nil:
		return printable(string(a.Opened))
	case a.Closed != "":
		return a.Closed
	case a.Sealed > 0:
		return fmt.Sprintf("sealed, %d bytes", a.Sealed)
	}
	return "-"
}

// Lines are what must be known about a sample.
func (s *Sample) Lines() []string {
	out := []string{
		fmt.Sprintf("quarter %s: %s to %s", s.Quarter, session.FormatTime(s.From.UnixNano()), session.FormatTime(s.To.UnixNano())),
		fmt.Sprintf("%d of %d accesses chosen, at least %d %%", len(s.Chosen), s.Intents, s.Percent),
		fmt.Sprintf("drawn with the tree of %d entries, root hash %s", s.Size, base64.StdEncoding.EncodeToString(s.Root)),
	}
	if s.Seed != "" {
		out = append(out, "and with the word "+strconv.Quote(s.Seed))
	}
	if s.Percent < LeastShare {
		out = append(out, fmt.Sprintf("TKÜV § 17 asks for at least %d %%", LeastShare))
	}
	if s.Open {
		out = append(out, "nothing later than the quarter is in the ledger yet: the sample may still change")
	}
	return out
}

var sampleHeader = []string{
	"index", "time", "action", "reference", "identifier", "window", "kind", "legal_basis", "delivery", "person", "order_seen", "remarks",
}

// sampleRow is what is printed of a chosen access.
func sampleRow(e *ledger.Record, ids *vault.Identities) []string {
	a := Audit(e, ids)
	row := []string{strconv.FormatInt(a.Index, 10), a.Time, a.Fields["action"], "", "", "", "", "", "", "", "", ""}
	x, err := ParseAccountable(a.Opened)
	switch {
	case a.Opened == nil:
		row[11] = a.SealedText()
	case err != nil:
		row[11] = string(a.Opened)
	default:
		row[3], row[4], row[5], row[6] = x.Reference, x.Identifier, x.Search.Window(), strings.TrimSpace(x.Search.Kind+" by "+x.Search.By)
		row[7], row[8], row[9] = x.LegalBasis, x.Delivery, x.Person
	}
	return row
}

// PrintSample writes the chosen accesses as a table, with a place to tick for each,
// or as csv; ids open what is sealed, nil: nothing.
func PrintSample(w io.Writer, s *Sample, ids *vault.Identities, asCSV bool) error {
	if asCSV {
		cw := csv.NewWriter(w)
		_ = cw.Write(sampleHeader) // Error says it
		for i := range s.Chosen {
			row := sampleRow(&s.Chosen[i], ids)
			for k := range row {
				row[k] = cell(row[k])
			}
			_ = cw.Write(row)
		}
		cw.Flush()
		return cw.Error()
	}
	for _, line := range s.Lines() {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nENTRY\tTIME\tACTION\tREFERENCE\tIDENTIFIER\tWINDOW\tPERSON\tORDER SEEN\tREMARKS") //nolint:errcheck // Flush says it
	for i := range s.Chosen {
		row := sampleRow(&s.Chosen[i], ids)
		for k := range row {
			row[k] = orDash(printable(row[k]))
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t[ ] yes [ ] no\t%s\n", row[0], row[1], row[2], row[3], row[4], row[5], row[9], row[11]) //nolint:errcheck // Flush says it
	}
	return tw.Flush()
}
