package disclose

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// What a reader may ask for while its reading is open. Which blocks it needs is
// known only to who can open them: the inside address of a translation, say.
const (
	moreBindings  = "bindings"
	moreEnds      = "ends" // of bindings that go on; heads only
	moreSessions  = "sessions"
	moreRegisters = "registers"

	moreCommunications = "communications" // heads only
)

// send counts what is sent to a reader, and sends it: a block after the wrapped
// keys of its day, or that of its hold, and no other keys.
func (g *Gate) send(ctx context.Context, fw *frameWriter, rd *reading, k frameKind) func([]byte) error {
	return func(b []byte) error {
		p, _, err := vault.Layout(b)
		if err != nil {
			return err
		}
		pass := func(wrapped []byte) error { return rd.pass(fw, frameKey, wrapped) }
		switch day := session.Day(p.Day); {
		case rd.act == Run, !rd.needsKeys(&p): // a run has its grant
		case isHeld(p.Kind):
			err = g.o.Shelf.HoldKey(ctx, p.Epoch, pass)
		default:
			err = g.o.Shelf.Keys(ctx, day, day, pass)
		}
		if err != nil {
			return fmt.Errorf("read wrapped keys: %w", err)
		}
		return rd.pass(fw, k, b)
	}
}

// needsKeys reports whether the keys for a block were not sent yet; from now on
// they count as sent.
func (rd *reading) needsKeys(p *vault.Place) bool {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if isHeld(p.Kind) {
		sent := rd.holds[p.Epoch]
		rd.holds[p.Epoch] = true
		return !sent
	}
	sent := rd.days[session.Day(p.Day)]
	rd.days[session.Day(p.Day)] = true
	return !sent
}

func (rd *reading) pass(fw *frameWriter, k frameKind, b []byte) error {
	if err := rd.sent(k, len(b)); err != nil {
		return err
	}
	return fw.write(k, b)
}

// more sends blocks of the reading's window.
func (g *Gate) more(ctx context.Context, fw *frameWriter, rd *reading, what string) (err error) {
	var damaged int
	q := &rd.query
	switch what {
	case moreBindings:
		damaged, err = g.o.Shelf.Bindings(ctx, q.From, q.To, g.send(ctx, fw, rd, frameBindings))
	case moreEnds:
		damaged, err = g.o.Shelf.Ends(ctx, q.From, q.To, block.HeadOfBindings, g.send(ctx, fw, rd, frameBindings))
	case moreSessions:
		damaged, err = g.o.Shelf.Sessions(ctx, q.From, q.To, q.heads(), g.send(ctx, fw, rd, frameSessions))
	case moreRegisters:
		damaged, err = g.o.Shelf.Registers(ctx, q.To, g.send(ctx, fw, rd, frameRegister))
	case moreCommunications:
		damaged, err = g.communications(ctx, fw, rd)
	case moreEverything:
		damaged, err = g.everything(ctx, fw, rd)
	}
	fw.end.Damaged += damaged
	if err != nil {
		return fmt.Errorf("read blocks of %s: %w", what, err)
	}
	return nil
}

// More answers GET /v1/lookup/{id}/{what}: frames out, of a reading that has
// its intent in the ledger, and not yet its outcome.
func (g *Gate) More(w http.ResponseWriter, r *http.Request) {
	what := r.PathValue("what")
	rd := g.peek(r)
	switch {
	case rd == nil:
		refuse(w, http.StatusNotFound, errors.New("no reading of that name is open"))
		return
	case what != moreBindings && what != moreEnds && what != moreSessions && what != moreRegisters && what != moreCommunications && what != moreEverything:
		refuse(w, http.StatusNotFound, errors.New("there is nothing of that name to be read"))
		return
	}
	g.reply(w, r, func(fw *frameWriter) error { return g.more(r.Context(), fw, rd, what) })
}

// blockName names a block of sessions, of ends, or of calls or mail.
type blockName struct {
	Kind  uint8       `json:"kind"`
	Day   session.Day `json:"day"`
	Epoch uint64      `json:"epoch"`
	Seq   uint32      `json:"seq"`
}

// mostNames is how many blocks are asked for at once.
const mostNames = 500

