package delivery

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/session"
)

//go:embed summary.tmpl
var summaryText string

var summaryPage = template.Must(template.New(summaryName).Parse(summaryText))

// How much of an answer the page shows: it is to fit on one sheet of A4.
const (
	shownRows  = 8
	fewestRows = 2 // what has to be said before them takes the place of the others
	shownNames = 3
	shownGaps  = 3
)

// summaryRow is one line of the page's table.
type summaryRow struct{ From, To, What, Who, Remark string }

// writeSummary writes summary.html.
func writeSummary(w io.Writer, m *Manifest, r *disclose.Request, f *found) error {
	rows := f.rows(max(fewestRows, shownRows-m.loud()))
	data := struct {
		*Manifest
		Identifier string
		Found      string
		Rows       []summaryRow
		Left       int
		Doubts     bool // of any row
		Names      []string
		Coverage   []string
		Clock      string
		CSV        string
	}{
		Manifest: m, Identifier: r.Task.Query.Identifier(), Found: f.noun(f.all), Rows: rows, Left: f.delivered - len(rows),
		Doubts:   slices.ContainsFunc(rows, func(r summaryRow) bool { return r.Remark != "" }),
		Coverage: m.Recording.coverageLines(shownGaps), Clock: m.Recording.clock(), CSV: f.kind + ".csv",
	}
	for i := range f.names {
		if i == shownNames {
			data.Names = append(data.Names, fmt.Sprintf("and %d more", len(f.names)-i))
			break
		}
		n := &f.names[i]
		data.Names = append(data.Names, strings.Trim(n.Subscriber+": "+n.Name+", "+n.Address, ", "))
	}
	if err := summaryPage.Execute(printableWriter{w}, data); err != nil {
		return fmt.Errorf("write summary: %w", err)
	}
	return nil
}

// printableWriter writes a blank for each control character that HTML does not
// know.
type printableWriter struct{ w io.Writer }

func (p printableWriter) Write(b []byte) (int, error) {
	c := bytes.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' {
			return ' '
		}
		return r
	}, b)
	if _, err := p.w.Write(c); err != nil {
		return 0, err
	}
	return len(b), nil
}

// loud is how many lines the page has that are about what is missing.
func (m *Manifest) loud() int {
	n := len(m.Answer.Incomplete)
	if m.Answer.Later != "" {
		n++
	}
	if m.Request.Unratified() != "" {
		n += 2
	}
	if m.Recording.Imports != nil {
		n += 3 + len(m.Recording.Imports.Without) // the definition is longer, and so are the lines
	}
	return n
}

// rows returns the first lines of the answer.
func (f *found) rows(shown int) []summaryRow {
	var out []summaryRow
	switch f.kind {
	case kindSessions:
		for i := range f.sessions.Hits[:min(shown, f.delivered)] {
			h := &f.sessions.Hits[i]
			what := fmt.Sprintf("%s %s → %s", session.ProtoName(h.Proto), h.Endpoint(session.SideInitiator), h.Endpoint(session.SideResponder))
			if in := h.InsideEnd(); in != "" {
				what += ", inside " + in
			}
			out = append(out, summaryRow{session.FormatTime(h.Start), session.FormatTime(h.End), what, orDash(h.Subscriber), strings.Join(h.Doubts, "; ")})
		}
	case kindAccess:
		for i := range f.access.Records[:min(shown, f.delivered)] {
			b := &f.access.Records[i].Binding
			out = append(out, summaryRow{begin(b.From), until(b.To), holding(b), orDash(f.access.Records[i].Subscriber), strings.Join(f.access.Records[i].Doubts, "; ")})
		}
	case kindCommunications:
		for i := range f.communications.Communications[:min(shown, f.delivered)] {
			c := &f.communications.Communications[i]
			out = append(out, summaryRow{session.FormatTime(c.Start), session.FormatTime(c.End), parties(c), orDash(c.Subscriber), ""})
		}
	case kindWho:
		for i := range f.who.Candidates[:min(shown, f.delivered)] {
			c := &f.who.Candidates[i]
			out = append(out, summaryRow{begin(c.From), until(c.To), holding(&c.Links[0]), orDash(c.Subscriber), strings.Join(c.Doubts, "; ")})
		}
	}
	return out
}

// parties names who communicated with whom; of many receivers some.
func parties(c *session.Communication) string {
	const most = 3
	some := func(list []string) string {
		text := strings.Join(list[:min(most, len(list))], ", ")
		if more := len(list) - most; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		return text
	}
	from := c.From
	if from == "" {
		from = "withheld"
	}
	text := strings.TrimSpace(c.Kind.String()+" "+c.Service) + ": " + from + " → " + some(c.To)
	if len(c.Forwarded) > 0 {
		text += ", forwarded to " + some(c.Forwarded)
	}
	return text
}

// holding names what is held.
func holding(b *session.Binding) string {
	text := b.Prefix.String()
	if b.Prefix.IsSingleIP() {
		text = b.Prefix.Addr().String()
	}
	if b.FirstPort > 0 || b.LastPort < 65535 {
		text += fmt.Sprintf(" ports %d-%d", b.FirstPort, b.LastPort)
	}
	return text
}

func begin(ns int64) string {
	if ns <= 0 {
		return "from the beginning"
	}
	return session.FormatTime(ns)
}

func until(ns int64) string {
	if ns == session.Forever {
		return "still so"
	}
	return session.FormatTime(ns)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
