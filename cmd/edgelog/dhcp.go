package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/identity/dhcp"
	"github.com/edgelog/edgelog/pkg/recorder"
)

// dhcpCommand is for the scripts of DHCP servers.
func dhcpCommand() *cli.Command {
	return &cli.Command{
		Name:  "dhcp",
		Usage: "report: for the hook of a DHCP server, see share/edgelog/dhcp-report.sh",
		Subcommands: []*cli.Command{{
			Name:  "report",
			Usage: "hand the environment and arguments that a DHCP server's hook was called with to the agent",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "socket", Usage: "`PATH`, dhcp.listen of the configuration", Value: "/run/edgelog-dhcp/report.sock"},
				&cli.StringFlag{Name: "server", Usage: "`NAME` of the server in the configuration; needed where two are of one kind"},
			},
			OnUsageError: asUsage,
			Action: func(c *cli.Context) error {
				r := dhcp.NewReport(c.String("server"), c.Args().Slice(), os.Environ(), time.Now())
				if err := r.Send(c.Context, c.String("socket")); err != nil {
					return fail(err)
				}
				return nil
			},
		}},
	}
}

// dhcpTroubles lists what an operator must look at.
func dhcpTroubles(s *recorder.DHCPStatus) (out []string) {
	if s == nil {
		return nil
	}
	for i := range s.Servers {
		if x := &s.Servers[i]; !x.OK {
			out = append(out, fmt.Sprintf("leases of %s are NOT ALL heard of: %s", x.Name, x.Trouble))
		}
	}
	return out
}

// printDHCP says how each server's leases are heard of.
func printDHCP(w io.Writer, s *recorder.DHCPStatus) {
	if s == nil {
		return
	}
	for i := range s.Servers {
		x := &s.Servers[i]
		var how []string
		if x.Reports > 0 || x.Healed > 0 {
			how = append(how, plural(x.Reports, "report")+unless(x.Healed == 0, fmt.Sprintf(" (%d leases found without one)", x.Healed)))
		}
		if x.Lists > 0 {
			how = append(how, plural(x.Lists, "list"))
		}
		for _, f := range x.Files {
			how = append(how, plural(f.Leases, "lease")+" from "+f.Path+bad(f.Faulty))
		}
		fmt.Fprintf(w, "dhcp       %s (%s): %d leases in force%s; %s\n", x.Name, x.Kind, x.InForce, unless(x.Whole, ", NOT ALL known yet"), strings.Join(how, ", "))
		if x.Waiting > 0 {
			fmt.Fprintf(w, "           %s: %s for the book\n", x.Name, plural(x.Waiting, "event")+" wait")
		}
	}
	if text := counts(s.Dropped); text != "" {
		fmt.Fprintf(w, "           reports dropped: %s\n", text)
	}
}

// bad lists the reasons for which lines were of no use.
func bad(m map[string]uint64) string {
	text := counts(m)
	return unless(text == "", " (not used: "+text+")")
}

// checkDHCP looks at the files and users of DHCP servers, and asks a running
// agent what it found.
func (d *doctor) checkDHCP() {
	servers, err := recorder.DHCPServers(&d.conf.DHCP)
	if err != nil {
		d.fail("dhcp", err.Error(), "")
		return
	}
	for i := range servers {
		s := &servers[i]
		if err := s.Check(); err != nil {
			for line := range strings.Lines(err.Error()) {
				d.warn("dhcp "+s.Name, strings.TrimSpace(line), "")
			}
			continue
		}
		d.ok("dhcp "+s.Name, "its lease files, if any, can be read by this user")
	}
	if !d.agentRunning || len(servers) == 0 {
		return
	}
	st, err := fetchStatus(d.ctx, d.conf.Socket())
	if err != nil || st.DHCP == nil {
		return // checkAgent has said so
	}
	for i := range st.DHCP.Servers {
		if x := &st.DHCP.Servers[i]; !x.OK {
			d.warn("dhcp "+x.Name, "the agent says: "+x.Trouble, "")
		}
	}
	if text := counts(st.DHCP.Dropped); text != "" {
		d.warn("dhcp reports", "dropped: "+text, "the log names the server or user")
	}
}