// Blocks answers POST /v1/lookup/{id}/blocks: names of blocks as JSON in, frames
// out. Only blocks of the reading's window are sent.
func (g *Gate) Blocks(w http.ResponseWriter, r *http.Request) {
	rd := g.peek(r)
	var names []blockName
	if err := decode(w, r, &names); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	switch {
	case rd == nil:
		refuse(w, http.StatusNotFound, errors.New("no reading of that name is open"))
		return
	case len(names) > mostNames:
		refuse(w, http.StatusBadRequest, fmt.Errorf("%w: %d blocks at once, at most %d", ErrQuery, len(names), mostNames))
		return
	}
	g.reply(w, r, func(fw *frameWriter) error {
		for _, n := range names {
			if err := g.block(r.Context(), fw, rd, n); err != nil {
				return err
			}
		}
		return nil
	})
}

// block sends one block, if any part of it lies in the window of the reading.
func (g *Gate) block(ctx context.Context, fw *frameWriter, rd *reading, n blockName) error {
	b, err := g.o.Shelf.Block(ctx, n.Kind, n.Day, n.Epoch, n.Seq)
	if errors.Is(err, fs.ErrNotExist) {
		fw.end.Gone++
		return nil
	}
	var p vault.Place
	if err == nil {
		p, err = vault.ParsePlace(b)
	}
	if err != nil {
		return fmt.Errorf("read a block: %w", err)
	}
	if from, to := rd.query.From/1e6-1, (rd.query.To+int64(session.NearBy))/1e6+1; p.From > to || p.To < from {
		fw.end.Damaged++ // it is none of those that were offered
		return nil
	}
	switch {
	case isExchange(n.Kind) != (rd.query.Ask == WantCommunications):
		fw.end.Damaged++ // neither
		return nil
	case isExchange(n.Kind):
		return g.send(ctx, fw, rd, frameCommunications)(b)
	case n.Kind == kindEnds || n.Kind == kindEndsMerged:
		return g.send(ctx, fw, rd, frameBindings)(b)
	}
	return g.send(ctx, fw, rd, frameSessions)(b)
}

// Page answers GET /v1/lookup/{id}/register/{day}/{epoch}/{page}: one block of
// an import of subscribers.
func (g *Gate) Page(w http.ResponseWriter, r *http.Request) {
	rd := g.peek(r)
	day, err1 := strconv.ParseInt(r.PathValue("day"), 10, 32)
	epoch, err2 := strconv.ParseUint(r.PathValue("epoch"), 10, 64)
	page, err3 := strconv.ParseUint(r.PathValue("page"), 10, 32)
	if rd == nil || errors.Join(err1, err2, err3) != nil {
		refuse(w, http.StatusNotFound, errors.New("no such block of a register, or no reading of that name is open"))
		return
	}
	g.reply(w, r, func(fw *frameWriter) error {
		b, err := g.o.Shelf.Page(r.Context(), session.Day(day), epoch, uint32(page))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			fw.end.Damaged++
			return nil
		case err != nil:
			return fmt.Errorf("read a block of a register: %w", err)
		}
		return g.send(r.Context(), fw, rd, frameRegister)(b)
	})
}

// reply streams what send writes, and an end or an error.
func (g *Gate) reply(w http.ResponseWriter, _ *http.Request, send func(*frameWriter) error) {
	w.Header().Set("Content-Type", "application/octet-stream")
	fw := newFrameWriter(w)
	err := send(fw)
	if err == nil {
		err = fw.writeJSON(frameEnd, fw.end)
	}
	if err != nil && !errors.Is(err, errOver) {
		g.o.Logger.Error("a question was not answered to its end", "error", err)
		_ = fw.write(frameError, []byte("the store could not be read to its end; see \"edgelog status\"")) // the reader may be gone
	}
	_ = fw.flush() // the reader may be gone
}

// peek returns the open reading that r names, if it is that of who asks; nil when
// there is none.
func (g *Gate) peek(r *http.Request) *reading {
	by, ok := g.o.Caller(r)
	g.mu.Lock()
	defer g.mu.Unlock()
	rd := g.open[r.PathValue("id")]
	if rd == nil || !ok || rd.uid != by.UID {
		return nil
	}
	return rd
}
