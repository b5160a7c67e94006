package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/identity/roster"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/session"
)

func subscribersCommand() *cli.Command {
	return &cli.Command{
		Name:      "subscribers",
		Usage:     "import names and addresses, sealed at once, so that answers can name a subscriber",
		ArgsUsage: "import FILE.csv",
		UsageText: "edgelog subscribers import [--partial] [--from TIME] FILE.csv",
		Description: "FILE has the columns id, name, address, services, valid_from, valid_to; - is the standard input. The id is that of the\n" +
			"access records. All of it is taken, or nothing. From then on only a custodian's key can read it, and an answer names who\n" +
			"a subscriber was at its time. Who is not in a newer file has ended, unless it is --partial. Import again at least once\n" +
			"in 300 days: what is sealed is destroyed after a year.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "partial", Usage: "the file has only some subscribers: the others stay as they were"},
			&cli.StringFlag{Name: "from", Usage: "the file holds since `TIME` (RFC 3339); else from now on"},
			configFlag(), socketFlag(),
		},
		Action: importSubscribers,
	}
}

func importSubscribers(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) != 2 || args[0] != "import" {
		return usage("name what to do and one file").hint("edgelog subscribers import FILE.csv")
	}
	name := args[1]
	if err := keepMemory(); err != nil {
		return fail(err)
	}
	var text []byte
	var err error
	if name == "-" {
		text, err = io.ReadAll(os.Stdin)
	} else {
		text, err = os.ReadFile(name)
	}
	if err != nil {
		var cause *os.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return fail(fmt.Errorf("import %q: %w", name, err)).hint("name a CSV file that you may read")
	}
	rows, err := roster.ParseRegister(bytes.NewReader(text))
	if err != nil {
		return fail(fmt.Errorf("import %q: %w", name, err)).hint("nothing was imported; put the line right and import the file again")
	}
	socket, err := socketPath(c)
	if err != nil {
		return err
	}
	q := url.Values{"sha256": {sum(text)}}
	if c.Bool("partial") {
		q.Set("partial", "true")
	}
	if s := c.String("from"); s != "" {
		q.Set("from", s)
	}
	a, err := sendRegister(c.Context, socket, q, rows)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s: done: %s sealed\n", name, plural(uint64(a.Rows), "subscriber"))
	return err
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// sendRegister sends rows to the agent while it seals the first of them.
func sendRegister(ctx context.Context, socket string, q url.Values, rows []roster.Subscriber) (*recorder.RegisterAnswer, error) {
	client := agentClient(socket)
	defer client.CloseIdleConnections()
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(writeRegister(pw, rows)) }() // ends with the rows, or when nobody reads any more
	defer pr.Close()                                           //nolint:errcheck // has the writer end
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+recorder.PathRegister+"?"+q.Encode(), pr)
	if err != nil {
		return nil, fmt.Errorf("import subscribers: %w", err)
	}
	a := new(recorder.RegisterAnswer)
	return a, sendImport(client, socket, req, "subscribers", "nothing was imported", a)
}

func writeRegister(w io.Writer, rows []roster.Subscriber) error {
	out := bufio.NewWriterSize(w, 1<<16)
	enc := json.NewEncoder(out)
	for i := range rows {
		s := &rows[i]
		row := recorder.RegisterRow{ID: s.ID, Name: s.Name, Address: s.Address, Services: s.Services, From: s.From, To: s.To}
		if s.To == session.Forever {
			row.To = 0
		}
		if err := enc.Encode(row); err != nil {
			return err
		}
	}
	n := len(rows)
	return errors.Join(enc.Encode(recorder.RegisterRow{End: &n}), out.Flush())
}
