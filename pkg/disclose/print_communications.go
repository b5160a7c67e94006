package disclose

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/edgelog/edgelog/pkg/session"
)

// PrintCommunications writes calls and mails in one of the Formats. With json a line for each
// is followed by one for each entry of the register and one with the summary; with csv these
// are left to the caller (see NameLines and CommunicationsAnswer.Lines).
func PrintCommunications(w io.Writer, a *CommunicationsAnswer, format string) error {
	return printAs(w, a, format)
}

// Lines returns what must be known to judge the answer, as lines for people. What was
// recorded of packets has no say in it.
func (a *CommunicationsAnswer) Lines() []string {
	s := &a.Summary
	lines := []string{
		fmt.Sprintf("%s in %s … %s", count(s.Records, "communication"), s.From, s.To),
		fmt.Sprintf("from the own records of %s, imported at %s; times are those of its systems", printable(s.Provider), printable(s.Gateway)),
		fmt.Sprintf("read: %s; what was not imported is not found here", count(s.SessionBlocks, "block")),
	}
	lines = append(lines, a.Imports.Lines(a.Query, shownSpans)...)
	lines = append(lines, fmt.Sprintf("ledger: intent %d, outcome %d; %d entries, root hash %s", s.LedgerIntent, s.LedgerOutcome, s.CheckpointSize, orDash(s.CheckpointRoot)))
	return append(lines, s.lacks("communication")...)
}

// jsonCommunication is the form of a communication in JSON, and the words of the
// other formats.
type jsonCommunication struct {
	Kind       string   `json:"kind"`
	Service    string   `json:"service,omitempty"`
	Start      string   `json:"start"`
	End        string   `json:"end"`
	From       string   `json:"from,omitempty"`
	To         []string `json:"to"`
	Forwarded  []string `json:"forwarded,omitempty"`
	Subscriber string   `json:"subscriber,omitempty"`
	User       string   `json:"user,omitempty"`
	IMEI       string   `json:"imei,omitempty"`
	IMSI       string   `json:"imsi,omitempty"`
	Cell       string   `json:"cell,omitempty"`
	CellEnd    string   `json:"cell_end,omitempty"`
	Place      string   `json:"place,omitempty"`
	PlaceEnd   string   `json:"place_end,omitempty"`
	Delivered  string   `json:"delivered,omitempty"`
	Record     string   `json:"record,omitempty"`

	Register *jsonName `json:"register,omitempty"` // in a file that is handed over
}

func communicationJSON(c *session.Communication) jsonCommunication {
	return jsonCommunication{
		Kind: c.Kind.String(), Service: c.Service, Start: session.FormatTime(c.Start), End: session.FormatTime(c.End), From: c.From, To: c.To, Forwarded: c.Forwarded,
		Subscriber: c.Subscriber, User: c.User, IMEI: c.Equipment, IMSI: c.SIM, Cell: c.Cell, CellEnd: c.CellEnd, Place: c.Place, PlaceEnd: c.PlaceEnd,
		Delivered: c.Delivered.String(), Record: c.Record,
	}
}

func (a *CommunicationsAnswer) table(w io.Writer) error {
	var lines []string
	for i := range a.Communications {
		c := communicationJSON(&a.Communications[i])
		lines = append(lines, c.Start+" … "+c.End+"  "+strings.TrimSpace(c.Kind+" "+printable(c.Service)))
		for _, x := range [...]struct{ what, text string }{
			{"from", orWithheld(c.From)}, {"to", strings.Join(c.To, ", ")}, {"forwarded", strings.Join(c.Forwarded, ", ")}, {"subscriber", c.Subscriber}, {"user", c.User},
			{"imei", c.IMEI}, {"imsi", c.IMSI}, {"cell", arrow(c.Cell, c.CellEnd)}, {"place", arrow(c.Place, c.PlaceEnd)}, {"delivered", c.Delivered}, {"record", c.Record},
		} {
			if x.text != "" {
				lines = append(lines, fmt.Sprintf("   %-10s %s", x.what, printable(x.text)))
			}
		}
	}
	if len(lines) > 0 {
		lines = append(lines, "")
	}
	lines = append(lines, NameLines(a.Names)...)
	_, err := fmt.Fprintln(w, strings.Join(append(lines, a.Lines()...), "\n"))
	return err
}

func orWithheld(from string) string {
	if from == "" {
		return "withheld"
	}
	return from
}

// arrow says where a mobile was at the start, and at the end when that is known to be
// elsewhere.
func arrow(start, end string) string {
	if end == "" || end == start {
		return start
	}
	return orDash(start) + " -> " + end
}

func (a *CommunicationsAnswer) json(w io.Writer) error {
	enc := json.NewEncoder(w)
	for i := range a.Communications {
		if err := enc.Encode(communicationJSON(&a.Communications[i])); err != nil {
			return err
		}
	}
	return lastLines(enc, a.Names, &a.Summary)
}

var communicationHeader = []string{
	"kind", "service", "start", "end", "from", "to", "forwarded", "subscriber", "name", "address", "user", "imei", "imsi", "cell", "cell_end", "place", "place_end",
	"delivered", "record",
}

func (a *CommunicationsAnswer) csv(w io.Writer) error {
	cw := csv.NewWriter(w)
	if err := cw.Write(communicationHeader); err != nil {
		return err
	}
	names := byName(a.Names)
	for i := range a.Communications {
		if err := cw.Write(a.row(names, i)); err != nil {
			return err
		}
	}
	cw.Flush()
	return cw.Error()
}

// row is a communication as the cells of a line.
func (a *CommunicationsAnswer) row(names nameIndex, i int) []string {
	x := &a.Communications[i]
	c, n := communicationJSON(x), names.at(x.Subscriber, x.Start)
	if n == nil {
		n = &Name{}
	}
	return cells([]string{
		c.Kind, c.Service, c.Start, c.End, c.From, strings.Join(c.To, ";"), strings.Join(c.Forwarded, ";"), c.Subscriber, n.Name, n.Address, c.User, c.IMEI, c.IMSI,
		c.Cell, c.CellEnd, c.Place, c.PlaceEnd, c.Delivered, c.Record,
	})
}
