package recorder

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

// Where holds are listed (GET), and one is destroyed (POST of a Release).
const (
	PathHolds   = "/v1/holds"
	PathRelease = "/v1/holds/{id}/release"
)

// Release is what is to be said when a hold is destroyed.
type Release struct {
	Reference string `json:"reference"` // the case, for the sealed part of the ledger
}

// HoldList is what can be said of all holds. It names nobody.
type HoldList struct {
	Holds   []store.Hold `json:"holds"`
	Damaged []string     `json:"damaged"` // holds that cannot be read
}

// ReleaseCertificate says that a hold was destroyed. It names nobody.
type ReleaseCertificate struct {
	Gateway     string     `json:"gateway"`
	Provider    string     `json:"provider"`
	Version     string     `json:"version"` // of the software
	Begun       time.Time  `json:"begun"`
	Ended       time.Time  `json:"ended"`
	LedgerEntry int64      `json:"ledger_entry"` // made before anything was destroyed
	Key         string     `json:"key_sha256"`   // of the wrapped key; "" when there was none
	Hold        store.Hold `json:"hold"`
	Hash        string     `json:"sha256"` // of what was kept of the hold, and so of all its blocks
}

// StatementReleased is what the certificate of a released hold is signed as.
const StatementReleased = "certificate of a released hold"

// KeepHold keeps a hold that was sealed by a custodian, and puts what can be
// said of it into the ledger: all of that, or nothing.
func (r *Recorder) KeepHold(ctx context.Context, id uint64, key []byte, blocks [][]byte) (any, error) {
	list := make([]store.Sealed, len(blocks))
	for i, b := range blocks {
		list[i] = b
		if p, err := list[i].Place(); err == nil && p.Gateway != r.Config().Gateway {
			return nil, fmt.Errorf("keep hold %d: it was sealed for the gateway %q", id, p.Gateway)
		}
	}
	h, err := r.store.AddHold(id, key, list)
	if err != nil {
		return nil, err
	}
	if _, err := r.evidence.Append(ctx, ledger.Entry{Kind: ledger.Held, Fields: holdFields(&h)}); err != nil {
		return nil, errors.Join(fmt.Errorf("the ledger cannot be written: %w", err), r.store.DestroyHold(id))
	}
	r.log.Info("a hold was made", "hold", id, "sessions", h.Sessions, "access_records", h.Bindings, "first_day", h.First, "last_day", h.Last)
	return &h, nil
}

// holdFields are what the ledger says of a hold.
func holdFields(h *store.Hold) map[string]string {
	hash := h.Hash()
	return map[string]string{
		"hold": itoa(h.ID), "first_day": h.First, "last_day": h.Last, "sessions": itoa(h.Sessions), "bindings": itoa(h.Bindings),
		"blocks": strconv.Itoa(len(h.Blocks)), "bytes": strconv.FormatInt(h.Bytes, 10), "hash": hex.EncodeToString(hash[:]),
	}
}

func (r *Recorder) holdsHandler(w http.ResponseWriter, _ *http.Request) {
	list, bad := r.store.Holds()
	out := HoldList{Holds: append([]store.Hold{}, list...), Damaged: []string{}}
	for _, p := range bad {
		out.Damaged = append(out.Damaged, p.Error())
	}
	r.reply(w, out)
}

// reply answers with v as JSON.
func (r *Recorder) reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		r.log.Debug("an answer was not read to its end", "error", err)
	}
}

func (r *Recorder) releaseHandler(w http.ResponseWriter, req *http.Request) {
	id, err := strconv.ParseUint(req.PathValue("id"), 10, 64)
	if err != nil || WhoAsks(req.Context()) == "" {
		http.Error(w, "it is not known which hold, or who asks", http.StatusBadRequest)
		return
	}
	var in Release
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 1<<12)).Decode(&in); err != nil {
		http.Error(w, "a reference of at most some kilobytes is to be given as JSON", http.StatusBadRequest)
		return
	}
	c, err := r.release(context.WithoutCancel(req.Context()), id, in.Reference)
	switch {
	case errors.Is(err, store.ErrMissing):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		r.log.Error("a hold was not released", "hold", id, "error", err)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		r.reply(w, c)
	}
}

