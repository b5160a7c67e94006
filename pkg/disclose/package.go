package disclose

import (
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// PackageStatement returns what the agent signs of a package (ledger.Statement),
// by the SHA-256 of its manifest.
func PackageStatement(manifest [32]byte) (what, text string) {
	return "package", "sha256 of manifest.json: " + hex.EncodeToString(manifest[:]) + "\n"
}

// handed is what was found as rows of a file that is handed over: each stands
// for itself, with what the register says of its subscriber at that time, and
// neither register nor summary follows them.
type handed struct {
	n      int
	header []string
	cells  func(i int) []string
	json   func(b []byte, i int) ([]byte, error)
}

// WriteCSV writes the sessions as RFC 4180 has it.
func (a *Answer) WriteCSV(w io.Writer) error { return a.handed().csv(w) }

// WriteJSONLines writes a JSON object and a line end for each session.
func (a *Answer) WriteJSONLines(w io.Writer) error { return a.handed().jsonLines(w) }

// WriteCSV writes the access records as RFC 4180 has it.
func (a *AccessAnswer) WriteCSV(w io.Writer) error { return a.handed().csv(w) }

// WriteJSONLines writes a JSON object and a line end for each access record.
func (a *AccessAnswer) WriteJSONLines(w io.Writer) error { return a.handed().jsonLines(w) }

// WriteCSV writes the candidates as RFC 4180 has it.
func (a *WhoAnswer) WriteCSV(w io.Writer) error { return a.handed().csv(w) }

// WriteJSONLines writes a JSON object and a line end for each candidate.
func (a *WhoAnswer) WriteJSONLines(w io.Writer) error { return a.handed().jsonLines(w) }

var registerHeader = []string{"name", "address", "services"}

func (a *Answer) handed() handed {
	names := byName(a.Names)
	texts := map[*Name][]byte{} // nearly all sessions are of one subscriber
	return handed{
		n: len(a.Hits), header: slices.Concat(csvHeader, registerHeader),
		cells: func(i int) []string {
			row, n := a.Hits[i].row(), names.at(a.Hits[i].Subscriber, a.Hits[i].Start)
			if n == nil {
				n = &Name{}
			}
			return append(row, cell(n.Name), cell(n.Address), cell(n.Services))
		},
		json: func(b []byte, i int) ([]byte, error) {
			h := &a.Hits[i]
			b = h.appendJSON(b)
			n := names.at(h.Subscriber, h.Start)
			if n == nil {
				return b, nil
			}
			var err error
			if texts[n] == nil {
				texts[n], err = json.Marshal(nameJSON(n))
			}
			b = append(b[:len(b)-1], `,"register":`...)
			return append(append(b, texts[n]...), '}'), err
		},
	}
}

func (a *AccessAnswer) handed() handed {
	names := byName(a.Names)
	return handed{
		n: len(a.Records), header: accessHeader, cells: a.row,
		json: func(b []byte, i int) ([]byte, error) {
			r := &a.Records[i]
			o := r.object()
			o.Register = nameJSON(names.at(r.Subscriber, max(r.From, a.Query.From)))
			text, err := json.Marshal(o)
			return append(b, text...), err
		},
	}
}

func (a *WhoAnswer) handed() handed {
	return handed{
		n: len(a.Candidates), header: whoHeader, cells: a.row,
		json: func(b []byte, i int) ([]byte, error) {
			text, err := json.Marshal(a.Candidates[i].object())
			return append(b, text...), err
		},
	}
}

// WriteCSV writes the calls and mails as RFC 4180 has it.
func (a *CommunicationsAnswer) WriteCSV(w io.Writer) error { return a.handed().csv(w) }

// WriteJSONLines writes a JSON object and a line end for each call or mail.
func (a *CommunicationsAnswer) WriteJSONLines(w io.Writer) error { return a.handed().jsonLines(w) }

func (a *CommunicationsAnswer) handed() handed {
	names := byName(a.Names)
	return handed{
		n: len(a.Communications), header: communicationHeader,
		cells: func(i int) []string { return a.row(names, i) },
		json: func(b []byte, i int) ([]byte, error) {
			c := &a.Communications[i]
			o := communicationJSON(c)
			o.Register = nameJSON(names.at(c.Subscriber, c.Start))
			text, err := json.Marshal(o)
			return append(b, text...), err
		},
	}
}

func (h handed) csv(w io.Writer) error {
	cw := csv.NewWriter(w)
	cw.UseCRLF = true
	err := cw.Write(h.header)
	for i := 0; i < h.n && err == nil; i++ {
		row := h.cells(i)
		for j := range row {
			row[j] = legible(row[j])
		}
		err = cw.Write(row)
	}
	cw.Flush()
	if err == nil {
		err = cw.Error()
	}
	if err != nil {
		return fmt.Errorf("write csv: %w", err)
	}
	return nil
}

func (h handed) jsonLines(w io.Writer) error {
	var line []byte
	for i := range h.n {
		var err error
		if line, err = h.json(line[:0], i); err != nil {
			return fmt.Errorf("write json: %w", err)
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return fmt.Errorf("write json: %w", err)
		}
	}
	return nil
}

// legible replaces what not every program reads alike: control characters, and
// bytes that are no UTF-8.
func legible(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= ' ' && s[i] < 0x7f
	}
	if plain || utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// nameIndex has names by subscriber.
type nameIndex map[string][]*Name

func byName(list []Name) nameIndex {
	out := nameIndex{}
	for i := range list {
		out[list[i].Subscriber] = append(out[list[i].Subscriber], &list[i])
	}
	return out
}

// at returns what the register says of a subscriber at a time; nil when that is
// not known.
func (x nameIndex) at(subscriber string, ns int64) *Name {
	for _, n := range x[subscriber] {
		if n.From <= ns && ns < n.To {
			return n
		}
	}
	return nil
}
