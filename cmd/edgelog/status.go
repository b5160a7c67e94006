package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/session"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show whether the agent records, and what its counters say",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print it as JSON"},
			&cli.BoolFlag{Name: "watch", Usage: "show it again every second, until Ctrl-C"},
			configFlag(), socketFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if c.Bool("json") && c.Bool("watch") {
				return usage("--json and --watch do not go together")
			}
			socket, err := socketPath(c)
			if err != nil {
				return err
			}
			if c.Bool("watch") {
				return watch(c, socket)
			}
			s, err := fetchStatus(c.Context, socket)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				enc := json.NewEncoder(c.App.Writer)
				enc.SetIndent("", "  ")
				return enc.Encode(s)
			}
			printStatus(c.App.Writer, s)
			return nil
		},
	}
}

// watch repaints one screen every second.
func watch(c *cli.Context, socket string) error {
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s, err := fetchStatus(ctx, socket)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		var b strings.Builder
		printStatus(&b, s)
		// Home, each line erased to its end, then the rest of the screen: no flicker.
		fmt.Fprint(c.App.Writer, "\x1b[H"+strings.ReplaceAll(b.String(), "\n", "\x1b[K\n")+"\x1b[J")
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func printStatus(w io.Writer, s *recorder.Status) {
	since := s.Started
	if !s.Store.OK && !s.Store.Since.IsZero() {
		since = s.Store.Since // it is the trouble that the headline speaks of
	}
	fmt.Fprintf(w, "edgelog %s on %s for %s: %s since %s\n", s.Version, s.Gateway, s.Provider, s.State, stamp(since))
	fmt.Fprintf(w, "profile    %s%s\n", s.Profile, basis(s.LegalBasis))
	if s.Probe != nil {
		printProbe(w, s.Probe)
	} else {
		fmt.Fprintln(w, "uplinks    none configured: access records only")
	}
	printStore(w, s)
	if r := s.RADIUS; r != nil {
		fmt.Fprintf(w, "radius     on %s: %d received, %d answered%s\n", strings.Join(r.Listen, ", "), r.Received, r.Answered, dropped(r.Dropped))
		for _, c := range r.Clients {
			if c.BadAuthenticator > 0 {
				fmt.Fprintf(w, "           client %s: %d REFUSED, its secret is most likely another one\n", c.Name, c.BadAuthenticator)
			}
		}
	}
	if s.Coverage != nil {
		printCoverageStatus(w, s.Coverage)
	}
	b := &s.Bindings
	fmt.Fprintf(w, "bindings   %d in force, %d not yet sealed; %s sealed in %s since start\n",
		b.Book.InForce, b.Book.NotSealed, plural(b.Records, "record"), plural(b.Blocks, "block"))
	fmt.Fprintf(w, "ledger     %s%s\n", plural(uint64(s.Ledger.Entries), "entry"), unless(s.Ledger.OK, ", CANNOT BE WRITTEN"))
	printSums(w, s.Sums)
	if e := s.LastError; e != nil {
		fmt.Fprintf(w, "last error %s %s\n", stamp(e.At), e.Text)
	}
}

// printSums prints what must add up, and shouts when it does not.
func printSums(w io.Writer, sums []recorder.Sum) {
	for i := range sums {
		x := &sums[i]
		switch fault := x.Fault(); {
		case fault != "":
			fmt.Fprintf(w, "sum        %s: NOT BALANCED, %s; this is a fault of edgelog: please report it\n", x.Text, fault)
		case x.Left != x.Right:
			fmt.Fprintf(w, "sum        %s: ok, in motion\n", x.Text)
		default:
			fmt.Fprintf(w, "sum        %s: ok\n", x.Text)
		}
	}
}

func printProbe(w io.Writer, p *probe.Status) {
	for i := range p.Uplinks {
		u := &p.Uplinks[i]
		fmt.Fprintf(w, "uplink     %s %s: in %s, out %s; %d packets in, %d out%s\n", u.Name, linkState(u),
			attached(&u.Ingress), attached(&u.Egress), u.In.Segments, u.Out.Segments, unless(u.Error == "", "; "+u.Error))
	}
	t := &p.Table
	fill := 0.0
	if t.Slots > 0 {
		fill = 100 * float64(t.Open+t.Closed+t.Lingers+t.Negative) / float64(t.Slots)
	}
	fmt.Fprintf(w, "table      %.1f %% of %d slots: %d open (%d half-open), %d to be stored, %d lingering, %d not to be recorded\n",
		fill, t.Slots, t.Open, t.HalfOpen, t.Closed, t.Lingers, t.Negative)
	if t.Full > 0 || t.Contended > 0 {
		fmt.Fprintf(w, "           NOT RECORDED: %d packets found the table full, %d gave up waiting\n", t.Full, t.Contended)
	}
	if p.Waiting > 0 {
		fmt.Fprintf(w, "           %d sessions of an older table wait for room in this one\n", p.Waiting)
	}
	fmt.Fprintf(w, "news       %d through the ring, %d found by the sweep because the ring was full\n", t.RingSent, t.RingFull)
	k := &p.Clock
	state := "synchronised"
	if !k.Synchronised {
		state = "NOT synchronised"
	}
	fmt.Fprintf(w, "clock      %s, error at most %v, %d steps seen\n", state, time.Duration(k.MaxErrorMicro)*time.Microsecond, k.Steps)
}

func printStore(w io.Writer, s *recorder.Status) {
	st := &s.Store
	state := "ok"
	if !st.OK {
		state = fmt.Sprintf("NOT STORING since %s: %s", stamp(st.Since), st.Text)
	}
	fmt.Fprintf(w, "store      %s; %s of %s; disk %s, %s free, stops below %s\n", state,
		plural(st.Blocks, "block"), bytesText(st.Bytes), st.State, bytesText(uint64(max(st.Free, 0))), bytesText(uint64(st.Stop)))
	n := &s.Sessions
	last := ""
	if !n.Last.IsZero() {
		last = ", last " + stamp(n.Last)
	}
	fmt.Fprintf(w, "sessions   %d stored since start, %d with a subscriber, in %s of %s%s%s\n", n.Stored, n.Named,
		plural(n.Blocks, "block"), bytesText(n.Bytes), last, unless(n.Returned == 0, fmt.Sprintf("; %d given back to the table to be tried again", n.Returned)))
}

func attached(a *probe.AttachStatus) string {
	if a.Mode == "" || a.Mode == "none" {
		return "NOT ATTACHED" + note(a.Note)
	}
	return a.Mode + note(a.Note)
}

func note(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

func linkState(u *probe.UplinkStatus) string {
	switch {
	case u.Ifindex == 0:
		return "MISSING"
	case !u.Up:
		return "DOWN"
	}
	return "up"
}

func basis(s string) string {
	if s == "" {
		return ""
	}
	return ", legal basis: " + s
}

func unless(ok bool, text string) string {
	if ok {
		return ""
	}
	return text
}

// dropped lists the reasons that occurred.
func dropped(m map[string]uint64) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
		}
	}
	if parts == nil {
		return ""
	}
	return "; dropped: " + strings.Join(parts, ", ")
}

func stamp(t time.Time) string { return session.FormatTime(t.UnixNano()) }

func plural(n uint64, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "y"):
		return fmt.Sprintf("%d %sies", n, strings.TrimSuffix(what, "y"))
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func bytesText(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