// release destroys a hold: ledger, key, blocks, certificate, ledger. Broken off
// anywhere, it can be said again, and the next start goes on with it.
func (r *Recorder) release(ctx context.Context, id uint64, reference string) (*ReleaseCertificate, error) {
	r.releasing.Lock()
	defer r.releasing.Unlock()
	if begun := new(ReleaseCertificate); r.expiry.readBegun("hold-"+itoa(id), begun) == nil { // its key may be gone: only the draft knows it
		return begun, r.completeRelease(begun)
	}
	conf := r.Config()
	c := &ReleaseCertificate{Gateway: conf.Gateway, Provider: conf.Provider, Version: r.o.Version, Begun: r.o.Now().UTC(), Hold: store.Hold{ID: id}}
	list, bad := r.store.Holds()
	there := false
	for i := range list {
		if list[i].ID == id {
			c.Hold, there = list[i], true
		}
	}
	for _, p := range bad {
		there = there || p.Epoch == id
	}
	if !there {
		return nil, fmt.Errorf("release hold %d: %w; \"edgelog hold list\" shows those that are there", id, store.ErrMissing)
	}
	if key, err := r.store.HoldKey(id); err == nil {
		sum := sha256.Sum256(key)
		c.Key = hex.EncodeToString(sum[:])
	}
	payload, err := json.Marshal(struct {
		Reference string `json:"reference"`
		Peer      string `json:"peer"`
	}{reference, WhoAsks(ctx)})
	if err != nil {
		return nil, fmt.Errorf("release hold %d: %w", id, err)
	}
	fields := holdFields(&c.Hold)
	c.Hash = fields["hash"]
	fields["state"], fields["key"] = "begun", c.Key
	if c.LedgerEntry, err = r.evidence.Append(ctx, ledger.Entry{Kind: ledger.Released, Fields: fields, Payload: payload}); err != nil {
		return nil, fmt.Errorf("release hold %d: the ledger cannot be written, so nothing is destroyed: %w", id, err)
	}
	if err := r.expiry.begin("hold-"+itoa(id), c); err != nil {
		return nil, fmt.Errorf("release hold %d: %w", id, err)
	}
	return c, r.completeRelease(c)
}

// completeRelease does what is left of a release that has begun. It is safe to
// call again; r.releasing is held.
func (r *Recorder) completeRelease(c *ReleaseCertificate) error {
	id := c.Hold.ID
	if err := r.store.DestroyHold(id); err != nil && !errors.Is(err, store.ErrMissing) {
		return err
	}
	c.Ended = r.o.Now().UTC()
	hash, err := r.expiry.sign(StatementReleased, "hold-"+itoa(id), c, c.LedgerEntry)
	if err != nil {
		return err
	}
	done := holdFields(&c.Hold)
	done["hash"] = c.Hash
	done["state"], done["certificate"], done["begun_entry"] = "destroyed", hash, strconv.FormatInt(c.LedgerEntry, 10)
	if _, err := r.evidence.Append(context.Background(), ledger.Entry{Kind: ledger.Released, Fields: done}); err != nil {
		return fmt.Errorf("hold %d is destroyed, and the ledger cannot be written; it is tried again: %w", id, err)
	}
	r.log.Info("a hold was released and destroyed", "hold", id, "certificates", filepath.Base(r.expiry.dir))
	return r.expiry.end("hold-" + itoa(id))
}

// holds calls fn with each hold that touches one of the days first to last. A
// hold that cannot be read is counted.
func (s Shelf) holds(first, last session.Day, fn func(*store.Hold) error) (damaged int, err error) {
	list, bad := s.store.Holds()
	for i := range list {
		if from, to := list[i].Days(); from > last || to < first {
			continue
		}
		if err := fn(&list[i]); err != nil {
			return len(bad), err
		}
	}
	return len(bad), nil
}

// HoldKey calls fn with the wrapped key of a hold. Without one its blocks are
// found not to open.
func (s Shelf) HoldKey(_ context.Context, hold uint64, fn func(wrapped []byte) error) error {
	key, err := s.store.HoldKey(hold)
	switch {
	case errors.Is(err, store.ErrMissing), errors.Is(err, store.ErrNoKey), errors.Is(err, store.ErrDamaged):
		return nil
	case err != nil:
		return err
	}
	return fn(key)
}

// AllKeys calls fn with each wrapped key, and those of holds.
func (s Shelf) AllKeys(ctx context.Context, fn func(wrapped []byte) error) error {
	if err := s.Keys(ctx, 0, math.MaxInt32, fn); err != nil {
		return err
	}
	list, _ := s.store.Holds()
	for i := range list {
		if err := s.HoldKey(ctx, list[i].ID, fn); err != nil {
			return err
		}
	}
	return nil
}

// held calls fn with the blocks of a kind of the holds that touch the time
// from ≤ t < to, ns. A damaged block is passed over and counted.
func (s Shelf) held(ctx context.Context, kind store.Kind, from, to int64, fn func(sealed []byte) error) (damaged int, err error) {
	bad, err := s.holds(session.DayOf(from), session.DayOf(to-1), func(h *store.Hold) error {
		n, err := passOver(s.store.ScanHold(ctx, h, func(p vault.Place, b store.Sealed) error {
			if kind == store.KindHoldSessions && (p.From > floorMilli(to-1) || p.To < floorMilli(from)) {
				return nil
			}
			return fn(b)
		}, kind))
		damaged += n
		return err
	})
	return damaged + bad, err
}

// All calls fn with every sealed block there is, and those of holds. It returns
// how many are damaged and were passed over: 1 means at least one.
func (s Shelf) All(ctx context.Context, fn func(sealed []byte) error) (damaged int, err error) {
	damaged, err = passOver(s.store.All(ctx, func(_ vault.Place, b store.Sealed) error { return fn(b) }))
	if err != nil {
		return damaged, err
	}
	list, bad := s.store.Holds()
	for i := range list {
		n, err := passOver(s.store.ScanHold(ctx, &list[i], func(_ vault.Place, b store.Sealed) error { return fn(b) },
			store.KindHold, store.KindHoldSessions, store.KindHoldBindings))
		damaged += n
		if err != nil {
			return damaged, err
		}
	}
	return cmp.Or(damaged, min(len(bad), 1)), nil
}
