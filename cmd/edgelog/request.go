package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

func requestCommand() *cli.Command {
	return &cli.Command{
		Name:      "request",
		Usage:     "file, approve and run what an authority asks for",
		ArgsUsage: "new|emergency|list|show|approve|refuse|withdraw|run",
		UsageText: `edgelog request new lookup|who|access|communications [ADDRESS[:PORT]] --reference N --authority WHO --legal-basis TEXT --recipient KEY …
edgelog request emergency lookup|who|access|communications … --reason TEXT
edgelog request list [--identity KEYFILE] [--json]
edgelog request show N --identity KEYFILE
edgelog request approve N --identity KEYFILE [--yes]
edgelog request refuse N --identity KEYFILE --reason TEXT
edgelog request withdraw N --identity KEYFILE --reason TEXT
edgelog request run N --identity KEYFILE --out FILE`,
		Description: `An officer files a request: one identifier, one window, one order of an authority. A custodian, who is another person, approves
it on a terminal of their own: that gives the officer the keys of what answers it, and no others, for some days. The officer runs it
once; what is handed over is encrypted to the authority's key. In an emergency one custodian is enough, and another must follow.
Everything is in the ledger, sealed, before it is done. "edgelog status" says how many requests wait, and names nobody.`,
		Flags: append(append(questionFlags(),
			&cli.StringFlag{Name: "authority", Usage: "with new: `WHO` orders it"},
			&cli.StringFlag{Name: "country", Usage: "with new: the authority's country, ISO 3166-1 `CC`; the configuration's when it is not given"},
			&cli.StringFlag{Name: "legal-basis", Usage: "with new: the provision and the order, as `TEXT`"},
			&cli.StringFlag{Name: "order", Usage: "with new: the written order, a `FILE` of which the hash is kept"},
			&cli.StringFlag{Name: "recipient", Usage: "with new: the authority's public `KEY`, age1…"},
			&cli.StringFlag{Name: "delivery", Usage: "with new: how the answer is sent there, as `TEXT`"},
			&cli.IntFlag{Name: "max-hits", Usage: "with new: at most `N` records", Value: 1000},
			&cli.StringFlag{Name: "priority", Usage: "with new: routine or urgent", Value: string(disclose.Routine)},
		),
			&cli.StringFlag{Name: "reason", Usage: "with emergency, refuse and withdraw: `WHY`"},
			&cli.StringFlag{Name: "out", Usage: "with run: write the package, encrypted to the authority, to `FILE`"},
			&cli.BoolFlag{Name: "yes", Usage: "with approve: do not ask on the terminal"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			identityFlag(), configFlag(), socketFlag(),
		),
		Action: requests,
	}
}

func requests(c *cli.Context) error {
	words := c.Args().Slice()
	if len(words) == 0 {
		words = []string{""}
	}
	switch word, rest := words[0], words[1:]; word {
	case "new", "emergency":
		return newRequest(c, word == "emergency", rest)
	case "list":
		if len(rest) == 0 {
			return listRequests(c)
		}
	case "show", "approve", "refuse", "withdraw", "run":
		if len(rest) != 1 {
			return usage("say which request: edgelog request %s N", word).hint("\"edgelog request list\" shows them")
		}
		id, err := parseRequest(rest[0])
		if err != nil {
			return err
		}
		if err := need(c, "identity"); err != nil {
			return err
		}
		return map[string]func(*cli.Context, int64) error{
			"show": showRequest, "approve": approveRequest, "refuse": refuseRequest, "withdraw": withdrawRequest, "run": runRequest,
		}[word](c, id)
	}
	return usage("say what to do: new, emergency, list, show, approve, refuse, withdraw or run").hint("\"edgelog request --help\" shows how")
}

func parseRequest(word string) (int64, error) {
	id, err := strconv.ParseInt(word, 10, 64)
	if err != nil || id < 0 {
		return 0, usage("%q is not the number of a request", word).hint("\"edgelog request list\" shows them")
	}
	return id, nil
}

// newRequest files a request. It needs no key: who files it is known by their user.
func newRequest(c *cli.Context, emergency bool, words []string) error {
	if err := need(c, "reference", "authority", "legal-basis", "recipient"); err != nil {
		return err
	}
	if emergency != c.IsSet("reason") {
		return usage("--reason says why it is an emergency, and belongs to \"edgelog request emergency\"")
	}
	q, err := asked(c, words, time.Now())
	if err != nil {
		return err
	}
	r := &disclose.Request{
		Authorisation: disclose.Authorisation{
			Country: c.String("country"), Authority: c.String("authority"), Number: c.String("reference"), LegalBasis: c.String("legal-basis"),
		},
		Task:      disclose.Task{Query: *q, MaxHits: c.Int("max-hits"), Priority: disclose.Priority(c.String("priority"))},
		Delivery:  disclose.Delivery{Recipient: c.String("recipient"), To: c.String("delivery")},
		Emergency: c.String("reason"),
	}
	if _, err := vault.ParseRecipients([]string{r.Delivery.Recipient}); err != nil {
		return usage("--recipient: %w", err)
	}
	if r.Authorisation.Document, err = hashOf(c.String("order")); err != nil {
		return err
	}
	socket, err := socketPath(c)
	if err != nil {
		return err
	}
	client := agentClient(socket)
	defer client.CloseIdleConnections()
	f, err := disclose.FileRequest(c.Context, client, r)
	if err != nil {
		return agentError(socket, err)
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, f.Case)
	}
	_, err = fmt.Fprintf(c.App.Writer, "request %d is filed; it needs %s by %s: edgelog request approve %d\n",
		f.Case.ID, plural(uint64(f.Case.Needed), "approval"), session.FormatTime(f.Case.Until.UnixNano()), f.Case.ID)
	return err
}

