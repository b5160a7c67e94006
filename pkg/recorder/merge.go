package recorder

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

// MergeStatus counts what was taken over from fresh databases into runs.
type MergeStatus struct {
	Waiting  int       `json:"waiting"`  // fresh databases that are to be merged
	Merged   uint64    `json:"merged"`   // blocks that others stand for now
	Into     uint64    `json:"into"`     // those others
	Copied   uint64    `json:"copied"`   // blocks taken over as they were
	Shed     uint64    `json:"shed"`     // of them: merging could not have kept up, or had failed, or the disk was filling up
	Records  uint64    `json:"records"`  // merged
	Twice    uint64    `json:"twice"`    // of them: the same session, written twice
	Last     time.Time `json:"last"`     // of the last run; zero when there was none
	Failures uint64    `json:"failures"` // tries that came to nothing; all is still there then
}

// ripe is when what is fresh is merged: half a million sessions fit into some
// 50 MiB while they are sorted.
var ripe = store.Ripe{Records: 512 << 10, Age: time.Hour}

// MergedRows and mergedBindings are how many rows a merged block has at most. A question about one
// address unpacks one block of a run: smaller ones are asked faster, larger ones
// take less room. With 16,384 a session takes 0.3 bytes more than with 65,536,
// and a question about a subscriber's day a third of the time.
const (
	MergedRows     = 1 << 14 // of sessions
	mergedBindings = 1 << 11
)

// rush is the pace at which merging is not begun: as many records as make a
// fresh database ripe, in less than this.
const rush = 8 * time.Second

// opener opens blocks of days whose key is still in memory; vault.Vault is one.
type opener interface {
	Own(day int32, epoch uint64) (*vault.DayKey, bool)
}

// merger takes what is fresh over into runs beside the goroutine that stores.
// That one calls step.
type merger struct {
	store    *store.Store
	seal     Sealer
	keys     opener
	gateway  string
	max      int // rows in a block
	now      func() time.Time
	log      *slog.Logger
	evidence *evidence

	under  chan struct{} // closed when the merge under way has ended; nil: none is
	turned time.Time     // when a fresh database was begun last
	quick  bool          // the one before it was full soon
	low    bool          // the disk is filling up

	mu     sync.Mutex // guards the rest
	next   time.Time  // of the next try after a failure
	failed bool       // the last one
	count  MergeStatus
}

// step begins a fresh database when the present one is ripe, and begins to merge
// what waits when no merge is under way.
func (m *merger) step() error {
	when := ripe
	if m.now().Sub(m.turned) < rush {
		when.Records = math.MaxUint64 // only when it is full
	}
	waiting, err := m.turn(when)
	if err != nil || waiting == 0 || !m.ended() || m.resting() {
		return err
	}
	m.begin(waiting > 1 || m.low || m.quick || m.hasFailed())
	return nil
}

// finish merges all there is, before the keys are given up that it takes. What
// cannot be merged now is taken over as it is by the next start.
func (m *merger) finish() error {
	for {
		m.wait()
		waiting, err := m.turn(store.Ripe{})
		if err != nil || waiting == 0 || m.resting() {
			return err
		}
		m.begin(m.hasFailed())
	}
}

// wait returns when no merge is under way.
func (m *merger) wait() {
	if m.under != nil {
		<-m.under
		m.under = nil
	}
}

func (m *merger) turn(when store.Ripe) (waiting int, err error) {
	before := m.store.Waiting()
	waiting, err = m.store.Turn(when)
	if err != nil {
		return waiting, fmt.Errorf("merge what is stored: %w", err)
	}
	if waiting > before {
		m.quick = m.now().Sub(m.turned) < rush
		m.turned = m.now()
	}
	return waiting, nil
}

// ended reports whether no merge is under way.
func (m *merger) ended() bool {
	if m.under != nil {
		select {
		case <-m.under:
			m.under = nil
		default:
			return false
		}
	}
	return true
}

// resting reports whether a merge failed a moment ago.
func (m *merger) resting() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now().Before(m.next)
}

// hasFailed reports whether the last merge failed: a block that cannot be opened
// would fail the next one too, and taken over as it is it harms no other.
func (m *merger) hasFailed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}

// status returns the counters. Whoever asks must not wait for the disk: what waits
// to be merged is the store's to tell (Health).
func (m *merger) status() MergeStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

