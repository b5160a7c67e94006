package disclose

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// BreachFormats are the names that ExportBreach knows.
var BreachFormats = []string{"text", "json", "csv", "html"}

// OpenedBreach is one entry of the register with its form.
type OpenedBreach struct {
	BreachFacts
	CorrectedBy int64   `json:"corrected_by,omitempty"` // the entry that stands in its place; 0: none
	Form        *Breach `json:"form"`
	By          string  `json:"registered_by"` // as the kernel named the peer
}

// OpenBreaches opens the entries of one breach, or of all when number is 0. The
// error wraps vault.ErrWrongIdentity, or says which entry is not what it should be.
func OpenBreaches(l *BreachList, number int, ids *vault.Identities) ([]OpenedBreach, error) {
	var out []OpenedBreach
	for i := range l.Entries {
		e := &l.Entries[i]
		if number != 0 && e.Number != number {
			continue
		}
		for k := range out {
			if e.Corrects > 0 && out[k].Entry == e.Corrects {
				out[k].CorrectedBy = e.Entry
			}
		}
		plain, err := vault.OpenSealed(e.Sealed, ids)
		if err != nil {
			return nil, fmt.Errorf("open entry %d of the register of breaches: %w", e.Entry, err)
		}
		var p breachPayload
		if err := json.Unmarshal(plain, &p); err != nil || p.Breach == nil {
			return nil, fmt.Errorf("open entry %d of the register of breaches: its form is not understood; was it written by a later version?", e.Entry)
		}
		o := OpenedBreach{BreachFacts: *e, Form: p.Breach, By: p.Peer}
		o.Sealed = nil
		out = append(out, o)
	}
	return out, nil
}

// DueText says how a breach stands at a time, in words.
func (f *BreachFacts) DueText(now time.Time) string {
	what := map[BreachState]string{BreachUnsent: "first notification", BreachIncomplete: "second notification"}[f.State]
	switch {
	case f.State == BreachComplete:
		return "complete"
	case f.Due.IsZero():
		return "the rest is to follow as soon as it is known"
	case now.After(f.Due):
		return what + " OVERDUE by " + roughly(now.Sub(f.Due))
	}
	return what + " due in " + roughly(f.Due.Sub(now))
}

// roughly is a time in the unit in which people would say it.
func roughly(d time.Duration) string {
	switch {
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// Late says by how much a notification was sent too late; "" when it was not.
func (f *BreachFacts) Late() string {
	if f.Notification == BreachFirst && !f.Sent.IsZero() && f.Sent.Sub(f.Detected) > FirstWithin {
		return "sent " + roughly(f.Sent.Sub(f.Detected)) + " after the detection"
	}
	return ""
}

// filled is a field of a form as it is shown.
type filled struct {
	No    int
	Key   string
	Label string
	Text  string
}

// filledIn are the seventeen fields of a form; 4 is in two parts.
func filledIn(b *Breach) []filled {
	out := make([]filled, 0, len(breachFields)+1)
	for i := range breachFields {
		f := &breachFields[i]
		out = append(out, filled{f.no, f.key, f.label, f.value(b)})
		if f.no == 2 {
			out = append(out, filled{3, "notification", "first or second notification", b.Notification})
		}
	}
	return out
}

// title of one entry.
func (o *OpenedBreach) title() string {
	var remarks []string
	if o.CorrectedBy > 0 {
		remarks = append(remarks, fmt.Sprintf("corrected by entry %d", o.CorrectedBy))
	}
	if o.Corrects > 0 {
		remarks = append(remarks, fmt.Sprintf("corrects entry %d", o.Corrects))
	}
	sent := "not sent yet"
	if !o.Sent.IsZero() {
		sent = "sent " + session.FormatTime(o.Sent.UnixNano())
	}
	remarks = append(remarks, sent)
	if late := o.Late(); late != "" {
		remarks = append(remarks, late)
	}
	return fmt.Sprintf("breach %d, %s notification: entry %d of the ledger, %s; %s", o.Number, o.Notification, o.Entry,
		session.FormatTime(o.At.UnixNano()), strings.Join(remarks, "; "))
}

// ExportBreach writes the entries of a breach in one of the BreachFormats: what is
// sent to the authority, and what is kept.
func ExportBreach(w io.Writer, list []OpenedBreach, gateway, format string) error {
	var err error
	switch format {
	case "text":
		err = textBreach(w, list)
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		err = enc.Encode(struct {
			Gateway string         `json:"gateway"`
			Entries []OpenedBreach `json:"entries"`
		}{gateway, list})
	case "csv":
		err = csvBreach(w, list)
	case "html":
		err = htmlBreach(w, list, gateway)
	default:
		return fmt.Errorf("export breach: format %q is not known; use %s", format, strings.Join(BreachFormats, ", "))
	}
	if err != nil {
		return fmt.Errorf("export breach: %w", err)
	}
	return nil
}

func textBreach(w io.Writer, list []OpenedBreach) error {
	for i := range list {
		lines := []string{list[i].title()}
		for _, f := range filledIn(list[i].Form) {
			lines = append(lines, fmt.Sprintf("%2d  %s", f.No, f.Label))
			for line := range strings.Lines(cmp.Or(f.Text, "-")) {
				lines = append(lines, "      "+printable(strings.TrimRight(line, "\n")))
			}
		}
		if i > 0 {
			lines = slices.Insert(lines, 0, "")
		}
		if _, err := io.WriteString(w, strings.Join(lines, "\n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

func csvBreach(w io.Writer, list []OpenedBreach) error {
	cw := csv.NewWriter(w)
	_ = cw.Write([]string{"breach", "entry", "notification", "sent", "corrected_by", "field", "key", "label", "text"}) // Flush keeps the error
	for i := range list {
		o := &list[i]
		for _, f := range filledIn(o.Form) {
			_ = cw.Write([]string{
				strconv.Itoa(o.Number), strconv.FormatInt(o.Entry, 10), o.Notification, o.Form.Sent, strconv.FormatInt(o.CorrectedBy, 10),
				strconv.Itoa(f.No), f.Key, f.Label, cell(f.Text),
			})
		}
	}
	cw.Flush()
	return cw.Error()
}

// breachPage prints on paper: no colours, no links, nothing that is fetched.
var breachPage = template.Must(template.New("breach").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Notification of a breach of personal data</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body { font: 11pt/1.4 sans-serif; max-width: 46em; margin: 2em auto; }
table { border-collapse: collapse; width: 100%; }
th, td { border: 1px solid #888; padding: .3em .5em; text-align: left; vertical-align: top; font-weight: normal; }
td.text { white-space: pre-wrap; overflow-wrap: anywhere; width: 60%; }
section { break-after: page; } section:last-child { break-after: auto; } tr { break-inside: avoid; }
</style></head><body>
{{range .Entries}}<section>
<h1>Notification of a breach of personal data</h1>
<p>Annex I of regulation (EU) 611/2013; gateway {{$.Gateway}}. {{.Title}}.</p>
<table>
{{range .Fields}}<tr><td>{{.No}}</td><th scope="row">{{.Label}}</th><td class="text">{{or .Text "-"}}</td></tr>
{{end}}</table>
</section>
{{end}}</body></html>
`))

func htmlBreach(w io.Writer, list []OpenedBreach, gateway string) error {
	type entry struct {
		Title  string
		Fields []filled
	}
	page := struct {
		Gateway string
		Entries []entry
	}{Gateway: gateway}
	for i := range list {
		page.Entries = append(page.Entries, entry{list[i].title(), filledIn(list[i].Form)})
	}
	return breachPage.Execute(w, page)
}
