package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"filippo.io/age/plugin"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/vault"
)

// readCommand prints the answer of an approved request on the terminal.
func readCommand(name, what string) *cli.Command {
	return &cli.Command{
		Name:      name,
		Usage:     "read " + what + ", as an approved request asks",
		ArgsUsage: "--request N",
		UsageText: "edgelog " + name + " --request N --identity KEYFILE [--format table|json|csv]",
		Description: "It needs a request that was filed (edgelog request new " + name + ") and approved, and is for the officer who filed it. The question is\n" +
			"written to the ledger before anything is read, and its outcome before anything is printed; then the request is answered, and\n" +
			"cannot be run again. To hand the answer over, use \"edgelog request run\".",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "request", Usage: "the request `N`, as \"edgelog request list\" shows it"}, identityFlag(), formatFlag(), configFlag(), socketFlag(),
		}, questionFlags()...),
		Action: func(c *cli.Context) error { return lookup(c, name) },
	}
}

// questionFlags say what is asked for; parseQuery reads them.
func questionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "reference", Usage: "the number of the case, as the authority gives it"},
		&cli.StringFlag{Name: "subscriber", Usage: "of the subscriber, or with access of the assigned identity, `S`"},
		&cli.StringFlag{Name: "address", Usage: "of the end user's address `IP`"},
		&cli.StringFlag{Name: "remote", Usage: "with the far end `IP[:PORT]`"},
		&cli.StringFlag{Name: "port", Usage: "only with this port `N` of --address"},
		&cli.StringFlag{Name: "equipment", Usage: "with access: of the equipment with this `MAC` address; with communications: IMEI or IMSI"},
		&cli.StringFlag{Name: "line", Usage: "with access: of the phone or line `ID`"},
		&cli.StringFlag{Name: "number", Usage: "with communications: of the number `N`, as +4512345678, or of a user of internet telephony"},
		&cli.StringFlag{Name: "number-country", Usage: "a --number that is not international is of the country `CODE`, as 45"},
		&cli.StringFlag{Name: "mail", Usage: "with communications: of the address `A`"},
		&cli.StringFlag{Name: "from", Usage: "window from `TIME`, RFC 3339"},
		&cli.StringFlag{Name: "to", Usage: "window until before `TIME`, or \"now\""},
		&cli.StringFlag{Name: "at", Usage: "with who: the `TIME` that is asked about"},
		&cli.DurationFlag{Name: "error", Usage: "with who: how wrong that time may be, either way, as `DURATION`", Value: 2 * time.Second},
		&cli.StringFlag{Name: "proto", Usage: "with who: only sessions of this `PROTOCOL` are shown: tcp, udp, icmp or a number"},
	}
}

func identityFlag() cli.Flag {
	return &cli.StringFlag{Name: "identity", Usage: "your private key, in `KEYFILE`"}
}

func formatFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Usage: "table, json or csv", Value: "table"}
}

func lookup(c *cli.Context, name string) error {
	if !c.IsSet("request") {
		return fail(disclose.ErrNoGrant).hint("file one: edgelog request new %s …; when a custodian has approved it: edgelog %s --request N --identity KEYFILE", name, name)
	}
	if err := errors.Join(noArgs(c), need(c, "identity"), knownFormat(c)); err != nil {
		return err
	}
	id, err := parseRequest(c.String("request"))
	if err != nil {
		return err
	}
	return withAgent(c, func(client *http.Client, ids *vault.Identities) error {
		p, r, err := runPermit(c, client, ids, id)
		if err != nil {
			return err
		}
		if kind := kindOf(&r.Task.Query); kind != name {
			return fail(fmt.Errorf("request %d asks for something else", id)).hint("edgelog %s --request %d --identity …", kind, id)
		}
		f, _, err := disclose.Read(c.Context, client, p)
		if err != nil {
			return err
		}
		f.Limit(r.Task.MaxHits)
		return give(c, f, c.String("format"))
	})
}

func knownFormat(c *cli.Context) error {
	if f := c.String("format"); !slices.Contains(disclose.Formats, f) {
		return usage("--format %q is not known; use %s", f, strings.Join(disclose.Formats, ", "))
	}
	return nil
}

// openIdentity opens the private key of --identity, in a process that keeps its
// memory to itself.
func openIdentity(c *cli.Context) (*vault.Identities, error) {
	if err := keepMemory(); err != nil {
		return nil, fail(err)
	}
	ids, err := vault.OpenIdentitiesWith(c.String("identity"), askPassphrase, tokenUI(c))
	if err != nil {
		return nil, identityError(c.String("identity"), err)
	}
	return ids, nil
}

// withAgent calls ask with the key of --identity and a way to the agent's socket.
func withAgent(c *cli.Context, ask func(*http.Client, *vault.Identities) error) error {
	ids, err := openIdentity(c)
	if err != nil {
		return err
	}
	socket, err := socketPath(c)
	if err != nil {
		return err
	}
	client := agentClient(socket)
	defer client.CloseIdleConnections()
	err = ask(client, ids)
	switch {
	case errors.Is(err, disclose.ErrWrongIdentity):
		return fail(err).hint("a request opens with the key of its officer, or of who was a custodian when it was filed; records with that of who was one when they were recorded")
	case err != nil:
		return agentError(socket, err)
	}
	return nil
}

