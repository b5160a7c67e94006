package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/records"
	"github.com/edgelog/edgelog/pkg/session"
)

func importCommand() *cli.Command {
	return &cli.Command{
		Name:      "import",
		Usage:     "import the provider's own records of calls or of mail, sealed at once",
		ArgsUsage: "calls|mail FILE.csv",
		UsageText: "edgelog import [--country 45] [--dry-run] [--reject OTHER.csv] calls FILE.csv\nedgelog import [--dry-run] [--reject OTHER.csv] mail FILE.csv",
		Description: "FILE is CSV in UTF-8, one record a line; its first line names the columns, in any order. Of calls:\n  " +
			wrapped(records.ColumnNames(session.Call)) + "\nOf mail:\n  " + wrapped(records.ColumnNames(session.Mail)) + "\n" +
			"start, end, from and to must be there; an empty end is the start, an empty from is withheld. Times are RFC 3339 with their\n" +
			"zone. to and forwarded take several, separated by semicolons. delivered is yes, no or empty. Numbers are international, or\n" +
			"national with --country; mail addresses are name@domain.\n\n" +
			"All of the file is checked before anything is sent. A bad line is named by its number and the reason, and nothing is imported,\n" +
			"unless --reject takes the bad lines. What was imported can be read with a custodian's key only, is kept as long as sessions, counted\n" +
			"from the UTC day of its end, and a file that is imported twice counts once. Lines whose time is over are left out and counted.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "country", Usage: "numbers that are not international are of the country `CODE`, as 45"},
			&cli.StringFlag{Name: "trunk", Usage: "and are dialled with `PREFIX` in front, which is no part of them, as 0 in Germany"},
			&cli.IntFlag{Name: "short", Usage: "numbers of up to `N` digits are service numbers, which have no country", Value: 6},
			&cli.StringFlag{Name: "reject", Usage: "write bad lines to the new file `OTHER`, and import the others"},
			&cli.BoolFlag{Name: "dry-run", Usage: "check the file, and import nothing; no agent is needed"},
			&cli.BoolFlag{Name: "again", Usage: "import a file that was imported before, as after a loss of the store"},
			configFlag(), socketFlag(),
		},
		Action: importCommunications,
	}
}

// wrapped breaks a list of columns into two lines of a help text.
func wrapped(names string) string {
	const width = 90
	if len(names) <= width {
		return names
	}
	at := strings.LastIndex(names[:width], " ")
	return names[:at] + "\n  " + names[at+1:]
}

func importCommunications(c *cli.Context) error {
	args := c.Args().Slice()
	kinds := map[string]session.CommunicationKind{"calls": session.Call, "mail": session.Mail}
	if len(args) != 2 || kinds[args[0]] == 0 {
		return usage("name what to import, calls or mail, and one file").hint("edgelog import calls FILE.csv")
	}
	o := records.Options{Kind: kinds[args[0]], Now: time.Now()}
	var err error
	if o.Numbering, err = numbering(c); err != nil {
		return err
	}
	if o.Kind == session.Mail && (c.IsSet("country") || c.IsSet("trunk") || c.IsSet("short")) {
		return usage("--country, --trunk and --short are about numbers, and mail has none")
	}
	if err := keepMemory(); err != nil {
		return fail(err)
	}
	f, err := os.Open(args[1])
	if err != nil {
		return importFailed(args[1], err).hint("name a CSV file that you may read")
	}
	defer f.Close() //nolint:errcheck // only read
	if st, err := f.Stat(); err == nil && !st.Mode().IsRegular() {
		return importFailed(args[1], errors.New("it is not a file that can be read twice: first to check it, then to send it")).hint("write it to a file first")
	}
	found, err := checkRecords(c, f, args[1], o)
	if err == nil && !c.Bool("dry-run") {
		err = sendRecords(c, f, args[1], args[0], o, found)
	}
	if err != nil && found.bad > 0 {
		_ = os.Remove(c.String("reject")) // it names people, and the next try writes it again
	}
	return err
}

