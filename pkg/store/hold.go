package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// A hold keeps rows of one case beyond the destruction of their day, sealed
// under a key of its own. It lies in holds/<number>/, apart from all days:
//
//	HOLD     what can be said of it without a key (Hold, as JSON)
//	key.age  its wrapped key; no part of a backup of blocks
//	0.block  the case, KindHold: why it is held, and how many blocks there are
//	1.block  … sessions and bindings
//
// Each block says, sealed, which hold and which number it is of (vault.Place), so
// that one that was moved, swapped or is missing is noticed.
const (
	holdsDir   = "holds"
	holdFile   = "HOLD"
	holdKey    = "key.age"
	holdFormat = 1
)

// Hold is what can be said of a hold without its key. It names no person.
type Hold struct {
	Format   int       `json:"format"`
	ID       uint64    `json:"id"` // number of the ledger entry that announced it
	Made     time.Time `json:"made"`
	First    string    `json:"first_day"` // UTC days that its sessions touch, YYYY-MM-DD
	Last     string    `json:"last_day"`  // included
	Sessions uint64    `json:"sessions"`
	Bindings uint64    `json:"bindings"`
	Bytes    int64     `json:"bytes"`   // of the sealed blocks
	KeyDay   int32     `json:"key_day"` // under which its key is filed, since 1970-01-01
	Blocks   []string  `json:"blocks"`  // SHA-256 of each, hex

	text []byte // as it lies in HOLD
}

// Hash is the SHA-256 of what is kept of the hold in HOLD, and so of all blocks.
func (h *Hold) Hash() [32]byte { return sha256.Sum256(h.text) }

// Days returns the days that the hold touches.
func (h *Hold) Days() (first, last session.Day) {
	first, _ = parseDay(h.First) // openHold and describe have checked them
	last, _ = parseDay(h.Last)
	return first, last
}

func (s *Store) holdDir(id uint64) string {
	return filepath.Join(s.dir, holdsDir, strconv.FormatUint(id, 10))
}

func blockFile(seq int) string { return strconv.Itoa(seq) + ".block" }

// openHolds learns which holds there are. A damaged one does not keep the store
// shut: Check and every scan of holds report it.
func (s *Store) openHolds() error {
	dir := filepath.Join(s.dir, holdsDir)
	list, err := numbers(dir)
	if err != nil {
		return err
	}
	if s.copy == "" {
		if err := s.removeUnfinished(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, id := range list {
		h, err := readHold(filepath.Join(dir, strconv.FormatUint(id, 10)))
		if err == nil && h.ID != id {
			err = fmt.Errorf("%w: it says that it is hold %d", ErrDamaged, h.ID)
		}
		if err != nil {
			s.o.Log.Error("a hold cannot be read; put it back from a backup", "hold", id, "error", err)
			s.badHolds = append(s.badHolds, Problem{Kind: KindHold, Epoch: id, Seq: -1, What: err})
			continue
		}
		s.holds[id] = h
	}
	return nil
}

func readHold(dir string) (*Hold, error) {
	text, err := os.ReadFile(filepath.Join(dir, holdFile))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return parseHold(text)
}

func parseHold(text []byte) (*Hold, error) {
	h := &Hold{text: text}
	if err := json.Unmarshal(text, h); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, holdFile, err)
	}
	if h.Format > holdFormat {
		return nil, fmt.Errorf("%w: hold of format %d, this version reads %d; upgrade edgelog", ErrNewer, h.Format, holdFormat)
	}
	_, ok := parseDay(h.First)
	_, ok2 := parseDay(h.Last)
	if h.Format != holdFormat || !ok || !ok2 || len(h.Blocks) == 0 {
		return nil, fmt.Errorf("%w: %s does not describe a hold", ErrDamaged, holdFile)
	}
	return h, nil
}

