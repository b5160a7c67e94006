package main

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

func communicationsCommand() *cli.Command {
	return &cli.Command{
		Name:  "communications",
		Usage: "read the imported calls and mails of one identifier",
		UsageText: "edgelog communications --reference TEXT --identity KEYFILE\n" +
			"   (--number N [--country 45] | --mail A | --subscriber S | --equipment IMEI) --from TIME --to TIME",
		Description: "A number or address is found in any place: who called or wrote, to whom, and where it was forwarded to.\n" +
			"The question is written to the ledger before anything is read, and its outcome before anything is printed.\n" +
			"Times are RFC 3339, for example 2025-03-01T12:00:00Z; --to may be \"now\".",
		Flags: []cli.Flag{
			referenceFlag(), identityFlag(),
			&cli.StringFlag{Name: "number", Usage: "calls and messages of the number `N`, or of a user of internet telephony"},
			&cli.StringFlag{Name: "country", Usage: "a --number that is not international is of the country `CODE`"},
			&cli.StringFlag{Name: "trunk", Usage: "and is dialled with `PREFIX` in front, which is no part of it"},
			&cli.IntFlag{Name: "short", Usage: "numbers of up to `N` digits are service numbers, which have no country", Value: 6},
			&cli.StringFlag{Name: "mail", Usage: "mails of the address `A`"},
			&cli.StringFlag{Name: "subscriber", Usage: "all of the subscriber, or of the user's identity, `S`"},
			&cli.StringFlag{Name: "equipment", Usage: "calls of the equipment or SIM with this `IMEI` or IMSI"},
			&cli.StringFlag{Name: "from", Usage: "window from `TIME`"},
			&cli.StringFlag{Name: "to", Usage: "window until before `TIME`"},
			formatFlag(), configFlag(), socketFlag(),
		},
		Action: communications,
	}
}

func communications(c *cli.Context) error {
	if err := errors.Join(noArgs(c), need(c, "reference", "identity", "from", "to"), knownFormat(c)); err != nil {
		return err
	}
	q, err := communicationsQuery(c, time.Now())
	if err != nil {
		return err
	}
	var a *disclose.CommunicationsAnswer
	err = askAgent(c, func(client *http.Client, ids *vault.Identities) (err error) {
		a, err = disclose.AskCommunications(c.Context, client, q, ids)
		return err
	})
	if err != nil {
		return err
	}
	return give(c, &a.Summary, func(w io.Writer, format string) error { return disclose.PrintCommunications(w, a, format) },
		func() []string { return append(disclose.NameLines(a.Names), a.Lines()...) })
}

func communicationsQuery(c *cli.Context, now time.Time) (*disclose.Query, error) {
	q := &disclose.Query{Reference: c.String("reference"), Ask: disclose.WantCommunications, Subscriber: c.String("subscriber"), Equipment: c.String("equipment")}
	how, err := numbering(c)
	if err != nil {
		return nil, err
	}
	if s := c.String("number"); s != "" {
		if q.Number, err = how.ParseSender(s); err != nil {
			return nil, usage("--number %q: %w", s, err)
		}
	}
	if s := c.String("mail"); s != "" {
		if q.Mail, err = session.ParseMailAddress(s); err != nil {
			return nil, usage("--mail %q: %w", s, err)
		}
	}
	if q.From, err = parseTime("from", c.String("from"), now); err != nil {
		return nil, err
	}
	if q.To, err = parseTime("to", c.String("to"), now); err != nil {
		return nil, err
	}
	fitWindow(q, now)
	if err := q.Check(now); err != nil {
		return nil, usage("%w", err)
	}
	return q, nil
}
