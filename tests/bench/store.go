package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"

	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/session"
)

// storeDays is over how many days the sessions are spread that are asked about.
const storeDays = 30

// store measures sizes, the way to the disk, and then questions in a store of a
// month.
func (b *bench) store(ctx context.Context) ([]Entry, error) {
	out, err := b.sizes(ctx)
	for _, part := range []func(context.Context) ([]Entry, error){b.toDisk, b.wholeDay, b.month} {
		if err != nil {
			break
		}
		var more []Entry
		more, err = part(ctx)
		out = append(out, more...)
	}
	return out, err
}

// toDisk is how fast sessions become durable sealed blocks.
func (b *bench) toDisk(ctx context.Context) (out []Entry, err error) {
	err = goBench(ctx, "ToDisk", "3s", []string{"./pkg/store"}, func(_, _ string, m map[string]float64) {
		out = append(out, Entry{Name: "store/write_sessions_per_second_core", Value: m["sessions/cpu-s"], Unit: "sessions/s",
			Note: fmt.Sprintf("of CPU time, from a slice of sessions to durable, sealed, and in a run; %s a second by the clock", figure(m["sessions/s"]))})
	})
	return out, err
}

// wholeDay stores one realistic day, in order of time as an agent would, and
// says what is left of it in the end.
func (b *bench) wholeDay(ctx context.Context) (out []Entry, err error) {
	if b.millions == 0 {
		return nil, nil
	}
	const sessions = daySubscribers * 1440
	dir := filepath.Join(b.dir, "day")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	before, err := writtenBytes()
	if err != nil {
		return nil, err
	}
	k, err := openKeeper(ctx, dir, time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -2), sessions)
	if err != nil {
		return nil, err
	}
	began, cpu := time.Now(), ownCPU()
	err = errors.Join(k.keep(ctx, sessions), k.merged(ctx))
	took, used, m := time.Since(began), ownCPU()-cpu, k.merging()
	if err = errors.Join(err, k.stop()); err != nil {
		return nil, err
	}
	return k.sizes(sessions, took, used, before, &m)
}

// month fills a store with a month of sessions, by the recorder's own way,
// and asks it.
func (b *bench) month(ctx context.Context) (out []Entry, err error) {
	all := uint64(b.millions) * 1_000_000
	dir := filepath.Join(b.dir, "store")
	if all == 0 {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	begin := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -storeDays-1)
	k, err := openKeeper(ctx, dir, begin, float64(all)/storeDays)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, k.stop()) }()
	done := uint64(0)
	k.flows = []session.Session{}
	for _, share := range []uint64{10, 2, 1} {
		n := all/share - done
		if err := errors.Join(k.keep(ctx, n), k.merged(ctx)); err != nil {
			return out, err
		}
		done += n
		var beside *flows
		if k.flows != nil { // nfdump takes minutes to collect ten millions
			if beside, err = keepFlows(ctx, filepath.Join(b.dir, "flows"), k.flows); err != nil {
				return out, err
			}
			k.flows = nil
		}
		asked, err := k.asked(ctx, beside)
		if err != nil {
			return out, err
		}
		for i := range asked {
			asked[i].Note = fmt.Sprintf("%s sessions of %d days; ", figure(float64(done)), storeDays) + asked[i].Note
			if share > 1 {
				asked[i].Name += fmt.Sprintf("/sessions=%d", done)
			}
		}
		out = append(out, asked...)
	}
	return out, nil
}

// sizes are what was written, and what is kept of it.
func (k *keeper) sizes(n uint64, took, cpu time.Duration, before int64, m *recorder.MergeStatus) ([]Entry, error) {
	kept, err := onDisk(filepath.Join(k.dir, "data", "store"), "coverage")
	if err != nil {
		return nil, err
	}
	after, err := writtenBytes()
	if err != nil {
		return nil, err
	}
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(n) }
	return []Entry{
		{Name: "store/bytes_per_session", Value: float64(kept) / float64(n), Unit: "bytes", Note: fmt.Sprintf(
			"on disk with everything, a realistic day of %s sessions: access records of %d subscribers, filters, zones, keys, seals; %d blocks merged to %d", figure(float64(n)), daySubscribers, m.Merged, m.Into)},
		{Name: "store/write_amplification", Value: float64(after-before) / float64(kept), Unit: "x", Note: "bytes that were written to the disk, to those that are kept"},
		{Name: "store/merged_sessions_per_second", Value: float64(n) / took.Seconds(), Unit: "sessions/s",
			Note: fmt.Sprintf("the whole recorder but for the kernel, two CPUs; %.0f ns of CPU a session, of it the generator %.0f", each(cpu), each(k.spent))},
	}, nil
}

