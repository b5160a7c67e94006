package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/capture"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/session"
)

// captured is what was measured in a capture.
type captured struct {
	File      string             `json:"file"`
	Seconds   float64            `json:"seconds"`
	Packets   uint64             `json:"packets"` // of sessions
	Sessions  int                `json:"sessions"`
	Addresses int                `json:"local_addresses"` // an IPv4 address, or the /64 of an IPv6 one
	Mean      float64            `json:"seconds_in_table"`
	Mix       map[string]float64 `json:"mix"` // parts of all sessions
}

// leastCapture is the shortest capture that rates are taken from, seconds.
const leastCapture = 10

// measureCapture runs a capture through the kernel programs.
func measureCapture(c *cli.Context) (*captured, error) {
	var err error
	var opt probe.ReplayOptions
	if opt.Local, err = parsePrefixes(c, "local"); err != nil {
		return nil, err
	}
	opt.Profile, opt.Slots = session.ProfileSession, 1<<20
	timeouts := probe.DefaultOptions().Timeouts
	m := &captured{File: c.String("capture"), Mix: map[string]float64{}}
	users := map[session.Addr]bool{}
	opt.Emit = func(list []session.Session) {
		for i := range list {
			m.add(&list[i], users, timeouts)
		}
	}
	in, err := capture.Open(m.File)
	if err != nil {
		return nil, captureError(err)
	}
	defer in.Close()
	r, err := probe.OpenReplay(opt)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if err := m.feed(c, r, in); err != nil {
		return nil, err
	}
	m.Addresses = len(users)
	if m.Sessions == 0 {
		return nil, fail(fmt.Errorf("measure capture %q: %w", m.File, errNoSessions)).hint("give the prefixes of your subscribers as --local")
	}
	if m.Seconds < leastCapture {
		return nil, fail(fmt.Errorf("measure capture %q: it is %.1f s long, too short for a rate", m.File, m.Seconds)).hint("capture for at least %d s, better for minutes of the busy hour", leastCapture)
	}
	m.Mean /= float64(m.Sessions)
	for k := range m.Mix {
		m.Mix[k] /= float64(m.Sessions)
	}
	return m, nil
}

// feed runs all frames, and notes how long the capture is.
func (m *captured) feed(c *cli.Context, r *probe.Replay, in *capture.Reader) error {
	var first, last int64 // ns since 1970
	for n := 1; ; n++ {
		f, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, capture.ErrCutShort) {
			warn(c, "%v; the frames before it count", err)
			break
		}
		if err != nil {
			return err
		}
		if n == 1 {
			first, last = f.At, f.At
		}
		first, last = min(first, f.At), max(last, f.At)
		if err := r.Packet(f.Data, f.At); err != nil {
			return fmt.Errorf("frame %d: %w", n, err)
		}
	}
	if err := r.Finish(); err != nil {
		return err
	}
	st, err := r.Status()
	if err != nil {
		return err
	}
	m.Packets = st.In.Outcomes["recorded"] + st.Out.Outcomes["recorded"]
	m.Seconds = float64(last-first) / 1e9
	return nil
}

// add counts one session.
func (m *captured) add(s *session.Session, users map[session.Addr]bool, t probe.Timeouts) {
	if a, _, ok := s.LocalEnd(); ok {
		if !a.Is4() {
			clear(a[8:])
		}
		users[a] = true
	}
	m.Sessions++
	m.Mean += float64(s.End-s.Start)/1e9 + silence(s, t).Seconds()
	port := s.ResponderPort
	name := session.ProtoName(s.Proto)
	switch {
	case port == 53:
		name = "dns"
	case s.Proto == session.UDP && port == 443:
		name = "quic"
	case s.Proto == session.TCP && (port == 443 || port == 80):
		name = "web"
	}
	m.Mix[name]++
	if !s.Initiator.Is4() {
		m.Mix["ipv6"]++
	}
}

// silence is what the agent waits for before it takes a session for ended; of
// one that the end of the capture cut off it is the whole, too.
func silence(s *session.Session, t probe.Timeouts) time.Duration {
	switch {
	case s.EndReason == session.EndFIN || s.EndReason == session.EndRST:
		return t.Linger
	case s.EndReason == session.EndHalfOpen:
		return t.HalfOpen
	case s.Proto == session.TCP:
		return t.TCP
	case s.Proto == session.UDP:
		return t.UDP
	case s.Proto == session.ICMP || s.Proto == session.ICMPv6:
		return t.ICMP
	}
	return t.Other
}

// apply puts what was measured in the place of what is assumed. A capture is
// taken for the busy hour: the mean of the day is that much less.
func (m *captured) apply(a *assumed) {
	users := float64(m.Addresses)
	a.PerMinute = float64(m.Sessions) / users / m.Seconds * 60 / a.BusyHour
	a.Packets = float64(m.Packets) / users / m.Seconds / a.BusyHour
	a.OpenSeconds, a.Capture = m.Mean, m.File
}

// print is for people.
func (m *captured) print(w io.Writer) {
	fmt.Fprintf(w, "\nMeasured in %s: %d sessions and %d packets of %d local addresses (an IPv4 address, or a /64) in %.0f s, taken for the busy hour:\n ",
		m.File, m.Sessions, m.Packets, m.Addresses, m.Seconds)
	for _, k := range slices.Sorted(maps.Keys(m.Mix)) {
		fmt.Fprintf(w, " %s %.1f %%", k, 100*m.Mix[k])
	}
	fmt.Fprintln(w)
}
