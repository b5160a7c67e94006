package disclose

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
)

// Imports are the files of which an answer about calls and mail was made: they are to it
// what coverage is to sessions. Without a file of a day nothing can be found of it.
type Imports struct {
	Files []ImportedFile `json:"files"`          // with records of days of the window, the oldest import first
	Left  int            `json:"left,omitempty"` // older ones that are not listed
}

// ImportedFile is one file of the provider's own records, as the ledger has its import. No
// name is in it.
type ImportedFile struct {
	Entry    int64  `json:"entry"`              // of the ledger
	At       string `json:"at"`                 // when it was imported
	Of       string `json:"of"`                 // calls or mail
	SHA256   string `json:"file_sha256"`        // of the file that the provider's operator named
	Records  uint64 `json:"records"`            // taken from it, of all its days
	Rejected uint64 `json:"rejected,omitempty"` // lines of it that were bad and left out
	FirstDay string `json:"first_day"`          // on which a record of it ended, UTC
	LastDay  string `json:"last_day"`
	Part     bool   `json:"part,omitempty"` // the import was broken off, and this much of it is kept
}

// What a file holds, in the words of the import.
const (
	ofCalls = "calls"
	ofMail  = "mail"
)

// mostImports is how many files are listed.
const mostImports = 1000

// imports returns what was imported of the window, for who asks for calls and mail. That
// it cannot be read is no reason not to answer: the reader says that it is not known.
func (g *Gate) imports(ctx context.Context, q *Query) *Imports {
	if q.Ask != WantCommunications {
		return nil
	}
	m, err := findImports(ctx, g.o.Ledger, q)
	if err != nil {
		g.o.Logger.Error("the imports could not be read for a question", "error", err)
		return nil
	}
	return m
}

// findImports finds in the ledger the files with records of the window of q. What is imported
// has happened, but for clocks: nothing older than the window can tell of it.
func findImports(ctx context.Context, l Entries, q *Query) (*Imports, error) {
	out := &Imports{Files: []ImportedFile{}}
	calls, mail := q.exchanges()
	first, last := q.Days()
	oldest := time.Unix(0, q.From).Add(-24 * time.Hour)
	ended := map[string]bool{} // of which the end has been met: the newest entry comes first
	const step = 4096
	for to := l.Size(); to > 0; to -= min(step, to) {
		list, err := l.Entries(ctx, max(0, to-step), to)
		if err != nil {
			return nil, fmt.Errorf("look for imports: %w", err)
		}
		for i := len(list) - 1; i >= 0; i-- {
			if overtaken(&list[i], ended) {
				continue
			}
			f, a, b := importOf(&list[i])
			if f == nil || !(f.Of == ofCalls && calls || f.Of == ofMail && mail) || b < first || a > last {
				continue
			}
			if len(out.Files) == mostImports {
				out.Left++
				continue
			}
			out.Files = append(out.Files, *f)
		}
		if list[0].Time.Before(oldest) {
			break
		}
	}
	slices.Reverse(out.Files)
	return out, nil
}

// overtaken reports whether an entry says that an import began of which a later one says how it
// ended. One that has no end was broken off with the agent.
func overtaken(r *ledger.Record, ended map[string]bool) bool {
	begun := r.Fields["begun"]
	if r.Kind != ledger.Import || begun == "" {
		return false
	}
	name := begun + r.Fields["of"] + r.Fields["file_sha256"]
	if r.Fields["result"] == "begun" {
		return ended[name]
	}
	ended[name] = true
	return false
}

// importOf reads an entry; nil when nothing of a file is kept.
func importOf(r *ledger.Record) (f *ImportedFile, first, last session.Day) {
	if r.Kind != ledger.Import || r.Fields["first_day"] == "" {
		return nil, 0, 0
	}
	a, err1 := time.Parse(time.DateOnly, r.Fields["first_day"])
	b, err2 := time.Parse(time.DateOnly, r.Fields["last_day"])
	if err1 != nil || err2 != nil {
		return nil, 0, 0
	}
	number := func(s string) uint64 { n, _ := strconv.ParseUint(s, 10, 64); return n } //nolint:errcheck // the agent wrote it
	return &ImportedFile{
		Entry: r.Index, At: session.FormatTime(r.Time.UnixNano()), Of: r.Fields["of"], SHA256: r.Fields["file_sha256"],
		Records: number(r.Fields["entries"]), Rejected: number(r.Fields["rejected"]),
		FirstDay: r.Fields["first_day"], LastDay: r.Fields["last_day"], Part: r.Fields["result"] != "done",
	}, session.DayOf(a.UnixNano()), session.DayOf(b.UnixNano())
}

// Without returns the days of the window of q of which no file has a record between its
// first and its last day, as texts.
func (m *Imports) Without(q *Query) []string {
	var out []string
	calls, mail := q.exchanges()
	for _, x := range []struct {
		of    string
		asked bool
	}{{ofCalls, calls}, {ofMail, mail}} {
		if x.asked {
			out = append(out, m.without(x.of, q)...)
		}
	}
	return out
}

func (m *Imports) without(of string, q *Query) (out []string) {
	first, last := q.Days()
	begin := session.Day(0)
	open := false
	end := func(until session.Day) {
		switch {
		case !open:
		case begin == until:
			out = append(out, fmt.Sprintf("%s of %s", of, begin))
		default:
			out = append(out, fmt.Sprintf("%s of %s to %s", of, begin, until))
		}
		open = false
	}
	for d := first; d <= last; d++ {
		word := d.String()
		has := slices.ContainsFunc(m.Files, func(f ImportedFile) bool { return f.Of == of && f.FirstDay <= word && word <= f.LastDay })
		switch {
		case has:
			end(d - 1)
		case !open:
			begin, open = d, true
		}
	}
	end(last)
	return out
}

// Lines says for people what was imported, at most so many files one by one. m may be nil:
// it is not known.
func (m *Imports) Lines(q *Query, most int) []string {
	if m == nil {
		return ImportLines(nil, nil, most)
	}
	return ImportLines(m, m.Without(q), most)
}

// ImportLines is Lines where the days without a file are known already.
func ImportLines(m *Imports, without []string, most int) []string {
	if m == nil {
		return []string{"imports: NOT KNOWN; that something is not found means nothing"}
	}
	var out []string
	for i := max(0, len(m.Files)-most); i < len(m.Files); i++ {
		f := &m.Files[i]
		records := count(int(f.Records), "record")
		if f.Part && f.Records == 0 { // the agent ended in the middle
			records = "records of which the number is NOT KNOWN"
		}
		text := fmt.Sprintf("imported at %s: %s of %s to %s, %s, ledger entry %d", f.At, f.Of, f.FirstDay, f.LastDay, records, f.Entry)
		if f.Rejected > 0 {
			text += fmt.Sprintf("; %s were bad and LEFT OUT", count(int(f.Rejected), "line"))
		}
		if f.Part {
			text += "; the import was BROKEN OFF"
		}
		out = append(out, text)
	}
	if more := m.Left + max(0, len(m.Files)-most); more > 0 {
		out = append(out, fmt.Sprintf("and %s more, imported before", count(more, "file")))
	}
	for i, days := range without {
		if i == most {
			out = append(out, fmt.Sprintf("and NOTHING of %s more", count(len(without)-most, "interval")))
			break
		}
		out = append(out, "NOTHING was imported of "+days+": that nothing is found there means nothing")
	}
	return out
}