func importFailed(name string, err error) *failure {
	var cause *os.PathError
	if errors.As(err, &cause) {
		err = cause.Err
	}
	return fail(fmt.Errorf("import %q: %w", name, err))
}

// numbering says how national numbers are meant.
func numbering(c *cli.Context) (n session.Numbering, err error) {
	n = session.Numbering{Trunk: c.String("trunk"), Short: c.Int("short")}
	if n.Country, err = countryCode(c, "country"); err != nil {
		return n, err
	}
	if strings.Trim(n.Trunk, "0123456789") != "" || n.Trunk != "" && n.Country == "" {
		return n, usage("--trunk %q is not what is dialled in front of national numbers, or --country is missing", n.Trunk)
	}
	if n.Short < 1 || n.Short > 6 {
		return n, usage("--short %d is not 1 to 6: numbers of 7 digits and more are no service numbers", n.Short)
	}
	return n, nil
}

// countryCode returns the country code that a flag gives, as digits.
func countryCode(c *cli.Context, flag string) (string, error) {
	code := strings.TrimPrefix(c.String(flag), "+")
	if k := len(code); strings.Trim(code, "0123456789") != "" || k > 3 || k > 0 && code[0] == '0' {
		return "", usage("--%s %q is not a country code; write it as 45", flag, c.String(flag))
	}
	return code, nil
}

// shownFaults is how many bad lines are named.
const shownFaults = 20

// checked is what was found in a file.
type checked struct {
	good, bad   uint64
	sum         [32]byte
	first, last session.Day
}

// checkRecords reads the whole file, names what is wrong with it, and says what is in
// it.
func checkRecords(c *cli.Context, f io.Reader, name string, o records.Options) (found checked, err error) {
	var rejected *os.File
	if other := c.String("reject"); other != "" {
		if rejected, err = os.OpenFile(other, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return found, importFailed(other, err).hint("--reject takes the name of a file that is not there yet")
		}
		o.Reject = rejected
	}
	err = eachRecord(f, o, &found, func(*session.Communication) error { return nil }, func(bad *records.LineError) {
		if found.bad <= shownFaults {
			warn(c, "%q: %v", name, bad)
		}
	})
	if rejected != nil {
		if cerr := rejected.Close(); err == nil {
			err = cerr
		}
		if found.bad == 0 {
			_ = os.Remove(rejected.Name()) // it holds the names of the columns alone
		}
	}
	if err != nil {
		return found, importFailed(name, err).hint("nothing was imported; \"edgelog import --help\" says what a file must look like")
	}
	if more := found.bad - min(found.bad, shownFaults); more > 0 {
		warn(c, "%q: and %d more that are bad", name, more)
	}
	switch {
	case found.bad > 0 && rejected == nil:
		return found, importFailed(name, fmt.Errorf("%s of %d are bad", plural(found.bad, "line"), found.good+found.bad)).
			hint("nothing was imported; put them right and import the file again, or have them left out with --reject OTHER.csv")
	case found.good == 0:
		return found, importFailed(name, errors.New("it has no good line")).hint("nothing was imported")
	case c.Bool("dry-run"):
		_, err = fmt.Fprintf(c.App.Writer, "%s: %s, %s to %s (UTC days of their ends), %d bad; nothing was imported\n",
			name, plural(found.good, "record"), found.first, found.last, found.bad)
	}
	return found, err
}

// eachRecord calls good with each good line and bad with each bad one, and counts them in
// found.
func eachRecord(f io.Reader, o records.Options, found *checked, good func(*session.Communication) error, bad func(*records.LineError)) error {
	r, err := records.NewReader(f, o)
	if err != nil {
		return err
	}
	for {
		var x session.Communication
		var fault *records.LineError
		switch err := r.Next(&x); {
		case errors.Is(err, io.EOF):
			found.sum = r.Sum()
			return nil
		case errors.As(err, &fault):
			found.bad++
			bad(fault)
			continue
		case err != nil:
			return err
		}
		day := session.DayOf(x.End)
		if found.good == 0 {
			found.first, found.last = day, day
		}
		found.good++
		found.first, found.last = min(found.first, day), max(found.last, day)
		if err := good(&x); err != nil {
			return err
		}
	}
}