// describe checks what is to be held under id, and says what can be said of it.
func (s *Store) describe(id uint64, key []byte, blocks []Sealed) (*Hold, error) {
	if !vault.IsSealedKey(key) {
		return nil, fmt.Errorf("%w: its key is not a wrapped one", ErrNoKey)
	}
	if len(blocks) == 0 {
		return nil, fmt.Errorf("%w: it has no blocks", ErrBlock)
	}
	h := &Hold{Format: holdFormat, ID: id, Made: s.o.Now().UTC().Truncate(time.Second)}
	first, last := lastDay, session.Day(0)
	for i, b := range blocks {
		p, err := b.Place()
		if err != nil {
			return nil, fmt.Errorf("%w: block %d: %w", ErrBlock, i, err)
		}
		kind := Kind(p.Kind)
		if i == 0 {
			h.KeyDay = p.Day
		}
		if p.Day != h.KeyDay || p.Epoch != id || int(p.Seq) != i || (kind == KindHold) != (i == 0) || !kind.held() {
			return nil, fmt.Errorf("%w: block %d says that it is block %d of hold %d and kind %d", ErrTurn, i, p.Seq, p.Epoch, p.Kind)
		}
		switch kind {
		case KindHoldSessions:
			h.Sessions += uint64(p.Count)
			first, last = min(first, dayOfMilli(p.From)), max(last, dayOfMilli(p.To))
		case KindHoldBindings:
			h.Bindings += uint64(p.Count)
		}
		sum := sha256.Sum256(b)
		h.Blocks, h.Bytes = append(h.Blocks, hex.EncodeToString(sum[:])), h.Bytes+int64(len(b))
	}
	if h.Sessions == 0 {
		return nil, fmt.Errorf("%w: it holds no sessions", ErrBlock)
	}
	if first < 0 || last > lastDay || first > last {
		return nil, fmt.Errorf("%w: its sessions are of no time that can be written down", ErrBlock)
	}
	h.First, h.Last = first.String(), last.String()
	var err error
	h.text, err = json.MarshalIndent(h, "", "  ")
	return h, err
}

// dayOfMilli returns the UTC day of a time in unix milliseconds, any whatever.
func dayOfMilli(ms int64) session.Day {
	const day = 24 * 3600 * 1000
	n := ms / day
	if ms%day < 0 {
		n--
	}
	return session.Day(max(math.MinInt32, min(n, math.MaxInt32)))
}

// AddHold keeps a hold, durably, before it returns: its wrapped key, and its
// blocks in order, the first of KindHold. The error wraps ErrBlock, ErrTurn,
// ErrNoKey, ErrKeyKnown when there is a hold of that number, ErrNoSpace,
// ErrReadOnly or ErrClosed; nothing is kept then.
func (s *Store) AddHold(id uint64, key []byte, blocks []Sealed) (Hold, error) {
	h, err := s.describe(id, key, blocks)
	if err != nil {
		return Hold{}, fmt.Errorf("keep hold %d: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writable(int(h.Bytes) + len(key)); err != nil {
		return Hold{}, fmt.Errorf("keep hold %d: %w", id, err)
	}
	if _, err := os.Stat(s.holdDir(id)); err == nil {
		return Hold{}, fmt.Errorf("keep hold %d: %w", id, ErrKeyKnown)
	}
	if err := s.writeHold(h, key, blocks); err != nil {
		return Hold{}, fmt.Errorf("keep hold %d: %w", id, translate(err))
	}
	s.holds[id] = h
	return *h, nil
}

func (s *Store) writeHold(h *Hold, key []byte, blocks []Sealed) error {
	all := filepath.Join(s.dir, holdsDir)
	tmp := filepath.Join(all, unfinished+strconv.FormatUint(h.ID, 10))
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return err
	}
	err := writeFile(filepath.Join(tmp, holdKey), key, os.O_EXCL)
	for i := 0; err == nil && i < len(blocks); i++ {
		err = writeFile(filepath.Join(tmp, blockFile(i)), blocks[i], os.O_EXCL)
	}
	if err == nil {
		err = writeFile(filepath.Join(tmp, holdFile), h.text, os.O_EXCL)
	}
	if err == nil {
		err = syncDir(tmp)
	}
	failpoint("hold written")
	if err == nil {
		err = os.Rename(tmp, s.holdDir(h.ID))
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	failpoint("hold named")
	if err := errors.Join(syncDir(all), syncDir(s.dir)); err != nil { // or the next start has one that nobody was told of
		return errors.Join(err, os.RemoveAll(s.holdDir(h.ID)))
	}
	return nil
}

// DestroyHold destroys a hold: it is moved out of the store, then its key is
// overwritten, then all else removed. Broken off, it is finished by the next
// start, or when it is said again. The error wraps ErrMissing, ErrReadOnly or
// ErrClosed.
func (s *Store) DestroyHold(id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("destroy hold %d: %w", id, ErrClosed)
	}
	dir, to := s.holdDir(id), filepath.Join(s.dir, trashDir, holdsDir+"-"+strconv.FormatUint(id, 10))
	_, gone := os.Stat(dir)
	if _, begun := os.Stat(to); gone != nil && begun != nil {
		return fmt.Errorf("destroy hold %d: %w; \"edgelog hold list\" shows those that are there", id, ErrMissing)
	}
	if gone == nil {
		if _, err := s.moveAway(dir); err != nil {
			return fmt.Errorf("destroy hold %d: %w", id, err)
		}
		failpoint("hold moved away")
	}
	key := filepath.Join(to, holdKey)
	if err := wipeFile(key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("destroy hold %d: overwrite its key: %w", id, translate(err))
	}
	failpoint("hold key overwritten")
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("destroy hold %d: %w", id, translate(err))
	}
	delete(s.holds, id) // not before: until then it can be said again
	s.badHolds = slices.DeleteFunc(s.badHolds, func(p Problem) bool { return p.Epoch == id })
	return nil
}

