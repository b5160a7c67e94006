package config

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Line   int    // in the file, from 1; 0 when it concerns no single line
	Key    string // with its section: store.min_free, uplink[2].name
	Text   string // what is wrong
	Remedy string // what to do
}

// String returns the problem as one sentence.
func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.Key != "" {
		b.WriteString(p.Key + " ")
	}
	b.WriteString(p.Text)
	if p.Remedy != "" {
		b.WriteString("; " + p.Remedy)
	}
	return b.String()
}

// Error is everything that is wrong with a configuration; it has at least one
// problem, in the order of their lines.
type Error struct {
	Path     string
	Problems []Problem
}

// Error returns one line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = fmt.Sprintf("configuration %q: %s", e.Path, p)
	}
	return strings.Join(lines, "\n")
}

func (r *reader) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		switch {
		case a.Line == b.Line:
			return 0
		case a.Line == 0:
			return 1
		case b.Line == 0:
			return -1
		}
		return a.Line - b.Line
	})
	return &Error{Path: r.path, Problems: r.problems}
}

// add notes a problem with a key. While values are checked against each other,
// a key that could not even be read is left in peace: one cause, one sentence.
func (r *reader) add(key, text, remedy string) {
	if r.unread[key] {
		return
	}
	r.problems = append(r.problems, Problem{Line: r.where.line(key), Key: key, Text: text, Remedy: remedy})
}

// readingDone ends the first pass, see add.
func (r *reader) readingDone() {
	r.unread = map[string]bool{}
	for _, p := range r.problems {
		r.unread[p.Key] = true
	}
}

// syntax notes what the TOML parser found.
func (r *reader) syntax(err error) {
	var pe toml.ParseError
	if !errors.As(err, &pe) {
		r.problems = append(r.problems, Problem{Text: "cannot be read: " + err.Error()})
		return
	}
	text := pe.Message
	if text == "" {
		text = strings.TrimPrefix(pe.Error(), "toml: ")
	}
	r.problems = append(r.problems, Problem{
		Line: pe.Position.Line, Text: "is not valid TOML: " + text,
		Remedy: `texts stand in "quotes", sections in [brackets]`,
	})
}

// Nearest returns the known name that is most like name, or "" when none is.
func Nearest(name string, known []string) string {
	best, bestDist := "", len(name)/3+2 // farther is no help
	for _, k := range known {
		if d := distance(strings.ToLower(name), k); d < bestDist {
			best, bestDist = k, d
		}
	}
	return best
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// element names the i-th table of an array of tables, counted from 1 as
// people do.
func element(key string, i int) string { return key + "[" + strconv.Itoa(i+1) + "]" }

func quoted(s string) string { return strconv.Quote(s) }

// pathless takes the path out of a file system error whose path has already
// been said.
func pathless(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
