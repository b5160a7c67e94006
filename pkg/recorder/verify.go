package recorder

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
)

// PathVerify checks everything that can be checked without a private key (POST).
// It answers with a VerifyEvent a line; the last one has End.
const PathVerify = "/v1/verify"

// VerifyEvent is one line of a check: how far it has come, something that is
// wrong, or the end.
type VerifyEvent struct {
	Done    int64          `json:"done,omitempty"` // bytes
	All     int64          `json:"all,omitempty"`
	Problem *VerifyProblem `json:"problem,omitempty"`
	End     *VerifyEnd     `json:"end,omitempty"`
}

// VerifyProblem is one thing that is wrong. It names no person.
type VerifyProblem struct {
	Day    string    `json:"day,omitempty"` // UTC
	From   time.Time `json:"from,omitzero"` // the times that are concerned, as far as known
	To     time.Time `json:"to,omitzero"`
	Text   string    `json:"text"`
	Remedy string    `json:"remedy"`
}

// VerifyEnd is what was looked at.
type VerifyEnd struct {
	Days     int    `json:"days"`
	Runs     int    `json:"runs"`
	Blocks   int    `json:"blocks"`
	Records  uint64 `json:"records"`
	Bytes    uint64 `json:"bytes"` // sealed
	Keys     int    `json:"keys"`
	Holds    int    `json:"holds"`
	Ledger   int64  `json:"ledger"` // entries; -1: the ledger was not looked at
	Unnamed  int    `json:"unnamed"`
	Problems int    `json:"problems"`
	Failed   string `json:"failed,omitempty"` // why it could not be looked to the end
}

const restoreIt = "put it back from a backup (edgelog restore); if there is none, answers about that time say that they are incomplete"

// ProblemOf says for people what a check of the store found.
func ProblemOf(p store.Problem) VerifyProblem {
	out := VerifyProblem{Text: p.Error(), Remedy: restoreIt}
	if p.Day > 0 {
		out.Day = p.Day.String()
		out.From, out.To = p.Day.Start(), (p.Day + 1).Start()
	}
	if p.From != 0 || p.To != 0 {
		out.From, out.To = time.UnixMilli(p.From).UTC(), time.Time{}
		if p.To < (p.Day + 400).Start().UnixMilli() { // else it goes on
			out.To = time.UnixMilli(p.To).UTC()
		}
	}
	if errors.Is(p.What, store.ErrNoKey) {
		out.Remedy = "put the wrapped key back from its own backup (edgelog restore --keys); without it nobody can read that day"
	}
	return out
}

// Count says what a store holds.
func Count(s *store.Store) (end VerifyEnd, err error) {
	end.Ledger = -1
	for _, day := range s.Kept() {
		f, err := s.Day(day)
		if err != nil {
			return end, err
		}
		end.Days++
		end.Runs, end.Blocks, end.Keys = end.Runs+len(f.Runs), end.Blocks+f.Blocks, end.Keys+len(f.Keys)
		end.Records, end.Bytes = end.Records+f.Rows, end.Bytes+f.Bytes
	}
	holds, bad := s.Holds()
	end.Holds = len(holds) + len(bad)
	return end, nil
}

// verifyHandler answers PathVerify.
func (r *Recorder) verifyHandler(w http.ResponseWriter, req *http.Request) {
	if !r.checking.TryLock() {
		http.Error(w, "another check is under way; wait for its end", http.StatusConflict)
		return
	}
	defer r.checking.Unlock()
	w.Header().Set("Content-Type", "application/jsonl")
	enc := json.NewEncoder(w)
	say := func(e VerifyEvent) {
		_ = enc.Encode(e) // the reader may be gone: then ctx ends
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
	}
	ctx := req.Context()
	if err := r.Flush(ctx); err != nil {
		r.log.Warn("the newest records could not be stored before a check", "error", err)
	}
	end, err := Count(r.store)
	tell := func(p VerifyProblem) { end.Problems++; say(VerifyEvent{Problem: &p}) }
	if err == nil {
		err = CheckStore(ctx, r.store, say, tell)
	}
	if err == nil {
		end.Ledger = r.ledger.Size()
		err = r.checkEvidence(ctx, &end, tell)
	}
	if err != nil {
		end.Failed = err.Error()
		r.log.Error("the store was not checked to its end", "error", err)
	}
	if end.Problems > 0 {
		r.log.Error("a check found that not all is well", "problems", end.Problems)
	}
	say(VerifyEvent{End: &end})
}

// CheckStore checks a store, and the record of coverage beside it.
func CheckStore(ctx context.Context, s *store.Store, say func(VerifyEvent), tell func(VerifyProblem)) error {
	said := int64(-1)
	bad, err := s.Check(ctx, func(done, all int64) {
		if done-said > all/200 || done == all {
			said = done
			say(VerifyEvent{Done: done, All: all})
		}
	})
	if err == nil {
		var more []store.Problem
		more, err = s.CheckCoverage()
		bad = append(bad, more...)
	}
	for _, p := range bad {
		tell(ProblemOf(p))
	}
	return err
}

