package disclose

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/edgelog/edgelog/pkg/session"
)

// Formats are the names that Print knows.
var Formats = []string{"table", "json", "csv"}

// Print writes the answer in one of the Formats. With table, what must be
// known about the answer stands below it; with json it is the last line, an
// object with "summary"; with csv it is left to the caller (see Summary.Lines).
func Print(w io.Writer, a *Answer, format string) error { return printAs(w, a, format) }

// printed is an answer of any kind.
type printed interface {
	table(w io.Writer) error
	json(w io.Writer) error
	csv(w io.Writer) error
}

// printAs writes an answer in one of the Formats.
func printAs(w io.Writer, a printed, format string) error {
	var err error
	switch format {
	case "table":
		err = a.table(w)
	case "json":
		err = a.json(w)
	case "csv":
		err = a.csv(w)
	default:
		return fmt.Errorf("print answer: format %q is not known; use %s", format, strings.Join(Formats, ", "))
	}
	if err != nil {
		return fmt.Errorf("print answer: %w", err)
	}
	return nil
}

func (a *Answer) table(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	nat := slices.ContainsFunc(a.Hits, func(h Hit) bool { return h.InsideEnd() != "" })
	inside := func(s string) string { // a column only where there is a translation
		if nat {
			return "\t" + s
		}
		return ""
	}
	fmt.Fprintf(tw, "START\tEND\tPROTO\tINITIATOR\tRESPONDER%s\tSUBSCRIBER\tENDED\tREMARKS\n", inside("INSIDE"))
	for i := range a.Hits {
		h := &a.Hits[i]
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s%s\t%s\t%s\t%s\n",
			session.FormatTime(h.Start), session.FormatTime(h.End), session.ProtoName(h.Proto),
			h.Endpoint(session.SideInitiator), h.Endpoint(session.SideResponder), inside(orDash(h.InsideEnd())),
			printable(orDash(h.Subscriber)), h.EndReason, orDash(strings.Join(h.remarks(), ", ")))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "\n"+strings.Join(append(NameLines(a.Names), a.Summary.Lines()...), "\n"))
	return err
}

// remarks are the flags and, in words, what is uncertain.
func (h *Hit) remarks() []string {
	out := h.Flags.Words()
	if h.Corrected() {
		out = append(out, "subscriber when sealed: "+printable(orDash(h.Stored)))
	}
	for _, d := range h.doubts() {
		out = append(out, printable(d))
	}
	return out
}

func (a *Answer) json(w io.Writer) error {
	var line []byte
	for i := range a.Hits {
		line = append(a.Hits[i].appendJSON(line[:0]), '\n')
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return lastLines(json.NewEncoder(w), a.Names, &a.Summary)
}

// appendJSON adds to session.AppendJSON what only an answer knows.
func (h *Hit) appendJSON(b []byte) []byte {
	b = h.AppendJSON(b)
	b = b[:len(b)-1] // its closing brace
	if h.Corrected() {
		stored, _ := json.Marshal(h.Stored) // a string always has a form
		b = append(append(b, `,"subscriber_stored":`...), stored...)
	}
	if h.Certainty&session.FromInferred != 0 {
		b = append(b, `,"subscriber_from":"inferred"`...)
	}
	if h.Certainty&session.ToInferred != 0 {
		b = append(b, `,"subscriber_to":"inferred"`...)
	}
	if list := h.doubts(); len(list) > 0 {
		text, _ := json.Marshal(list) // strings always have a form
		b = append(append(b, `,"doubts":`...), text...)
	}
	return append(b, '}')
}

var csvHeader = []string{
	"start", "end", "proto", "initiator", "initiator_port", "responder", "responder_port", "local",
	"end_reason", "flags", "subscriber", "subscriber_stored", "subscriber_from", "subscriber_to", "remarks",
	"inside", "inside_port",
}

func (a *Answer) csv(w io.Writer) error {
	cw := csv.NewWriter(w)
	if err := cw.Write(csvHeader); err != nil {
		return err
	}
	for i := range a.Hits {
		if err := cw.Write(a.Hits[i].row()); err != nil {
			return err
		}
	}
	cw.Flush()
	return cw.Error()
}

// row returns the cells of csvHeader.
func (h *Hit) row() []string {
	row := []string{
		session.FormatTime(h.Start), session.FormatTime(h.End), strconv.Itoa(int(h.Proto)),
		"", "", "", "", "", h.EndReason.String(), strings.Join(h.Flags.Words(), " "),
		cell(h.Subscriber), cell(h.Stored), inferred(h.Certainty & session.FromInferred), inferred(h.Certainty & session.ToInferred),
		cell(strings.Join(h.doubts(), "; ")), "", "",
	}
	if h.Inside != (session.Addr{}) {
		row[15], row[16] = h.Inside.String(), strconv.Itoa(int(h.InsidePort))
	}
	localOnly := h.Flags&session.LocalOnly != 0
	if !localOnly || h.Local == session.SideInitiator {
		row[3], row[4] = h.Initiator.String(), strconv.Itoa(int(h.InitiatorPort))
	}
	if !localOnly || h.Local == session.SideResponder {
		row[5], row[6] = h.Responder.String(), strconv.Itoa(int(h.ResponderPort))
	}
	switch h.Local {
	case session.SideInitiator:
		row[7] = "initiator"
	case session.SideResponder:
		row[7] = "responder"
	}
	return row
}

func inferred(c session.Certainty) string {
	if c != 0 {
		return "inferred"
	}
	return ""
}

// cell makes a text harmless for spreadsheets: one that would be taken for a
// formula gets an apostrophe in front, which they show as text. So does one that
// begins with an apostrophe: whoever takes the first one off has the text as it
// was.
func cell(s string) string {
	if s == "" {
		return s
	}
	if c := s[0]; c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' {
		return s // as nearly all are
	}
	// What a spreadsheet may pass over before it looks: blanks, quotes, marks of
	// the order of bytes.
	rest := strings.TrimLeftFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("\"`\u201c\u201d\ufeff\u200b", r)
	})
	if s[0] == '\'' || rest != "" && strings.ContainsRune("=+-@|%\uff1d\uff0b\uff0d\uff20\u2212", []rune(rest)[0]) || strings.ContainsAny(s[:1], "\t\r\n") {
		return "'" + s
	}
	return s
}

// printable makes a text harmless for a terminal and for the columns of a
// table.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
