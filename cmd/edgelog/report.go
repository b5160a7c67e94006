package main

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/disclose"
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