// checkEvidence checks the ledger, and that what it says was stored is there.
func (r *Recorder) checkEvidence(ctx context.Context, end *VerifyEnd, tell func(VerifyProblem)) error {
	if err := r.evidence.doubted(); err != nil {
		tell(VerifyProblem{Text: err.Error(), Remedy: "keep the directory of the ledger as it is: it shows what was changed; ask who had access"})
		return nil
	}
	err := r.ledger.Verify(ctx)
	var broken *ledger.BrokenError
	if errors.As(err, &broken) {
		tell(VerifyProblem{Text: broken.Error(), Remedy: "keep the directory of the ledger as it is: it shows what was changed; ask who had access"})
		return nil
	}
	if err != nil {
		return err
	}
	for try := 0; ; try++ { // what was destroyed or merged while this looked is found by the second look
		size := r.ledger.Size()
		bad, unnamed, err := r.compare(ctx, size)
		if err != nil {
			return err
		}
		if len(bad) > 0 && r.ledger.Size() != size && try < 5 {
			continue
		}
		end.Unnamed = unnamed
		for _, p := range bad {
			tell(p)
		}
		return nil
	}
}

// expected is what should be there, as the ledger says.
type expected struct {
	runs  map[string]string // "day/number" → hash
	again map[string]bool   // runs whose number was given twice: a store that had lost one began to count anew
	holds map[string]string // number → hash

	destroyed []string // days
	released  []uint64 // holds
}

// expect reads what the ledger says should be there now.
func expect(ctx context.Context, l wholeLedger, size int64) (*expected, error) {
	x := &expected{runs: map[string]string{}, again: map[string]bool{}, holds: map[string]string{}}
	const some = 4096
	for at := int64(0); at < size; at += some {
		list, err := l.Entries(ctx, at, min(at+some, size))
		if err != nil {
			return nil, err
		}
		for i := range list {
			x.take(&list[i])
		}
	}
	return x, nil
}

func (x *expected) take(e *ledger.Record) {
	f := e.Fields
	switch e.Kind {
	case ledger.Stored:
		name := f["day"] + "/" + f["run"]
		if old, ok := x.runs[name]; ok && old != f["hash"] {
			x.again[name] = true
		}
		x.runs[name] = f["hash"]
	case ledger.Destruction:
		if f["state"] == "destroyed" && !slices.Contains(x.destroyed, f["day"]) {
			x.destroyed = append(x.destroyed, f["day"])
		}
		for name := range x.runs {
			if strings.HasPrefix(name, f["day"]+"/") {
				delete(x.runs, name)
				delete(x.again, name)
			}
		}
	case ledger.Held:
		x.holds[f["hold"]] = f["hash"]
	case ledger.Released:
		if id, err := strconv.ParseUint(f["hold"], 10, 64); err == nil && !slices.Contains(x.released, id) {
			x.released = append(x.released, id) // said once, it must not come back
		}
		delete(x.holds, f["hold"])
	}
}

// compare finds what the ledger says was stored and is not there as it was, and
// counts what is there and not in the ledger: a kill between the two does that.
func (r *Recorder) compare(ctx context.Context, size int64) (bad []VerifyProblem, unnamed int, err error) {
	want, err := expect(ctx, r.ledger, size)
	if err != nil {
		return nil, 0, err
	}
	for _, run := range r.store.Runs() {
		name := run.Day.String() + "/" + itoa(run.Number)
		switch hash, ok := want.runs[name]; {
		case !ok:
			unnamed++
		case hash != hex.EncodeToString(run.Hash[:]):
			bad = append(bad, dayProblem(run.Day.String(), fmt.Sprintf("run %s is not what the ledger says was stored", name)))
		}
		delete(want.runs, name)
	}
	for name := range want.again {
		day, _, _ := strings.Cut(name, "/")
		bad = append(bad, dayProblem(day, fmt.Sprintf("run %s was stored twice, with different contents: of what was there first nothing is left", name)))
	}
	for name := range want.runs {
		day, _, _ := strings.Cut(name, "/")
		bad = append(bad, dayProblem(day, fmt.Sprintf("run %s is in the ledger and not in the store, and its destruction is not in the ledger", name)))
	}
	holds, _ := r.store.Holds()
	for i := range holds {
		id, hash := itoa(holds[i].ID), holds[i].Hash()
		switch said, ok := want.holds[id]; {
		case !ok:
			unnamed++
		case said != hex.EncodeToString(hash[:]):
			bad = append(bad, dayProblem(holds[i].First, fmt.Sprintf("hold %s is not what the ledger says was held", id)))
		}
		delete(want.holds, id)
	}
	for id := range want.holds {
		if n, err := strconv.ParseUint(id, 10, 64); err == nil && !r.holdKnown(n) {
			bad = append(bad, dayProblem("", fmt.Sprintf("hold %s is in the ledger and not in the store, and its release is not in the ledger", id)))
		}
	}
	return bad, unnamed, nil
}

// holdKnown reports whether a hold is there and damaged, which is said elsewhere.
func (r *Recorder) holdKnown(id uint64) bool {
	_, bad := r.store.Holds()
	for _, p := range bad {
		if p.Epoch == id {
			return true
		}
	}
	return false
}

func dayProblem(day, text string) VerifyProblem {
	p := VerifyProblem{Day: day, Text: text, Remedy: restoreIt}
	if t, err := time.Parse(time.DateOnly, day); err == nil {
		d := session.DayOf(t.UnixNano())
		p.From, p.To = d.Start(), (d + 1).Start()
	}
	return p
}
