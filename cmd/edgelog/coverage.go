package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/session"
)

func coverageCommand() *cli.Command {
	return &cli.Command{
		Name:      "coverage",
		Usage:     "show, for each second, whether everything was recorded, and if not, why not",
		UsageText: "edgelog coverage [--from TIME] [--to TIME] [--uplink NAME] [--json]",
		Description: "complete: each session with a packet in that second has a record, or gets one when it ends.\n" +
			"sampled: some new sessions were refused; every 500th refused packet of each end user left a sample.\n" +
			"missing: sessions may be without a record, for the reason that is given.\n" +
			"unknown: there is no record of that second; nothing may be concluded from it.\n" +
			"Times are RFC 3339, for example 2025-03-01T12:00:00Z, or \"now\". It names no person.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "window from `TIME`; 24 hours before --to when it is not given"},
			&cli.StringFlag{Name: "to", Usage: "window until before `TIME`", Value: "now"},
			&cli.StringFlag{Name: "uplink", Usage: "only this uplink `NAME`"},
			&cli.BoolFlag{Name: "json", Usage: "print it as JSON"},
			configFlag(), socketFlag(),
		},
		Action: showCoverage,
	}
}

func showCoverage(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	now := time.Now()
	to, err := parseTime("to", c.String("to"), now)
	if err != nil {
		return err
	}
	from := to - int64(24*time.Hour)
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
	report, err := fetchCoverage(c.Context, socket, from, to, c.String("uplink"))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, report)
	}
	return printCoverage(c.App.Writer, report)
}

// fetchCoverage asks the agent.
func fetchCoverage(ctx context.Context, socket string, from, to int64, uplink string) (*session.CoverageReport, error) {
	q := url.Values{
		"from": {time.Unix(0, from).UTC().Format(time.RFC3339Nano)}, "to": {time.Unix(0, to).UTC().Format(time.RFC3339Nano)}, "uplink": {uplink},
	}
	r := new(session.CoverageReport)
	return r, askJSON(ctx, socket, http.MethodGet, "/v1/coverage?"+q.Encode(), "ask for coverage", nil, r)
}

func printCoverage(w io.Writer, r *session.CoverageReport) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "UPLINK\tFROM\tTO\tSECONDS\tWHAT WAS RECORDED")
	for _, s := range session.Together(r.Spans) {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%s\n", dash(s.Uplink), stamp(time.Unix(s.From, 0)), stamp(time.Unix(s.To, 0)), s.Seconds(), s.Text())
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for i := range r.Totals {
		t := &r.Totals[i]
		fmt.Fprintf(w, "%s: of %d s %s\n", dash(t.Uplink), t.Seconds, t.Text())
	}
	switch {
	case r.Decided.IsZero():
		fmt.Fprintf(w, "%s has no record of coverage\n", r.Gateway)
	case r.Decided.Before(r.To):
		fmt.Fprintf(w, "what is after %s is not decided yet\n", stamp(r.Decided))
	}
	if !r.StoredThrough.IsZero() {
		fmt.Fprintf(w, "every session that ended before %s is on the disk; of later ones some may still be in the kernel's table\n", stamp(r.StoredThrough))
	}
	for _, d := range r.Damaged {
		fmt.Fprintf(w, "DAMAGED: %s\n", d)
	}
	return nil
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// printCoverageStatus prints how it is now, and how the last day was.
func printCoverageStatus(w io.Writer, s *recorder.CoverageStatus) {
	for _, u := range s.Uplinks {
		since := ""
		if !u.Since.IsZero() {
			since = " since " + stamp(u.Since)
		}
		why := ""
		if len(u.Reasons) > 0 {
			why = " (" + strings.Join(u.Reasons, ", ") + ")"
		}
		day := ""
		for i := range s.Day {
			if t := &s.Day[i]; t.Uplink == u.Uplink {
				day = "; last 24 h: " + t.Text()
			}
		}
		fmt.Fprintf(w, "coverage   %s %s%s%s%s\n", u.Uplink, u.State, why, since, day)
	}
	if !s.OK {
		fmt.Fprintf(w, "           THE RECORD OF COVERAGE IS NOT KEPT: %s\n", s.Text)
	}
}