// asked measures the questions that are really asked.
func (k *keeper) asked(ctx context.Context, beside *flows) (out []Entry, err error) {
	k.mu.Lock()
	sample := slices.Clone(k.sample)
	k.mu.Unlock()
	type question struct {
		name string
		make func(s *session.Session) *disclose.Query
		hit  func(a *disclose.Answer, s *session.Session) bool
	}
	day := func(s *session.Session) (int64, int64) {
		d := session.DayOf(s.End)
		return d.Start().UnixNano(), (d + 1).Start().UnixNano()
	}
	has := func(a *disclose.Answer, s *session.Session) bool {
		return slices.ContainsFunc(a.Hits, func(h disclose.Hit) bool {
			return h.Initiator == s.Initiator && h.InitiatorPort == s.InitiatorPort && h.Proto == s.Proto
		})
	}
	now := k.Now().UnixNano()
	clip := func(q *disclose.Query) *disclose.Query {
		q.Reference, q.To = "bench", min(q.To, now)
		return q
	}
	for _, q := range []question{
		{"public_address_port", func(s *session.Session) *disclose.Query {
			a, port, _ := s.LocalEnd()
			return clip(&disclose.Query{Address: a.Netip(), Port: &port, From: s.End - 2e9, To: s.End + 2e9})
		}, has},
		{"subscriber_day", func(s *session.Session) *disclose.Query {
			from, to := day(s)
			return clip(&disclose.Query{Subscriber: s.Subscriber, From: from, To: to})
		}, has},
		{"remote_day", func(s *session.Session) *disclose.Query {
			a, _, _ := s.RemoteEnd()
			from, to := day(s)
			return clip(&disclose.Query{Remote: a.Netip(), From: from, To: to})
		}, has},
		{"remote_30d", func(s *session.Session) *disclose.Query {
			a, _, _ := s.RemoteEnd()
			return clip(&disclose.Query{Remote: a.Netip(), From: k.begin.UnixNano(), To: now})
		}, has},
	} {
		e, err := k.measure(ctx, q.name, sample, beside, func(s *session.Session) (*disclose.Query, func(*disclose.Answer) bool) {
			return q.make(s), func(a *disclose.Answer) bool { return q.hit(a, s) }
		})
		if err != nil {
			return out, err
		}
		e.Name = "store/query/" + q.name
		out = append(out, e)
	}
	return out, nil
}

// questionsEach is how often each question is asked, each time about another
// session, with nothing of the store in memory.
const questionsEach = 9

func (k *keeper) measure(ctx context.Context, name string, sample []session.Session, beside *flows, ask func(*session.Session) (*disclose.Query, func(*disclose.Answer) bool)) (Entry, error) {
	var took, approvals, theirs []time.Duration
	hits := 0
	for i := range questionsEach {
		s := &sample[(i+1)*len(sample)/(questionsEach+2)]
		for j := i; j < len(sample) && (remote(s) && strings.HasPrefix(name, "remote") || s.Subscriber == "" && strings.HasPrefix(name, "subscriber")); j++ {
			s = &sample[j] // a resolver is asked by everybody
		}
		q, hit := ask(s)
		a, approved, ran, err := k.ask(ctx, q)
		if err != nil {
			return Entry{}, fmt.Errorf("ask %s: %w", name, err)
		}
		took, approvals = append(took, ran), append(approvals, approved)
		hits += len(a.Hits)
		if beside != nil {
			if err := dropCaches(); err != nil {
				return Entry{}, err
			}
			d, err := beside.ask(ctx, name, s)
			if err != nil {
				return Entry{}, err
			}
			theirs = append(theirs, d)
		}
		if !hit(a) && !a.Summary.Limited {
			return Entry{}, fmt.Errorf("%s: the session that was asked about is not among the %d of the answer: %s", name, len(a.Hits), strings.Join(a.Summary.Lines(), "; "))
		}
	}
	e := Entry{Value: median(took), Unit: "ms"}
	e.Note = fmt.Sprintf("from run to package, median of %d, cold cache; its approval %.1f ms; the longest %.1f ms; %.1f sessions an answer", len(took), median(approvals), float64(took[len(took)-1].Microseconds())/1000, float64(hits)/float64(len(took)))
	if beside != nil {
		e.Vs, e.Ratio = "nfdump", median(theirs)/e.Value
		e.Note += fmt.Sprintf("; nfdump of the same, uncompressed, a directory a day: %s ms", figure(median(theirs)))
	}
	return e, nil
}

// remote reports whether the far end is one that everybody has.
func remote(s *session.Session) bool { return s.ResponderPort == 53 || s.Proto != session.TCP }

// writtenBytes is what this process had written to disks so far (proc_pid_io(5)).
func writtenBytes() (int64, error) {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), "write_bytes: "); ok {
			return strconv.ParseInt(v, 10, 64)
		}
	}
	return 0, errors.New("/proc/self/io does not say what was written")
}

// allocated is the room that a file takes.
func allocated(path string) (int64, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return 0, err
	}
	return st.Blocks * 512, nil
}

// ownCPU is the CPU time of this process.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
