package tests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
	"github.com/edgelog/edgelog/tests/gateway"
)

// eachRecord reads every session that a stopped agent has stored, with the
// custodian's key, as it stands in the blocks: what was written twice comes
// twice.
func eachRecord(ctx context.Context, g *gateway.Gateway, dataDir string, fn func(*session.Session)) error {
	decoder := block.NewDecoder()
	var rows []session.Session
	return eachBlock(ctx, g, dataDir, store.KindSessions, func(plain []byte) error {
		list, err := decoder.Sessions(plain)
		if err != nil {
			return err
		}
		rows = list.Append(rows[:0])
		for i := range rows {
			fn(&rows[i])
		}
		return nil
	})
}

// eachBinding does for access records what eachRecord does for sessions.
func eachBinding(ctx context.Context, g *gateway.Gateway, dataDir string, fn func(*session.Binding)) error {
	return eachBlock(ctx, g, dataDir, store.KindBindings, func(plain []byte) error {
		_, list, err := block.DecodeBindings(plain)
		for i := range list {
			fn(&list[i])
		}
		return err
	})
}

// eachBlock opens every block of a kind, in a copy of the store: Badger maps its
// files, and this process may itself be the disk that they lie on (package disk).
// Go would then stop for its garbage collector, waiting for a page fault that
// waits for Go.
func eachBlock(ctx context.Context, g *gateway.Gateway, dataDir string, kind store.Kind, fn func(plain []byte) error) error {
	ids, err := vault.OpenIdentities(g.Identity, nil)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(g.Lab.Dir(), "copy")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // goes with the lab
	if out, err := exec.CommandContext(ctx, "cp", "-a", filepath.Join(dataDir, "store"), dir).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the store: %w: %s", err, out)
	}
	s, err := store.Open(filepath.Join(dir, "store"), store.Options{MinFree: 1 << 20, Ballast: -1})
	if err != nil {
		return err
	}
	type name struct {
		day   int32
		epoch uint64
	}
	keys := map[name]*vault.DayKey{}
	wrapped, err := s.WrappedKeys()
	for _, w := range wrapped {
		k, err := vault.OpenKey(w.Wrapped, ids)
		if err != nil {
			return errors.Join(err, s.Close())
		}
		keys[name{k.Day(), k.Epoch()}] = k
	}
	var plain []byte
	if err == nil {
		err = s.Scan(ctx, kind, 0, 1<<60, func(p vault.Place, b store.Sealed) error {
			if _, plain, err = keys[name{p.Day, p.Epoch}].Open(plain[:0], b); err != nil {
				return err
			}
			return fn(plain)
		})
	}
	return errors.Join(err, s.Close())
}

// found is what the store holds of one session of a pour.
type found struct {
	id         session.ID
	start, end int64
	reason     session.EndReason
	records    uint8
	doubled    bool // under two names: it is read twice
}

func (f *found) add(s *session.Session) {
	f.doubled = f.doubled || f.records > 0 && f.id != s.ID()
	if f.records == 0 || s.End > f.end {
		f.id, f.start, f.end, f.reason = s.ID(), s.Start, s.End, s.EndReason
	}
	f.records++
}

// poured reads the store back against what was poured.
type poured struct {
	sessions []found
	records  int
	strange  int // records that nobody sent
}

func readBack(t *testing.T, g *gateway.Gateway, dataDir string, p *pour, n int) *poured {
	t.Helper()
	out := &poured{sessions: make([]found, n)}
	err := eachRecord(t.Context(), g, dataDir, func(s *session.Session) {
		i := p.number(s)
		if i < 0 {
			return
		}
		out.records++
		if i >= n {
			out.strange++
			return
		}
		out.sessions[i].add(s)
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// missing lists the sessions that are not there.
func (out *poured) missing() (list []int) {
	for i := range out.sessions {
		if out.sessions[i].records == 0 {
			list = append(list, i)
		}
	}
	return list
}

// check compares each session that is there with what was sent.
func (out *poured) check(t *testing.T, p *pour) {
	t.Helper()
	doubled, mistimed, misended := 0, 0, 0
	for i := range out.sessions {
		f := &out.sessions[i]
		if f.records == 0 {
			continue
		}
		if f.doubled {
			doubled++
		}
		if f.reason != session.EndRST {
			misended++
		}
		began, ended := p.when(i), p.when(min(i+p.open, len(out.sessions)))
		if !began.holds(f.start) || !ended.holds(f.end) {
			if mistimed++; mistimed < 5 {
				t.Logf("session %d: stored as %d to %d, but sent as %d..%d to %d..%d", i, f.start, f.end,
					began.before.UnixNano(), began.after.UnixNano(), ended.before.UnixNano(), ended.after.UnixNano())
			}
		}
	}
	if doubled+mistimed+misended+out.strange > 0 {
		t.Errorf("%d sessions are there twice, %d with wrong times, %d not ended by rst, %d records of sessions that nobody made",
			doubled, mistimed, misended, out.strange)
	}
}

// holds says whether a stored time is right within a tick of the programs'
// clock. What is sent by a test run is seen at once.
func (b *burst) holds(ns int64) bool {
	return ns >= b.before.Add(-tick-time.Millisecond).UnixNano() && ns <= b.after.Add(tick).UnixNano()
}