// wipeFile removes a file, overwritten before: where the file system writes in
// place, the old bytes are gone too.
func wipeFile(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err == nil {
		_, err = f.Write(make([]byte, fi.Size()))
	}
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(name))
}

// Holds returns the holds, the oldest first, and which of them cannot be read.
func (s *Store) Holds() (list []Hold, bad []Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.holds)) {
		list = append(list, *s.holds[id])
	}
	return list, slices.Clone(s.badHolds)
}

// HoldKey returns the wrapped key of a hold; the error wraps ErrMissing,
// ErrNoKey or ErrDamaged.
func (s *Store) HoldKey(id uint64) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(s.holdDir(id), holdKey))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read key of hold %d: %w", id, cmp.Or(s.holdGone(id), ErrNoKey))
	case err != nil:
		return nil, fmt.Errorf("read key of hold %d: %w", id, translate(err))
	case !vault.IsSealedKey(b):
		return nil, fmt.Errorf("read key of hold %d: %w: it does not begin like an age file", id, ErrDamaged)
	}
	return b, nil
}

func (s *Store) holdGone(id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holds[id] == nil {
		return ErrMissing
	}
	return nil
}

// ScanHold calls fn with each block of a hold of one of the kinds, in order. A
// block that is missing or altered is left out, and the error at the end, which
// wraps ErrDamaged, says which. A hold that is released meanwhile ends the scan
// without an error. An error of fn or ctx ends it and is returned.
func (s *Store) ScanHold(ctx context.Context, h *Hold, fn func(vault.Place, Sealed) error, kinds ...Kind) error {
	var bad error
	for i := range h.Blocks {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read hold %d: %w", h.ID, err)
		}
		p, b, err := s.holdBlock(h, i)
		if err != nil && s.holdGone(h.ID) != nil {
			return nil
		}
		if err != nil {
			bad = errors.Join(bad, fmt.Errorf("block %d of hold %d: %w", i, h.ID, err))
			continue
		}
		if !slices.Contains(kinds, Kind(p.Kind)) {
			continue
		}
		if err := fn(p, b); err != nil {
			return err
		}
	}
	return bad
}

func (s *Store) holdBlock(h *Hold, i int) (p vault.Place, b Sealed, err error) {
	b, err = os.ReadFile(filepath.Join(s.holdDir(h.ID), blockFile(i)))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil, errLost
	}
	if err != nil {
		return p, nil, fmt.Errorf("%w: %w", ErrDamaged, translate(err))
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != h.Blocks[i] {
		return p, nil, fmt.Errorf("%w: it is not what was stored", ErrDamaged)
	}
	if p, err = b.Place(); err != nil {
		return p, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if p.Epoch != h.ID || int(p.Seq) != i || !Kind(p.Kind).held() {
		return p, nil, fmt.Errorf("%w: it says that it is block %d of hold %d", ErrDamaged, p.Seq, p.Epoch)
	}
	return p, b, nil
}

// checkHolds is Check of the holds.
func (s *Store) checkHolds(ctx context.Context) ([]Problem, error) {
	list, bad := s.Holds()
	for i := range list {
		h := &list[i]
		first, _ := h.Days()
		find := func(seq int64, what error) {
			if s.holdGone(h.ID) == nil {
				bad = append(bad, Problem{Kind: KindHold, Day: first, Epoch: h.ID, Seq: seq, What: what})
			}
		}
		if _, err := s.HoldKey(h.ID); err != nil {
			find(-1, err)
		}
		for seq := range h.Blocks {
			if err := ctx.Err(); err != nil {
				return bad, fmt.Errorf("check holds: %w", err)
			}
			if _, _, err := s.holdBlock(h, seq); err != nil {
				find(int64(seq), err)
			}
		}
		entries, err := os.ReadDir(s.holdDir(h.ID))
		if err != nil {
			find(-1, translate(err))
		}
		for _, e := range entries {
			n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".block"))
			if e.Name() != holdFile && e.Name() != holdKey && (err != nil || e.Name() != blockFile(n) || n >= len(h.Blocks)) {
				find(-1, fmt.Errorf("%w: %q does not belong to the hold", ErrDamaged, e.Name()))
			}
		}
	}
	return bad, nil
}