func (m *merger) begin(shed bool) {
	done := make(chan struct{})
	m.under = done
	go func() { // ends with the merge; wait waits for it
		defer close(done)
		runs, c, err := m.merge(shed)
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.failed = err != nil; err != nil {
			m.count.Failures++
			m.next = m.now().Add(lastRetry)
			m.log.Warn("what is stored was not merged; it is all there, and it is tried again", "error", err)
			return
		}
		m.count.add(c)
		m.count.Last = m.now()
		for _, run := range runs {
			m.evidence.note(ledger.Stored, map[string]string{
				"day": run.Day.String(), "run": itoa(run.Number), "blocks": strconv.Itoa(run.Blocks), "records": itoa(run.Rows),
				"bytes": itoa(run.Bytes), "hash": hex.EncodeToString(run.Hash[:]),
			})
		}
	}()
}

func (c *MergeStatus) add(x MergeStatus) {
	c.Merged, c.Into, c.Copied, c.Shed = c.Merged+x.Merged, c.Into+x.Into, c.Copied+x.Copied, c.Shed+x.Shed
	c.Records, c.Twice = c.Records+x.Records, c.Twice+x.Twice
}

// merge takes one fresh database over.
func (m *merger) merge(shed bool) (runs []store.Run, c MergeStatus, err error) {
	from, err := m.store.Merge()
	if err != nil {
		return nil, c, err
	}
	t := taking{merger: m, to: from, shed: shed}
	err = from.Blocks(context.Background(), t.take)
	if err == nil {
		err = t.close()
	}
	if err != nil {
		return nil, c, errors.Join(err, from.Abort())
	}
	runs, err = from.Commit()
	return runs, t.count, err
}

// taking is one merge: blocks of one kind, day and epoch come one after the
// other.
type taking struct {
	*merger
	to    *store.Merge
	shed  bool
	count MergeStatus

	at    series // of the blocks in rows
	key   *vault.DayKey
	rows  *block.Merger // nil: nothing is in it
	plain []byte
}

// take takes a block over: to be merged with its like, or as it is.
func (t *taking) take(p vault.Place, sealed store.Sealed) error {
	at := series{store.Kind(p.Kind), session.Day(p.Day), p.Epoch}
	if at != t.at {
		if err := t.close(); err != nil {
			return err
		}
		t.at, t.key = at, nil
		if _, may := at.kind.Merged(); may && !t.shed {
			t.key, _ = t.keys.Own(p.Day, p.Epoch)
		}
	}
	if t.key == nil {
		t.count.Copied++
		if t.shed {
			t.count.Shed++
		}
		return t.to.Put(sealed)
	}
	defer clear(t.plain)
	var err error
	if _, t.plain, err = t.key.Open(t.plain[:0], sealed); err != nil {
		return fmt.Errorf("open block %d to merge it: %w", p.Seq, err)
	}
	if t.rows == nil {
		most := MergedRows
		if t.at.kind != store.KindSessions {
			most = mergedBindings
		}
		t.rows = block.NewMerger(block.MergeOptions{MaxRows: min(t.max, most), MaxBytes: store.MaxPlaintext})
	}
	if err := t.rows.Add(t.plain); err != nil {
		return fmt.Errorf("read block %d to merge it: %w", p.Seq, err)
	}
	t.count.Merged++
	t.count.Records += uint64(p.Count)
	if at.kind != store.KindSessions && t.rows.Rows() >= mostBindings {
		return t.close() // there may be millions: the rest is sorted by itself
	}
	return nil
}

// mostBindings is how many access records are in memory at a time, at some 300
// bytes each.
const mostBindings = 1 << 17

// close seals what was collected, in blocks as large as they may be.
func (t *taking) close() error {
	if t.rows == nil {
		return nil
	}
	defer func() { t.rows = nil }()
	kind, _ := t.at.kind.Merged()
	err := t.rows.Blocks(func(h block.Header, plain []byte) error {
		defer clear(plain)
		frames, err := block.Frames(nil, plain)
		if err != nil {
			return err
		}
		sealed, err := t.seal.Seal(nil, vault.Place{
			Gateway: t.gateway, Kind: uint8(kind), Day: int32(t.at.day), Epoch: t.at.epoch,
			Seq: t.to.NextSeq(kind, t.at.day, t.at.epoch), From: h.MinStart, To: h.MaxEnd, Count: uint32(h.Count),
		}, frames...)
		if err != nil {
			return err
		}
		t.count.Into++
		return t.to.Put(sealed)
	})
	t.count.Twice += uint64(t.rows.Duplicates())
	return err
}
