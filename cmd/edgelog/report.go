package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/recorder"
)

func reportCommand() *cli.Command {
	return &cli.Command{
		Name:      "report",
		Usage:     "statistics that name nobody: cases of a year, or how much traffic crosses the border",
		ArgsUsage: "art10|volume",
		UsageText: "edgelog report art10 --year Y [--json | --csv]\nedgelog report volume [--from TIME] [--to TIME] [--json | --csv]",
		Description: "art10: in how many cases information was given in a year, how old the data were, and how many requests could not be met and why\n" +
			"(directive 2006/24/EC article 10); from the public parts of the ledger. Nobody's key is needed.\n" +
			"volume: packets and sessions by uplink, direction and hour, from counters in the kernel. An hour in which fewer than\n" +
			"statistics.k sessions began is shown as that, and its figures were never kept.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "year", Usage: "with art10: the calendar year `Y`, UTC"},
			&cli.StringFlag{Name: "from", Usage: "with volume: hours that begin at `TIME` or later; 7 days before --to when it is not given"},
			&cli.StringFlag{Name: "to", Usage: "with volume: and before `TIME`", Value: "now"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"}, &cli.BoolFlag{Name: "csv", Usage: "print CSV"},
			configFlag(), socketFlag(),
		},
		Action: func(c *cli.Context) error {
			switch {
			case c.Bool("json") && c.Bool("csv"):
				return usage("--json does not go together with --csv")
			case c.Args().Len() == 1 && c.Args().First() == "art10":
				return reportArt10(c)
			case c.Args().Len() == 1 && c.Args().First() == "volume":
				return reportVolume(c)
			}
			return usage("say what to report: art10 or volume").hint("\"edgelog report --help\" shows the flags")
		},
	}
}

func reportArt10(c *cli.Context) error {
	if !c.IsSet("year") {
		return usage("--year is missing").hint("for example edgelog report art10 --year %d", time.Now().UTC().Year()-1)
	}
	year, err := disclose.ParseYear(strconv.Itoa(c.Int("year")), time.Now())
	if err != nil {
		return usage("--year: %w", err)
	}
	socket, err := socketPath(c)
	if err != nil {
		return err
	}
	a := new(disclose.Art10)
	q := url.Values{"year": {strconv.Itoa(year)}}
	if err := askJSON(c.Context, socket, http.MethodGet, disclose.PathArt10+"?"+q.Encode(), "ask for the statistics", nil, a); err != nil {
		return err
	}
	switch {
	case c.Bool("json"):
		return printJSON(c.App.Writer, a)
	case c.Bool("csv"):
		for _, line := range a.Lines() {
			warn(c, "%s", line)
		}
		return disclose.CSVArt10(c.App.Writer, a)
	}
	return disclose.PrintArt10(c.App.Writer, a)
}

func reportVolume(c *cli.Context) error {
	now := time.Now()
	to, err := parseTime("to", c.String("to"), now)
	if err != nil {
		return err
	}
	from := to - int64(7*24*time.Hour)
	if c.IsSet("from") {
		if from, err = parseTime("from", c.String("from"), now); err != nil {
			return err
		}
	}
	if from >= to {
		return usage("the window ends before it begins; --from must be before --to")
	}
	socket, err := socketPath(c)
	if err != nil {
		return err
	}
	v := new(recorder.VolumeReport)
	q := url.Values{"from": {time.Unix(0, from).UTC().Format(time.RFC3339Nano)}, "to": {time.Unix(0, to).UTC().Format(time.RFC3339Nano)}}
	if err := askJSON(c.Context, socket, http.MethodGet, recorder.PathVolume+"?"+q.Encode(), "ask for the volume", nil, v); err != nil {
		return err
	}
	if !c.Bool("json") {
		for _, d := range v.Damaged {
			warn(c, "%s; they are left out", d)
		}
	}
	switch {
	case c.Bool("json"):
		return printJSON(c.App.Writer, v)
	case c.Bool("csv"):
		return csvVolume(c.App.Writer, v)
	}
	return printVolume(c.App.Writer, v)
}

// volumeCells are the columns of a row: figures, or what stands for them.
func volumeCells(row *recorder.VolumeRow) (packets, sessions string) {
	if row.Below {
		return "", fmt.Sprintf("<%d", row.K)
	}
	return strconv.FormatUint(row.Packets, 10), strconv.FormatUint(row.Sessions, 10)
}

func printVolume(w io.Writer, v *recorder.VolumeReport) error {
	if len(v.Rows) > 0 {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "HOUR\tHOURS\tUPLINK\tDIRECTION\tPACKETS\tSESSIONS\tREMARK") //nolint:errcheck // Flush says it
		for i := range v.Rows {
			row := &v.Rows[i]
			packets, sessions := volumeCells(row)
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%s\n", row.Hour.Format("2006-01-02T15Z"), row.Hours, row.Uplink, row.Direction, //nolint:errcheck // Flush says it
				dash(packets), sessions, unless(!row.Partial, "a part of the time is missing"))
		}
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(w) //nolint:errcheck // the next line says it
	}
	text := fmt.Sprintf("%s of %s; of an hour in which fewer than %d sessions began no figures are kept; the running hour is not shown",
		plural(uint64(len(v.Rows)), "row"), v.Gateway, v.K)
	if v.None != "" {
		text += "\n" + v.None
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

func csvVolume(w io.Writer, v *recorder.VolumeReport) error {
	cw := csv.NewWriter(w)
	_ = cw.Write([]string{"hour", "hours", "uplink", "direction", "packets", "sessions", "partial"}) // Flush keeps the error
	for i := range v.Rows {
		row := &v.Rows[i]
		packets, sessions := volumeCells(row)
		_ = cw.Write([]string{row.Hour.Format(time.RFC3339), strconv.Itoa(row.Hours), row.Uplink, row.Direction, packets, sessions, strconv.FormatBool(row.Partial)})
	}
	cw.Flush()
	return cw.Error()
}
