package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/session"
)

// communicationsQuery turns the command line into a query for calls and mail.
func communicationsQuery(c *cli.Context, now time.Time) (q *disclose.Query, err error) {
	q = &disclose.Query{Reference: c.String("reference"), Ask: disclose.WantCommunications, Subscriber: c.String("subscriber"), Equipment: c.String("equipment")}
	of, err := countryCode(c, "number-country")
	if err != nil {
		return nil, err
	}
	if s := c.String("number"); s != "" {
		if q.Number, err = (session.Numbering{Country: of}).ParseSender(s); err != nil {
			return nil, usage("--number %q: %w", s, err)
		}
	}
	if s := c.String("mail"); s != "" {
		if q.Mail, err = session.ParseMailAddress(s); err != nil {
			return nil, usage("--mail %q: %w", s, err)
		}
	}
	return q, inWindow(c, q, now)
}

// inWindow reads --from and --to.
func inWindow(c *cli.Context, q *disclose.Query, now time.Time) (err error) {
	if q.From, err = parseTime("from", c.String("from"), now); err != nil {
		return err
	}
	if q.To, err = parseTime("to", c.String("to"), now); err != nil {
		return err
	}
	fitWindow(q, now)
	return nil
}