// give prints an answer; beside csv, which has no place for it, what must be
// known about it goes to stderr.
func give(c *cli.Context, f *disclose.Found, format string) error {
	out := bufio.NewWriter(c.App.Writer)
	if err := errors.Join(f.Print(out, format), out.Flush()); err != nil {
		return err
	}
	if format == "csv" {
		for _, line := range f.Beside() {
			warn(c, "%s", line)
		}
	}
	if !f.Summary().Complete() {
		return fail(errors.New("the answer is incomplete; what it lacks is said with it"))
	}
	return nil
}

// parseQuery turns the flags into a query for sessions.
func parseQuery(c *cli.Context, now time.Time) (*disclose.Query, error) {
	q := &disclose.Query{Reference: c.String("reference"), Subscriber: c.String("subscriber")}
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	var err error
	if s := c.String("address"); s != "" {
		q.Address, err = parseAddr("address", s)
		note(err)
	}
	if s := c.String("port"); s != "" {
		if !c.IsSet("address") {
			note(usage("--port belongs to --address; write a far end's port as --remote IP:PORT"))
		}
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			note(usage("--port %q is not a port; give a number from 0 to 65535", s))
		}
		p := uint16(n)
		q.Port = &p
	}
	if s := c.String("remote"); s != "" {
		note(parseRemote(q, s))
	}
	q.From, err = parseTime("from", c.String("from"), now)
	note(err)
	q.To, err = parseTime("to", c.String("to"), now)
	note(err)
	if len(errs) > 0 {
		return nil, usage("%w", errors.Join(errs...))
	}
	fitWindow(q, now)
	return q, nil
}

// fitWindow cuts off what cannot hold a session: the future, and what is older
// than anything is kept. The answer names the window that it covers.
func fitWindow(q *disclose.Query, now time.Time) {
	if q.From < now.UnixNano() {
		q.To = min(q.To, now.UnixNano())
	}
	q.From = max(q.From, q.To-int64(disclose.MaxWindow))
}

func parseAddr(flag, s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return a, usage("--%s %q is not an IP address", flag, s)
	}
	return a.Unmap(), nil
}

func parseRemote(q *disclose.Query, s string) error {
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Addr().Zone() == "" {
		port := ap.Port()
		q.Remote, q.Port = ap.Addr().Unmap(), &port
		return nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return usage("--remote %q is not an IP address, with or without port; write 192.0.2.1:443 or [2001:db8::1]:443", s)
	}
	q.Remote = a.Unmap()
	return nil
}

// parseTime reads RFC 3339, or "now". A time without zone is refused: a window
// that is an hour off answers for the wrong person.
func parseTime(flag, s string, now time.Time) (int64, error) {
	if s == "now" {
		return now.UnixNano(), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return 0, usage("--%s %q is not a time; write it as RFC 3339 with its zone, for example 2025-03-01T12:00:00Z", flag, s)
	}
	switch y := t.UTC().Year(); {
	case y < 1971:
		return time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano(), nil // as good as any time before edgelog
	case y > 2261:
		return 0, usage("--%s %q is out of range", flag, s)
	}
	return t.UnixNano(), nil
}

// identityError says why a key file cannot be used. It repeats nothing of what
// the file holds.
func identityError(path string, err error) error {
	f := fail(fmt.Errorf("--identity: %w", err))
	switch {
	case errors.Is(err, vault.ErrIdentityFile):
		return f.hint("it must hold a line AGE-SECRET-KEY-1…, as \"edgelog init\" or age-keygen writes it, or AGE-PLUGIN-… of a hardware token")
	case errors.Is(err, os.ErrNotExist):
		return f.hint("name the file that holds the private key")
	}
	return f
}

// tokenUI is how an age plugin, as of a hardware token, asks on the terminal.
func tokenUI(c *cli.Context) *plugin.ClientUI {
	say := func(format string, v ...any) { fmt.Fprintf(c.App.ErrWriter, format+"\n", v...) } //nolint:errcheck // a terminal that is gone reads nothing
	return plugin.NewTerminalUI(say, say)
}

// askPassphrase asks on the terminal, without echo.
func askPassphrase() (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", errors.New("the key file is protected with a passphrase, and there is no terminal to ask for it")
	}
	defer tty.Close() //nolint:errcheck // nothing is kept in it
	fd := int(tty.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", fmt.Errorf("switch off echo: %w", err)
	}
	quiet := *old
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		return "", fmt.Errorf("switch off echo: %w", err)
	}
	defer unix.IoctlSetTermios(fd, unix.TCSETS, old) //nolint:errcheck // the terminal is gone then
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(interrupted)
	fmt.Fprint(tty, "Passphrase of the key file: ")
	type answer struct {
		line string
		err  error
	}
	typed := make(chan answer, 1)
	go func() { // ends with a line, or with the process
		line, err := bufio.NewReader(tty).ReadString('\n')
		typed <- answer{line, err}
	}()
	select {
	case <-interrupted:
		fmt.Fprintln(tty)
		return "", errors.New("read passphrase: interrupted")
	case a := <-typed:
		fmt.Fprintln(tty)
		if a.err != nil {
			return "", fmt.Errorf("read passphrase: %w", a.err)
		}
		return strings.TrimRight(a.line, "\r\n"), nil
	}
}