// errChanged ends the sending of a file that is no longer what was checked.
var errChanged = errors.New("it was changed while it was read; nothing was imported")

// sendRecords reads the file once more, and sends the good lines to the agent.
func sendRecords(c *cli.Context, f io.ReadSeeker, name, word string, o records.Options, found checked) error {
	socket, err := socketPath(c)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return importFailed(name, err)
	}
	pr, pw := io.Pipe()
	defer pr.Close() //nolint:errcheck // has the writer end
	changed := make(chan error, 1)
	go func() { // ends with the file, or when nobody reads any more
		err := writeRecords(pw, f, o, found)
		changed <- err
		pw.CloseWithError(err)
	}()
	path := map[string]string{"calls": recorder.PathCalls, "mail": recorder.PathMail}[word]
	q := url.Values{"sha256": {hex.EncodeToString(found.sum[:])}, "lines": {strconv.FormatUint(found.good, 10)}, "rejected": {strconv.FormatUint(found.bad, 10)}}
	if c.Bool("again") {
		q.Set("again", "true")
	}
	a, err := postRecords(c.Context, socket, path+"?"+q.Encode(), pr)
	_ = pr.Close()
	if werr := <-changed; err != nil && errors.Is(werr, errChanged) {
		return importFailed(name, errChanged)
	}
	if err != nil {
		return err
	}
	return printRecords(c, name, found, a)
}

func printRecords(c *cli.Context, name string, found checked, a *recorder.CommunicationsAnswer) error {
	bad := ""
	if found.bad > 0 {
		bad = fmt.Sprintf(", %d bad ones written to %s", found.bad, c.String("reject"))
	}
	if !a.Known.IsZero() {
		_, err := fmt.Fprintf(c.App.Writer, "%s: was imported at %s; nothing was done (--again imports it again)%s\n", name, stamp(a.Known), bad)
		return err
	}
	text := ""
	if a.Expired > 0 {
		text = fmt.Sprintf(", %d left out: their time is over", a.Expired)
	}
	_, err := fmt.Fprintf(c.App.Writer, "%s: done: %s sealed%s%s\n", name, plural(a.Lines, "record"), text, bad)
	return err
}

// writeRecords writes the good lines of a file as the agent reads them, if it is still the
// file that was checked.
func writeRecords(w io.Writer, f io.Reader, o records.Options, found checked) error {
	var now checked
	out := records.NewWriter(w, o.Kind)
	err := eachRecord(f, o, &now, out.Write, func(*records.LineError) {})
	switch {
	case errors.Is(err, io.ErrClosedPipe): // the agent has said why
		return err
	case err != nil, now != found:
		return errChanged
	}
	return out.Flush()
}

func postRecords(ctx context.Context, socket, path string, body io.Reader) (*recorder.CommunicationsAnswer, error) {
	client := agentClient(socket)
	if t, ok := client.Transport.(*http.Transport); ok {
		t.ExpectContinueTimeout = time.Minute // a file that the agent knows is not sent
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+path, body)
	if err != nil {
		return nil, fmt.Errorf("import records: %w", err)
	}
	req.Header.Set("Content-Type", "text/csv")
	req.Header.Set("Expect", "100-continue")
	a := new(recorder.CommunicationsAnswer)
	return a, sendImport(client, socket, req, "records", "unless it says otherwise nothing was imported", a)
}

// sendImport sends what is imported, and reads the answer into a. remedy stands beside what the
// agent says when it refuses.
func sendImport(client *http.Client, socket string, req *http.Request, what, remedy string, a any) error {
	resp, err := client.Do(req)
	if err != nil {
		return agentError(socket, fmt.Errorf("import %s: %w", what, err))
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // better less than nothing
		return fail(fmt.Errorf("import %s: %s", what, strings.TrimSpace(string(text)))).hint("%s", remedy)
	}
	if err := json.NewDecoder(resp.Body).Decode(a); err != nil {
		return fmt.Errorf("import %s: the answer is not understood: %w; is the agent of this version?", what, err)
	}
	return nil
}
