package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/session"
)

func planCommand() *cli.Command {
	return &cli.Command{
		Name:  "plan",
		Usage: "say what each profile takes, before one is switched on",
		Description: "Records a second, disk for a day and a year, table, memory and processor, from the number of\n" +
			"subscribers. What is assumed is printed; give what you know better. A capture of your uplink\n" +
			"(--capture, with --local) is run through the kernel programs and measured instead; take it at the busy hour.",
		Flags: []cli.Flag{
			&cli.Float64Flag{Name: "subscribers", Usage: "`NUMBER` of subscribers"},
			&cli.Float64Flag{Name: "sessions-per-minute", Usage: "`NUMBER` of sessions of a subscriber, mean of the day", Value: planPerMinute},
			&cli.Float64Flag{Name: "packets-per-second", Usage: "`NUMBER` of packets of a subscriber, both directions, mean of the day", Value: planPacketsASec},
			&cli.Float64Flag{Name: "retention-days", Usage: "`NUMBER` of days that records are kept", Value: 365},
			&cli.StringFlag{Name: "capture", Usage: "measure sessions, packets and mix in `FILE`, pcap or pcapng; needs root"},
			&cli.StringSliceFlag{Name: "local", Usage: "with --capture: a `PREFIX` of the provider's own network; may be repeated"},
			&cli.StringSliceFlag{Name: "profile", Usage: "show only `PROFILE`: access, source, session or sample500; may be repeated"},
			&cli.BoolFlag{Name: "json", Usage: "one JSON object"},
		},
		Action: runPlan,
	}
}

// plannedAll is all that the command says.
type plannedAll struct {
	Assumed  assumed       `json:"assumed"`
	Capture  *captured     `json:"capture,omitempty"`
	Profiles []profilePlan `json:"profiles"`
}

func runPlan(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	a, profiles, err := planInput(c)
	if err != nil {
		return err
	}
	var all plannedAll
	if c.IsSet("capture") {
		m, err := measureCapture(c)
		if err != nil {
			return err
		}
		m.apply(&a)
		all.Capture = m
	}
	all.Assumed = a
	for _, p := range profiles {
		all.Profiles = append(all.Profiles, a.plan(p))
	}
	if c.Bool("json") {
		if err := printJSON(c.App.Writer, all); err != nil {
			return fmt.Errorf("print the plan: %w", err)
		}
		return nil
	}
	return all.print(c.App.Writer)
}

// planInput checks the command line.
func planInput(c *cli.Context) (a assumed, profiles []session.Profile, err error) {
	if !c.IsSet("subscribers") {
		return a, nil, usage("plan needs --subscribers").hint("edgelog plan --subscribers 10000")
	}
	for _, f := range []struct {
		name  string
		most  float64
		what  string
		zero  bool
		value *float64
	}{
		{"subscribers", 1e9, "from 1 to 1,000 million", false, &a.Subscribers},
		{"sessions-per-minute", 1e6, "more than 0, at most a million", false, &a.PerMinute},
		{"packets-per-second", 1e8, "from 0 to 100 million", true, &a.Packets},
		{"retention-days", 36_500, "from 1 to 36,500", false, &a.RetentionDays},
	} {
		v := c.Float64(f.name)
		whole := f.name == "subscribers" || f.name == "retention-days"
		if math.IsNaN(v) || v < 0 || v > f.most || v == 0 && !f.zero || whole && v != math.Trunc(v) {
			return a, nil, usage("--%s %v: give a number %s", f.name, v, f.what)
		}
		*f.value = v
	}
	a.BusyHour, a.OpenSeconds, a.LogOns = planBusyHour, planOpenSeconds, planLogOns
	names := c.StringSlice("profile")
	for _, name := range names {
		p, err := session.ParseProfile(name)
		if err != nil {
			return a, nil, usage("--profile: %w", err)
		}
		profiles = append(profiles, p)
	}
	if len(names) == 0 {
		profiles = []session.Profile{session.ProfileAccess, session.ProfileSource, session.ProfileSession, session.ProfileSample500}
	}
	switch {
	case !c.IsSet("capture") && c.IsSet("local"):
		err = usage("--local is for --capture only")
	case c.IsSet("capture") && !c.IsSet("local"):
		err = usage("--capture needs --local: what is the provider's own side").hint("edgelog plan --subscribers %v --capture %q --local 192.0.2.0/24", a.Subscribers, c.String("capture"))
	case c.IsSet("capture") && (c.IsSet("sessions-per-minute") || c.IsSet("packets-per-second")):
		err = usage("--capture measures sessions and packets: leave --sessions-per-minute and --packets-per-second out")
	}
	return a, profiles, err
}

// print is for people.
func (all *plannedAll) print(w io.Writer) error {
	a := &all.Assumed
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "PROFILE\tRECORDS/S\tBUSY HOUR\tDISK/DAY\tDISK/YEAR\tKEPT\tSLOTS\tRING\tMEMORY\tPACKET\tCPU OF PACKETS\tCPU OF AGENT\tREMARKS")
	for i := range all.Profiles {
		p := &all.Profiles[i]
		slots, ring, packet, path := "-", "-", "-", "-"
		if p.Slots > 0 {
			slots, ring = fmt.Sprint(p.Slots), fmt.Sprint(p.RingBytes)
			packet, path = fmt.Sprintf("%.0f ns", p.PacketNs), fmt.Sprintf("%.2f", p.PacketCPUs)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.3f\t%s\n", p.Profile, rateText(p.Records), rateText(p.Busy),
			bytesText(uint64(p.DiskDay)), bytesText(uint64(p.DiskYear)), bytesText(uint64(p.DiskKept)),
			slots, ring, bytesText(uint64(p.Memory)), packet, path, p.AgentCPUs, p.remarks())
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the plan: %w", err)
	}
	if all.Capture != nil {
		all.Capture.print(w)
	}
	_, err := fmt.Fprintf(w, `
Assumed:
  %.0f subscribers, each with %.3g sessions a minute and %.3g packets a second, mean of the day
  the busiest hour has %.2f times the mean; a session is in the table for %.0f s, silence at its end included
  each subscriber logs on %.3g times a day; kept for %.0f days
  on disk, compressed and sealed: %.3g bytes a session, %.3g without its far end (at most one for each session), %.3g an access record
Configure slots and ring_bytes as shown: open sessions of the busiest hour then fill at most half of the table, and the
ring holds the news of four seconds (when it is full nothing is lost). Memory: %d bytes a slot, two rings, %d bytes
a binding in force, %s for the agent. KEPT is what is on the disk in the end: have half as much again free.
PACKET is what a packet of an established session costs in XDP beside what the kernel does anyway, measured on one
machine: "edgelog status --cost" and "edgelog doctor --measure" say it for yours.
`, a.Subscribers, a.PerMinute, a.Packets, a.BusyHour, a.OpenSeconds, a.LogOns, a.RetentionDays,
		planSessionBytes, planSourceBytes, planBindingBytes, planSlotBytes, planBookBytes, bytesText(planAgentBytes))
	if err != nil {
		return fmt.Errorf("print the plan: %w", err)
	}
	return nil
}

func (p *profilePlan) remarks() string {
	switch {
	case !p.Available:
		return "not in this version"
	case p.TooLarge:
		return "too much for one gateway"
	case p.Legal:
		return "needs a legal_basis"
	}
	return ""
}

// rateText prints few digits, and all of small rates.
func rateText(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// errNoSessions means that a capture says nothing about a network.
var errNoSessions = errors.New("no session crosses the border in it")