// asked returns what is asked for, in the words of the command line.
func asked(c *cli.Context, words []string, now time.Time) (*disclose.Query, error) {
	kind := ""
	if len(words) > 0 {
		kind, words = words[0], words[1:]
	}
	if kind != "who" && len(words) > 0 {
		return nil, usage("%q is one word too many", words[0])
	}
	read := parseQuery
	switch kind {
	case "who":
		read = func(c *cli.Context, now time.Time) (*disclose.Query, error) { return whoQuery(c, words, now) }
	case "access":
		read = accessQuery
	case "communications":
		read = communicationsQuery
	case "lookup":
	default:
		return nil, usage("say what is asked for: lookup, who, access or communications").hint("edgelog request new who 192.0.2.1:40000 --at 2025-03-01T12:00:00Z …")
	}
	if kind != "who" {
		if err := need(c, "from", "to"); err != nil {
			return nil, err
		}
	}
	q, err := read(c, now)
	if err != nil {
		return nil, err
	}
	if err := q.Check(now); err != nil {
		return nil, usage("%w", err)
	}
	return q, nil
}

// kindOf is the word of the command that asks for q.
func kindOf(q *disclose.Query) string {
	if q.Ask == "" {
		return "lookup"
	}
	return q.Ask
}

func hashOf(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", fail(fmt.Errorf("--order: %w", err))
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fail(fmt.Errorf("--order: read %q: %w", file, err))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// listRequests shows how each stands; with a key also what those are about that it
// opens.
func listRequests(c *cli.Context) error {
	show := func(client *http.Client, ids *vault.Identities) error {
		l, err := disclose.ListRequests(c.Context, client)
		if err != nil {
			return err
		}
		if c.Bool("json") {
			return printJSON(c.App.Writer, l.Cases)
		}
		if len(l.Cases) == 0 {
			_, err = fmt.Fprintln(c.App.Writer, "there are no requests")
			return err
		}
		t := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
		fmt.Fprintln(t, "N\tSTATE\tASKS\tFILED\tUNTIL\tAPPROVALS\t"+strings.TrimSuffix(strings.Repeat("CASE\tABOUT\t", btoi(ids != nil)), "\t"))
		for i := range l.Cases {
			listRequest(t, &l.Cases[i], ids)
		}
		return t.Flush()
	}
	if c.String("identity") != "" {
		return withAgent(c, show)
	}
	socket, err := socketPath(c)
	if err != nil {
		return err
	}
	client := agentClient(socket)
	defer client.CloseIdleConnections()
	return agentError(socket, show(client, nil))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func listRequest(w io.Writer, k *disclose.Listed, ids *vault.Identities) {
	until := ""
	if k.State == disclose.Filed || k.State == disclose.Approved {
		until = k.Until.Format(time.RFC3339)
	}
	fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%d of %d", k.ID, stateText(&k.Case), k.Ask, k.Filed.Format(time.RFC3339), until, len(k.Approvals), k.Needed)
	if ids != nil {
		if r, _, err := k.Open(ids); err == nil {
			fmt.Fprintf(w, "\t%s\t%s %s", r.Authorisation.Number, r.Task.Query.Kind(), r.Task.Query.Identifier())
		} else {
			fmt.Fprint(w, "\t\tsealed to others")
		}
	}
	fmt.Fprintln(w)
}

func stateText(k *disclose.Case) string {
	text := string(k.State)
	switch {
	case k.Overdue:
		text += ", an emergency that no second custodian approved in time"
	case k.Emergency && len(k.Approvals) == 1:
		text += ", an emergency that waits for a second custodian until " + k.Ratify.Format(time.RFC3339)
	case k.Emergency && len(k.Approvals) > 1:
		text += ", an emergency"
	}
	return text
}

// describe says what a request is about, to who may know.
func describe(w io.Writer, k *disclose.Case, r *disclose.Request) error {
	q := &r.Task.Query
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(name, format string, v ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, v...)) }
	line("request", "%d, %s", k.ID, stateText(k))
	line("case", "%s of %s (%s), %s", r.Authorisation.Number, r.Authorisation.Authority, r.Authorisation.Country, r.Authorisation.LegalBasis)
	if r.Authorisation.Document != "" {
		line("order", "SHA-256 %s", r.Authorisation.Document)
	}
	if r.Emergency != "" {
		line("emergency", "%s", r.Emergency)
	}
	line("asks", "%s: %s %s, at most %d records, %s", kindOf(q), q.Kind(), q.Identifier(), r.Task.MaxHits, r.Task.Priority)
	line("window", "%s … %s", session.FormatTime(q.From), session.FormatTime(q.To))
	line("officer", "%s, %s", r.Officer, r.OfficerKey)
	line("filed", "%s", session.FormatTime(r.Filed.UnixNano()))
	line("delivery", "%s %s", r.Delivery.Recipient, r.Delivery.To)
	line("approvals", "%d of %d", len(k.Approvals), k.Needed)
	return t.Flush()
}

