package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/tests/day"
	"github.com/edgelog/edgelog/tests/gateway"
)

// Stores that are asked hold sessions of so many days, and each question is put
// about several of them.
const (
	askedDays = 30
	askedOf   = 3
)

// store measures sizes, and then questions in stores of several sizes. The
// figures of the largest have the plain names.
func (b *bench) store(ctx context.Context) ([]Entry, error) {
	out, err := b.sizes(ctx)
	if err != nil || b.storeSessions == "" {
		return out, err
	}
	var numbers []int
	for _, w := range strings.Split(b.storeSessions, ",") {
		n, err := strconv.Atoi(w)
		if err != nil || n < 100_000 {
			return out, fmt.Errorf("-store-sessions %q: give numbers from 100000", w)
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		entries, err := b.month(ctx, n)
		if err != nil {
			return out, fmt.Errorf("a store of %d sessions: %w", n, err)
		}
		for j := range entries {
			if i < len(numbers)-1 {
				entries[j].Name += fmt.Sprintf("/sessions=%d", n)
			}
		}
		out = append(out, entries...)
	}
	return out, nil
}

// month is a store of 30 days, and the same in nfdump's files, a directory a day.
type month struct {
	*filler
	flows  string // directory
	first  session.Day
	chosen []session.Session // to ask about
}

func (b *bench) month(ctx context.Context, sessions int) (out []Entry, err error) {
	m := &month{flows: filepath.Join(b.dir, "flows")}
	defer func() { err = errors.Join(err, os.RemoveAll(m.flows)) }()
	s := setting{slots: 1 << 16, local: `local = ["82.160.0.0/16", "203.0.112.0/20", "2a05:f6c0::/32"]`}
	s.before = func(g *gateway.Gateway) (err error) {
		if m.filler, err = openFiller(g); err != nil {
			return err
		}
		return errors.Join(m.fill(ctx, sessions), m.close(), forgetPeak())
	}
	err = b.withGateway(ctx, s, func(g *gateway.Gateway) error {
		out, err = b.askMonth(ctx, g, m)
		return err
	})
	return out, err
}

// fill writes the days before today, one after the other, into both.
func (m *month) fill(ctx context.Context, sessions int) error {
	today := session.DayOf(time.Now().UnixNano())
	m.first = today - askedDays
	stream := day.New(day.Options{Seed: sizedSeed, PerMinute: float64(sessions) / askedDays / 1440 / 10_000, Begin: m.first.Start()})
	var list []session.Session
	for d := m.first; d < today; d++ {
		list = list[:0]
		for stream.Now() < (d + 1).Start().UnixNano() {
			list = stream.Append(list, 256)
		}
		m.choose(list)
		if err := collectNfdump(ctx, m.flowsOf(d), list); err != nil {
			return err
		}
		for unit := range slices.Chunk(list, mergeRows) {
			if err := m.merge(unit); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *month) flowsOf(d session.Day) string { return filepath.Join(m.flows, d.String()) }

// choose keeps one of the day to ask about: of the middle of it, to a server.
func (m *month) choose(list []session.Session) {
	for _, s := range list[len(list)/2:] {
		if s.Local == session.SideInitiator && s.ResponderPort == 443 && s.Initiator.Is4() && session.DayOf(s.Start) == session.DayOf(s.End) {
			m.chosen = append(m.chosen, s)
			return
		}
	}
}

// merge files sessions as the store has them in the end: by day, in the order
// of their local addresses. The order of unit is lost.
func (m *month) merge(unit []session.Session) error {
	slices.SortFunc(unit, func(x, y session.Session) int {
		if c := session.DayOf(x.End) - session.DayOf(y.End); c != 0 {
			return int(c)
		}
		return byLocal(x, y)
	})
	for len(unit) > 0 {
		d := session.DayOf(unit[0].End)
		n, from, to := 0, unit[0].Start, unit[0].End
		for n < min(len(unit), blockRows) && session.DayOf(unit[n].End) == d {
			from, to = min(from, unit[n].Start), max(to, unit[n].End)
			n++
		}
		plain, err := m.enc.Sessions(m.plain[:0], m.head(), unit[:n])
		if err != nil {
			return err
		}
		m.plain = plain
		if err := m.seal(store.KindSessions, d, from, to, n); err != nil {
			return err
		}
		m.sessions += n
		unit = unit[n:]
	}
	return nil
}

// monthly is a question to both.
type monthly struct {
	name   string
	window func(s *session.Session) (from, to time.Time)
	args   func(s *session.Session) []string
	filter func(s *session.Session) string
}

var monthlyQuestions = []monthly{
	{"public_address_port", aroundStart,
		func(s *session.Session) []string {
			return []string{"--address", s.Initiator.String(), "--port", fmt.Sprint(s.InitiatorPort)}
		},
		func(s *session.Session) string {
			return fmt.Sprintf("src ip %s and src port %d", s.Initiator, s.InitiatorPort)
		}},
	{"subscriber_day", itsDay,
		func(s *session.Session) []string { return []string{"--subscriber", s.Subscriber} },
		func(s *session.Session) string { return fmt.Sprintf("ip %s", s.Initiator) }}, // it knows no subscribers
	{"remote_day", itsDay, remoteArgs, remoteFilter},
	{"remote_30d", nil, remoteArgs, remoteFilter},
}

func remoteArgs(s *session.Session) []string { return []string{"--remote", s.Responder.String()} }
func remoteFilter(s *session.Session) string { return fmt.Sprintf("ip %s", s.Responder) }

func aroundStart(s *session.Session) (from, to time.Time) {
	at := time.Unix(0, s.Start).UTC()
	return at.Add(-2 * time.Second), at.Add(2 * time.Second)
}

func itsDay(s *session.Session) (from, to time.Time) {
	d := session.DayOf(s.Start)
	return d.Start(), (d + 1).Start()
}

// askMonth puts all questions, each from the command line to the answer, after
// what the page cache holds of files was dropped.
func (b *bench) askMonth(ctx context.Context, g *gateway.Gateway, m *month) ([]Entry, error) {
	var out []Entry
	for _, k := range monthlyQuestions {
		var ours, theirs question
		for i := range askedOf {
			s := &m.chosen[(i+1)*len(m.chosen)/(askedOf+1)]
			from, to, flows := m.first.Start(), (m.first + askedDays).Start(), m.flows
			if k.window != nil {
				from, to = k.window(s)
				flows = m.flowsOf(session.DayOf(s.Start))
			}
			if err := dropCaches(); err != nil {
				return nil, err
			}
			args := append(k.args(s), "--from", from.Format(time.RFC3339Nano), "--to", to.Format(time.RFC3339Nano))
			if err := b.ask(ctx, g, &ours, s.Subscriber, "lookup", args...); err != nil {
				return nil, err
			}
			if err := dropCaches(); err != nil {
				return nil, err
			}
			if err := askNfdump(ctx, &theirs, flows, k.filter(s), s.Responder.String()); err != nil {
				return nil, err
			}
		}
		out = append(out, Entry{
			Name: "store/query/" + k.name, Value: ours.ms(), Unit: "ms", Vs: "nfdump", Ratio: theirs.ms() / ours.ms(),
			Note: fmt.Sprintf("median of %d, of a process from its start to its end, page cache dropped but for what the agent maps; %d sessions of %d days; peak %d MiB; nfdump of the same, uncompressed, a directory a day: %s ms",
				askedOf, m.sessions, askedDays, ours.memory>>20, figure(theirs.ms())),
		})
	}
	return out, nil
}

// dropCaches drops what the page cache holds of files; see proc_sys_vm(5).
func dropCaches() error {
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return fmt.Errorf("drop the page cache: %w", err)
	}
	return nil
}

// askNfdump fails unless the answer has the far end in it.
func askNfdump(ctx context.Context, q *question, dir, filter, want string) error {
	begin := time.Now()
	text, err := exec.CommandContext(ctx, "nfdump", "-q", "-6", "-o", "csv", "-R", dir, filter).CombinedOutput()
	q.took = append(q.took, time.Since(begin))
	if err != nil {
		return fmt.Errorf("nfdump %q: %w: %.300s", filter, err, text)
	}
	if !strings.Contains(string(text), want) {
		return fmt.Errorf("nfdump %q does not name %s: %.300s", filter, want, text)
	}
	return nil
}
