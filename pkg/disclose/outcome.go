package disclose

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/edgelog/edgelog/pkg/ledger"
)

// Outcome answers POST /v1/lookup/{id}/outcome.
func (g *Gate) Outcome(w http.ResponseWriter, r *http.Request) {
	var o Outcome
	if err := decode(w, r, &o); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	if !reasons[o.Error] || o.Records < 0 || o.Opened < 0 || o.Failed < 0 || !isHash(o.Manifest) || o.Why != "" && !o.Why.Valid() {
		refuse(w, http.StatusBadRequest, errors.New("the outcome is not one that can be recorded"))
		return
	}
	rd := g.peek(r)
	if rd == nil || g.take(rd.id) == nil {
		refuse(w, http.StatusNotFound, errors.New("no reading of that name is open"))
		return
	}
	defer close(rd.done)
	result := ResultAnswered
	if o.Error != "" {
		result = o.Error
	}
	index, err := g.conclude(r.Context(), rd, &o, result)
	if d := asDenied(err); d != nil {
		refuse(w, d.Status, d)
		return
	}
	if err != nil {
		g.o.Logger.Error("the outcome of a question was not recorded", "error", err)
		refuse(w, http.StatusServiceUnavailable, errors.New("the ledger cannot be written, so nothing may be printed; see \"edgelog status\""))
		return
	}
	at := g.o.Ledger.Checkpoint()
	answer := recorded{LedgerOutcome: index, Size: at.Size, Root: at.Root[:]}
	if o.Manifest != "" {
		if answer.Receipt, err = g.receipt(rd.intent, index, o.Manifest); err != nil {
			g.o.Logger.Error("a package was not signed", "error", err)
			refuse(w, http.StatusServiceUnavailable, errors.New("the package could not be signed; see \"edgelog status\""))
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the reader may be gone
}

// conclude puts the outcome of a reading into the ledger.
func (g *Gate) conclude(ctx context.Context, rd *reading, o *Outcome, result string) (index int64, err error) {
	write := func(result string) (err error) {
		f := rd.end(result)
		f[FieldRecords], f["blocks_opened"], f["blocks_failed"] = strconv.Itoa(o.Records), strconv.Itoa(o.Opened), strconv.Itoa(o.Failed)
		if rd.request != nil {
			f[FieldAge] = AgeDays(&rd.query, rd.request.Filed)
		}
		if o.Why != "" {
			f[FieldWhy] = string(o.Why)
		}
		if o.Manifest != "" {
			f["manifest"] = o.Manifest
		}
		index, err = g.o.Ledger.Append(context.WithoutCancel(ctx), ledger.Entry{Kind: ledger.Outcome, Fields: f})
		return err
	}
	if rd.act == Run {
		err = g.desk.conclude(rd.of, result, write)
	} else {
		err = write(result)
	}
	return index, err // write sets both
}

// receipt proves that a reading is in the ledger, and signs what it handed over.
func (g *Gate) receipt(intent, outcome int64, manifest string) (r *Receipt, err error) {
	var sum [sha256.Size]byte
	if _, err := hex.Decode(sum[:], []byte(manifest)); err != nil {
		return nil, err
	}
	r = new(Receipt)
	var err1, err2 error
	r.Intent, err = g.o.Ledger.Prove(intent)
	r.Outcome, err1 = g.o.Ledger.Prove(outcome)
	r.Signature, err2 = g.o.Ledger.Statement(PackageStatement(sum))
	return r, errors.Join(err, err1, err2)
}

// take removes the reading of that name from the open ones; nil when there is
// none.
func (g *Gate) take(id string) *reading {
	g.mu.Lock()
	defer g.mu.Unlock()
	rd := g.open[id]
	delete(g.open, id)
	return rd
}

// abandon records that a reader went away without an outcome.
func (g *Gate) abandon(rd *reading) {
	if g.take(rd.id) == nil {
		return // its outcome came
	}
	_, err := g.o.Ledger.Append(context.Background(), ledger.Entry{Kind: ledger.Outcome, Fields: rd.end(resultNone)})
	if err != nil {
		g.o.Logger.Error("the missing outcome of a question was not recorded", "error", err)
	}
}
