package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"text/tabwriter"
)

// Entry is one figure beside one baseline.
type Entry struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	Vs      string  `json:"vs"`             // the baseline; "" when there is none
	Ratio   float64 `json:"ratio"`          // to the baseline, see the package; 0 without one
	Note    string  `json:"note,omitempty"` // under which conditions
	Goal    string  `json:"goal,omitempty"` // of the value or, with a baseline, the ratio
	Reached *bool   `json:"reached,omitempty"`
}

// goal is a limit that a figure shall keep.
type goal struct {
	name  string // of the entry; a "*" stands for anything without "/"
	vs    string
	ratio bool // it is the ratio's, else the value's
	most  bool // the limit is the most, else the least
	limit float64
}

var goals = []goal{
	{"datapath/established/*/*/flows=1", "empty", true, true, 3},
	{"datapath/established/*/*/flows=65536", "empty", true, true, 8},
	{"datapath/established/*/*/flows=1048576", "empty", true, true, 18},
	{"datapath/established/*/*/flows=1", "hash", true, false, 3.5},
	{"datapath/established/*/*/flows=65536", "hash", true, false, 4.5},
	{"datapath/established/*/*/flows=1048576", "hash", true, false, 3},
	{"datapath/new/*/*", "empty", false, true, 250},
	{"e2e/new_sessions_per_second", "table_to_disk", false, false, 1e6},
	{"e2e/new_sessions_per_second/direct", "table_to_disk", false, false, 1e6},
	{"e2e/memory", "", false, true, 256},
	{"e2e/memory/*", "", false, true, 256},
	{"forward/*/packets_per_second", "nothing", true, false, 0.9},
	{"sweep/slots=*", "", false, false, 100},
	{"nat/events_per_second", "reading", false, false, 200_000},
	{"dhcp/leases_read_seconds/*/*", "", false, true, 5},
	{"idle/sessions=*/cpu", "", false, true, 1},
	{"radius/requests_per_second", "sync_each", false, false, 50_000},
	{"idle/sessions=*/memory", "", false, true, 256},
	{"identity/names/bindings=*", "map", false, true, 100},
	{"identity/at/bindings=*", "map", false, true, 100},
	{"answer/who_ms", "lookup_of_all", false, true, 1000},
	{"store/bytes_per_session", "", false, true, 12},
	{"store/write_amplification", "", false, true, 2},
	{"store/write_sessions_per_second_core", "", false, false, 1e6},
	{"store/query/public_address_port", "", false, true, 20},
	{"store/query/subscriber_day", "", false, true, 100},
	{"store/query/remote_day", "", false, true, 1000},
	{"store/query/remote_30d", "", false, true, 15_000},
	{"store/query/public_address_port/sessions=*", "", false, true, 20},
	{"store/query/public_address_port/sessions=*", "nfdump", false, true, 20},
	{"store/query/subscriber_day/sessions=*", "", false, true, 100},
	{"store/query/subscriber_day/sessions=*", "nfdump", false, true, 100},
	{"store/query/remote_day/sessions=*", "", false, true, 1000},
	{"store/query/remote_day/sessions=*", "nfdump", false, true, 1000},
	{"store/query/remote_30d/sessions=*", "", false, true, 15_000},
	{"store/query/remote_30d/sessions=*", "nfdump", false, true, 15_000},
	{"identity/bytes_per_binding", "", false, true, 268},
}

// judge says whether an entry reaches its goal.
func (e *Entry) judge() {
	for _, g := range goals {
		if g.vs != e.Vs || !matches(g.name, e.Name) {
			continue
		}
		v, sign, of := e.Value, ">=", ""
		if g.ratio {
			v, of = e.Ratio, " x"
		}
		reached := v >= g.limit
		if g.most {
			reached, sign = v <= g.limit, "<="
		}
		e.Goal, e.Reached = fmt.Sprintf("%s %s%s", sign, figure(g.limit), of), &reached
		return
	}
}

// matches compares element by element.
func matches(pattern, name string) bool {
	p, n := strings.Split(pattern, "/"), strings.Split(name, "/")
	if len(p) != len(n) {
		return false
	}
	for i := range p {
		before, after, star := strings.Cut(p[i], "*")
		if n[i] == p[i] || star && strings.HasPrefix(n[i], before) && strings.HasSuffix(n[i], after) {
			continue
		}
		return false
	}
	return true
}

// figure prints three digits that count, and no exponent.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) && a < 1e6:
		return fmt.Sprintf("%.0f", v)
	case a >= 1e6:
		return fmt.Sprintf("%.2fM", v/1e6)
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// table prints entries for people.
func table(w io.Writer, entries []Entry) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tVALUE\tUNIT\tBESIDE\tRATIO\tGOAL\t\tNOTE")
	for _, e := range entries {
		ratio, said := "", ""
		if e.Vs != "" {
			ratio = figure(e.Ratio)
		}
		if e.Reached != nil {
			said = "NOT REACHED"
			if *e.Reached {
				said = "reached"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Name, figure(e.Value), e.Unit, e.Vs, ratio, e.Goal, said, e.Note)
	}
	return t.Flush()
}

// write replaces the file with the entries.
func write(name string, entries []Entry) error {
	b, err := json.MarshalIndent(entries, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %q: %w", name, err)
	}
	if err := os.WriteFile(name, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	return nil
}
