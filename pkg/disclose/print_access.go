package disclose

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/edgelog/edgelog/pkg/session"
)

// PrintAccess writes access records in one of the Formats. With json a line for
// each record is followed by one for each entry of the register and one with the
// summary; with csv these are left to the caller (see NameLines and
// Summary.Lines).
func PrintAccess(w io.Writer, a *AccessAnswer, format string) error {
	return printAs(w, a, format)
}

// NameLines returns what the register says, as lines for people.
func NameLines(list []Name) []string {
	var lines []string
	for i := range list {
		n := &list[i]
		if i > 0 && *n == list[i-1] {
			continue
		}
		text := "register: " + printable(n.Subscriber) + " is " + printable(orDash(n.Name))
		if n.Address != "" {
			text += ", " + printable(n.Address)
		}
		if n.Services != "" {
			text += " (" + printable(n.Services) + ")"
		}
		lines = append(lines, text+", "+span(n.From, n.To, false, false))
	}
	return lines
}

func (a *AccessAnswer) table(w io.Writer) error {
	var lines []string
	for i := range a.Records {
		r := &a.Records[i]
		lines = append(lines, span(r.From, r.To, r.Certainty&session.FromInferred != 0, r.Certainty&session.ToInferred != 0)+"  "+printable(holdText(&r.Binding)))
		add := func(what, text string) {
			if text != "" {
				lines = append(lines, fmt.Sprintf("   %-10s %s", what, printable(text)))
			}
		}
		add("subscriber", r.Subscriber)
		add("identity", r.Identity)
		add("line", r.Line)
		add("equipment", r.Equipment)
		add("place", r.Place)
		if r.Via.IsValid() {
			add("by", holderText(&r.Binding))
		}
		add("source", strings.TrimSpace(r.Source.String()+" "+r.SourceName))
		for _, d := range r.remarks() {
			add("remark", d)
		}
	}
	if len(lines) > 0 {
		lines = append(lines, "")
	}
	lines = append(lines, NameLines(a.Names)...)
	lines = append(lines, a.Summary.about(count(a.Summary.Records, "access record"))...)
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}

// remarks are what could be wrong with a record, and what was believed of it.
func (r *AccessRecord) remarks() []string {
	out := append([]string(nil), r.Doubts...)
	for i := range r.Was {
		b := &r.Was[i]
		text := "was sealed as " + span(b.From, b.To, b.Certainty&session.FromInferred != 0, b.Certainty&session.ToInferred != 0)
		if b.Subscriber != r.Subscriber {
			text += " of " + orUnknown(b.Subscriber)
		}
		out = append(out, text)
	}
	if r.Late != 0 {
		out = append(out, "came late, on "+r.Late.String())
	}
	return out
}

func (a *AccessAnswer) json(w io.Writer) error {
	enc := json.NewEncoder(w)
	for i := range a.Records {
		if err := enc.Encode(a.Records[i].object()); err != nil {
			return err
		}
	}
	return lastLines(enc, a.Names, &a.Summary)
}

// accessObject is an access record in an answer.
type accessObject struct {
	jsonLink
	Register *jsonName  `json:"register,omitempty"`
	Doubts   []string   `json:"doubts,omitempty"`
	Was      []jsonLink `json:"was,omitempty"`
	Late     string     `json:"came_late_on,omitempty"`
}

func (r *AccessRecord) object() *accessObject {
	out := &accessObject{jsonLink: linkJSON(&r.Binding), Doubts: r.Doubts}
	for j := range r.Was {
		out.Was = append(out.Was, linkJSON(&r.Was[j]))
	}
	if r.Late != 0 {
		out.Late = r.Late.String()
	}
	return out
}

// lastLines writes what the register says, and the summary.
func lastLines(enc *json.Encoder, names []Name, s *Summary) error {
	for i := range names {
		line := struct {
			Register *jsonName `json:"register"`
		}{nameJSON(&names[i])}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	return enc.Encode(struct {
		Summary *Summary `json:"summary"`
	}{s})
}

var accessHeader = []string{
	"from", "from_known", "to", "to_known", "prefix", "first_port", "last_port", "subscriber", "name", "address", "identity", "line", "equipment", "place",
	"via", "source", "source_name", "source_key", "remarks",
}

func (a *AccessAnswer) csv(w io.Writer) error {
	cw := csv.NewWriter(w)
	if err := cw.Write(accessHeader); err != nil {
		return err
	}
	for i := range a.Records {
		if err := cw.Write(a.row(i)); err != nil {
			return err
		}
	}
	cw.Flush()
	return cw.Error()
}

// row returns the cells of accessHeader.
func (a *AccessAnswer) row(i int) []string {
	r := &a.Records[i]
	l := linkJSON(&r.Binding)
	n := Name{}
	for j := range a.Names {
		if x := &a.Names[j]; x.Subscriber == r.Subscriber && x.From <= max(r.From, a.Query.From) && x.To > max(r.From, a.Query.From) {
			n = *x
		}
	}
	return cells([]string{
		l.From, l.FromKnown, l.To, l.ToKnown, l.Prefix, strconv.Itoa(int(l.FirstPort)), strconv.Itoa(int(l.LastPort)), l.Subscriber, n.Name, n.Address,
		l.Identity, l.Line, l.Equipment, l.Place, l.Via, l.Source, l.SourceName, l.SourceKey, strings.Join(r.remarks(), "; "),
	})
}

// cells makes each of them harmless.
func cells(row []string) []string {
	for j := range row {
		row[j] = cell(row[j])
	}
	return row
}