// withRequest calls do with a request, opened with the key of --identity.
func withRequest(c *cli.Context, id int64, do func(*http.Client, *vault.Identities, *disclose.Requests, *disclose.Request, []byte) error) error {
	return withAgent(c, func(client *http.Client, ids *vault.Identities) error {
		l, err := disclose.GetRequest(c.Context, client, id)
		if err != nil {
			return err
		}
		r, text, err := l.Cases[0].Open(ids)
		if err != nil {
			return err
		}
		return do(client, ids, l, r, text)
	})
}

func showRequest(c *cli.Context, id int64) error {
	return withRequest(c, id, func(_ *http.Client, _ *vault.Identities, l *disclose.Requests, r *disclose.Request, _ []byte) error {
		k := &l.Cases[0]
		if c.Bool("json") {
			return printJSON(c.App.Writer, struct {
				Case    *disclose.Case    `json:"case"`
				Request *disclose.Request `json:"request"`
			}{&k.Case, r})
		}
		return describe(c.App.Writer, &k.Case, r)
	})
}

// approveRequest is for a custodian, on their own terminal.
func approveRequest(c *cli.Context, id int64) error {
	return withRequest(c, id, func(client *http.Client, ids *vault.Identities, l *disclose.Requests, r *disclose.Request, _ []byte) error {
		k := &l.Cases[0]
		if err := describe(c.App.ErrWriter, &k.Case, r); err != nil {
			return err
		}
		if !c.Bool("yes") {
			if err := confirm(fmt.Sprintf("Type %d to approve it: ", id), strconv.FormatInt(id, 10)); err != nil {
				return err
			}
		}
		done, found, err := disclose.ApproveRequest(c.Context, client, l, ids, time.Now(), nil)
		if err != nil {
			return err
		}
		if c.Bool("json") {
			return printJSON(c.App.Writer, done)
		}
		if found != nil {
			s := found.Summary()
			fmt.Fprintf(c.App.Writer, "it finds %s in %s … %s\n", plural(uint64(s.Records), "record"), s.From, s.To) //nolint:errcheck // the next one says it
		}
		_, err = fmt.Fprintf(c.App.Writer, "request %d is %s, %d of %d approvals\n", id, stateText(done), len(done.Approvals), done.Needed)
		return err
	})
}

// confirm has somebody type a word on the terminal.
func confirm(prompt, word string) error {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return fail(errors.New("there is no terminal to ask on")).hint("approve it with --yes when you have read it")
	}
	defer tty.Close() //nolint:errcheck // nothing is kept in it
	fmt.Fprint(tty, prompt)
	line, err := bufio.NewReader(tty).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != word {
		return fail(errors.New("it is not approved"))
	}
	return nil
}

func refuseRequest(c *cli.Context, id int64) error {
	return endRequest(c, id, func(client *http.Client, text []byte) (*disclose.Case, error) {
		return disclose.RefuseRequest(c.Context, client, id, text, c.String("reason"))
	})
}

func withdrawRequest(c *cli.Context, id int64) error {
	return endRequest(c, id, func(client *http.Client, text []byte) (*disclose.Case, error) {
		return disclose.WithdrawRequest(c.Context, client, id, text, c.String("reason"))
	})
}

func endRequest(c *cli.Context, id int64, end func(*http.Client, []byte) (*disclose.Case, error)) error {
	if err := need(c, "reason"); err != nil {
		return err
	}
	return withRequest(c, id, func(client *http.Client, _ *vault.Identities, _ *disclose.Requests, _ *disclose.Request, text []byte) error {
		k, err := end(client, text)
		if err != nil {
			return err
		}
		if c.Bool("json") {
			return printJSON(c.App.Writer, k)
		}
		_, err = fmt.Fprintf(c.App.Writer, "request %d is %s\n", id, stateText(k))
		return err
	})
}

// runPermit returns by what right the one with ids runs a request.
func runPermit(c *cli.Context, client *http.Client, ids *vault.Identities, id int64) (*disclose.Permit, *disclose.Request, error) {
	l, err := disclose.GetRequest(c.Context, client, id)
	if err != nil {
		return nil, nil, err
	}
	p, r, err := disclose.RunPermit(l, ids)
	if errors.Is(err, disclose.ErrNoGrant) {
		return nil, nil, fail(err).hint("a custodian approves it with \"edgelog request approve %d\"; what was answered, refused or withdrawn is filed anew", id)
	}
	return p, r, err
}
