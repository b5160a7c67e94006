package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"slices"
	"syscall"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/capture"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/session"
)

func replayCommand() *cli.Command {
	return &cli.Command{
		Name:      "replay",
		Usage:     "run a capture through the kernel programs and print its sessions",
		ArgsUsage: "CAPTURE.pcap[ng]",
		Description: "Each frame goes through the very programs that the agent attaches, with the time it was captured at.\n" +
			"No network link is used and nothing is stored. The counters, which add up, go to standard error.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "local", Usage: "a `PREFIX` of the provider's own network; only sessions that cross its border are recorded (default: all sessions)"},
			&cli.StringSliceFlag{Name: "exempt", Usage: "a `PREFIX` whose sessions are not recorded"},
			&cli.StringFlag{Name: "profile", Value: session.ProfileSession.String(), Usage: "how much is recorded: source or session"},
			&cli.UintFlag{Name: "slots", Value: 1 << 20, Usage: "size of the session table, a power of two"},
			&cli.BoolFlag{Name: "vlan-key", Usage: "VLAN ids tell address spaces apart"},
			&cli.BoolFlag{Name: "json", Usage: "one JSON object a line"},
		},
		Action: runReplay,
	}
}

func runReplay(c *cli.Context) error {
	if c.NArg() != 1 {
		return usage("replay takes one capture").hint("edgelog replay CAPTURE [--local PREFIX] [--json]")
	}
	opt, err := replayOptions(c)
	if err != nil {
		return err
	}
	var sessions []session.Session
	opt.Emit = func(s []session.Session) { sessions = append(sessions, s...) }

	in, err := capture.Open(c.Args().First())
	if err != nil {
		return captureError(err)
	}
	defer in.Close()
	r, err := probe.OpenReplay(opt)
	if err != nil {
		return err
	}
	defer r.Close()
	frames, readErr := feed(r, in)
	if readErr != nil && !errors.Is(readErr, capture.ErrCutShort) {
		return readErr
	}
	if err := r.Finish(); err != nil {
		return err
	}
	slices.SortStableFunc(sessions, func(a, b session.Session) int { return int(min(max(a.Start-b.Start, -1), 1)) })
	if err := printReplay(c.App.Writer, sessions, c.Bool("json")); err != nil {
		return err
	}
	if readErr != nil {
		warn(c, "%v; the frames before it count", readErr)
	}
	st, err := r.Status()
	if err != nil {
		return err
	}
	return printReplaySum(c.App.ErrWriter, frames, len(sessions), st)
}

// captureError adds what to do about a file that is not read.
func captureError(err error) error {
	switch {
	case errors.Is(err, capture.ErrFormat):
		return fail(err).hint("give a capture as tcpdump, dumpcap or Wireshark writes it: pcap or pcapng")
	case errors.Is(err, capture.ErrLinkType):
		return fail(err).hint("capture on an Ethernet or raw IP link")
	case errors.Is(err, syscall.EISDIR):
		return fail(err).hint("name a file in it")
	case errors.Is(err, fs.ErrNotExist):
		return fail(err).hint("name a capture that is there")
	case errors.Is(err, fs.ErrPermission):
		return fail(err).hint("run it as a user who may read the capture")
	}
	return err
}

func replayOptions(c *cli.Context) (opt probe.ReplayOptions, err error) {
	opt.Slots = uint32(min(c.Uint("slots"), 1<<31))
	opt.OverlappingAddresses = c.Bool("vlan-key")
	if opt.Local, err = parsePrefixes(c, "local"); err != nil {
		return opt, err
	}
	if opt.Exempt, err = parsePrefixes(c, "exempt"); err != nil {
		return opt, err
	}
	if opt.Profile, err = session.ParseProfile(c.String("profile")); err != nil {
		return opt, usage("--profile: %w", err)
	}
	return opt, nil
}

func parsePrefixes(c *cli.Context, flag string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, w := range c.StringSlice(flag) {
		p, err := netip.ParsePrefix(w)
		if err != nil {
			return nil, usage("--%s %q is not a prefix; write it as 192.0.2.0/24 or 2001:db8::/32", flag, w)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// feed runs all frames; it returns capture.ErrCutShort for a capture whose end
// is missing.
func feed(r *probe.Replay, in *capture.Reader) (frames int, err error) {
	for {
		f, err := in.Next()
		if errors.Is(err, io.EOF) {
			return frames, nil
		}
		if err != nil {
			return frames, err
		}
		if err := r.Packet(f.Data, f.At); err != nil {
			return frames, fmt.Errorf("frame %d: %w", frames+1, err)
		}
		frames++
	}
}

func printReplay(w io.Writer, sessions []session.Session, asJSON bool) error {
	out := bufio.NewWriter(w)
	if asJSON {
		var line []byte
		for i := range sessions {
			line = append(sessions[i].AppendJSON(line[:0]), '\n')
			if _, err := out.Write(line); err != nil {
				return fmt.Errorf("print the sessions: %w", err)
			}
		}
	} else {
		t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		fmt.Fprintln(t, "START\tEND\tPROTO\tINITIATOR\tRESPONDER\tENDED BY")
		for i := range sessions {
			s := &sessions[i]
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", session.FormatTime(s.Start), session.FormatTime(s.End),
				session.ProtoName(s.Proto), s.Endpoint(session.SideInitiator), s.Endpoint(session.SideResponder), s.EndReason)
		}
		if err := t.Flush(); err != nil {
			return fmt.Errorf("print the sessions: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("print the sessions: %w", err)
	}
	return nil
}

// printReplaySum shows that each frame has one outcome and each session one end.
func printReplaySum(w io.Writer, frames, sessions int, st probe.ReplayStatus) error {
	fmt.Fprintf(w, "frames %d = ingress %d + egress %d + too short for a link %d\n", frames, st.In.Seen, st.Out.Seen, st.Runts)
	for _, d := range []struct {
		name string
		c    probe.PacketCounter
	}{{"ingress", st.In}, {"egress", st.Out}} {
		if d.c.Seen > 0 {
			fmt.Fprintf(w, "%s %d =%s\n", d.name, d.c.Seen, d.c.Sum())
		}
	}
	t := st.Table
	fmt.Fprintf(w, "sessions %d: started %d = ended %d + open %d\n", sessions, t.Started, t.Stored, t.Open+t.Closed)
	fmt.Fprintf(w, "fragments released %d, without ports %d\n", t.FragmentsReleased, t.FragmentsOrphaned)
	if frames != int(st.In.Seen+st.Out.Seen+st.Runts) || !st.In.Balanced() || !st.Out.Balanced() || !t.Balanced {
		return errors.New("the counters do not add up: please report it, with the capture if you may")
	}
	return nil
}
