package disclose

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// PrintArt10 writes the statistics of a year as a table, a column for each kind of
// data, and below it what must be known of them.
func PrintArt10(w io.Writer, a *Art10) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	columns := append(slices.Clone(a.Kinds), a.Total)
	row := func(what string, of func(*Cases) int) {
		cells := []string{fmt.Sprintf("%-34s", what)} // the only column that is not of numbers
		for i := range columns {
			cells = append(cells, strconv.Itoa(of(&columns[i])))
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t")+"\t")
	}
	head := []string{fmt.Sprintf("%-34s", strconv.Itoa(a.Year))}
	for i := range columns {
		head = append(head, strings.ToUpper(columns[i].Kind))
	}
	fmt.Fprintln(tw, strings.Join(head, "\t")+"\t")
	row("information was given", func(c *Cases) int { return c.Given })
	for i := range a.Total.Ages {
		row("  of an age of "+a.Total.Ages[i].What, func(c *Cases) int { return countAt(c.Ages, i) })
	}
	row("  of which a part could not be read", func(c *Cases) int { return c.Incomplete })
	row("could not be met", func(c *Cases) int { return c.NotMet })
	for i := range a.Total.Whys {
		row("  "+whyText(a.Total.Whys[i].What), func(c *Cases) int { return countAt(c.Whys, i) })
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("print statistics: %w", err)
	}
	_, err := fmt.Fprintln(w, "\n"+strings.Join(a.Lines(), "\n"))
	if err != nil {
		return fmt.Errorf("print statistics: %w", err)
	}
	return nil
}

// countAt is the count at a place; 0 where another version has fewer.
func countAt(list []Count, i int) int {
	if i < len(list) {
		return list[i].Cases
	}
	return 0
}

func whyText(word string) string {
	for i := range whys {
		if string(whys[i].why) == word {
			return whys[i].text
		}
	}
	return printable(word)
}

// Lines say what must be known of the figures.
func (a *Art10) Lines() []string {
	lines := []string{
		fmt.Sprintf("%s, %s: %s filed, %d without an end yet; from %d entries of the ledger",
			printable(orDash(a.Gateway)), a.asOf(), count(a.Filed, "request"), a.Open, a.Entries),
		"a case counts in the year (UTC) in which it ended; its age is that of the end of the window when it was filed",
	}
	if a.Overdue > 0 {
		lines = append(lines, count(a.Overdue, "emergency request")+" without approval in time")
	}
	if a.BrokenOff > 0 {
		lines = append(lines, count(a.BrokenOff, "reading")+" broken off without an answer; they count when their requests end")
	}
	if a.Unread > 0 {
		lines = append(lines, fmt.Sprintf("entries that this version does not understand, and does not count: %d", a.Unread))
	}
	return lines
}

// CSVArt10 writes the statistics of a year as CSV: one line for each count, also
// for those that are 0, with year, what is counted, kind of data, cases.
func CSVArt10(w io.Writer, a *Art10) error {
	cw := csv.NewWriter(w)
	line := func(what, kind string, n int) {
		_ = cw.Write([]string{strconv.Itoa(a.Year), what, kind, strconv.Itoa(n)}) // Flush keeps the error
	}
	_ = cw.Write([]string{"year", "what", "kind", "cases"})
	for _, c := range append(slices.Clone(a.Kinds), a.Total) {
		line("given", c.Kind, c.Given)
		for _, n := range c.Ages {
			line("given: data "+n.What, c.Kind, n.Cases)
		}
		line("given: incomplete", c.Kind, c.Incomplete)
		line("not met", c.Kind, c.NotMet)
		for _, n := range c.Whys {
			line("not met: "+n.What, c.Kind, n.Cases)
		}
	}
	line("filed", "total", a.Filed)
	line("open", "total", a.Open)
	line("overdue", "total", a.Overdue)
	line("broken off", "total", a.BrokenOff)
	line("not understood", "total", a.Unread)
	cw.Flush()
	if err := cw.Error(); err != nil {
		return fmt.Errorf("print statistics: %w", err)
	}
	return nil
}
