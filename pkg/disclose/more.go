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
	moreSessions  = "sessions"
	moreRegisters = "registers"
)

// send counts what is sent to a reader, and sends it.
func (rd *reading) send(fw *frameWriter, k frameKind) func([]byte) error {
	return func(p []byte) error {
		if err := rd.sent(k, len(p)); err != nil {
			return err
		}
		return fw.write(k, p)
	}
}

// more sends blocks of the reading's window.
func (g *Gate) more(ctx context.Context, fw *frameWriter, rd *reading, what string) (err error) {
	var damaged int
	q := &rd.query
	switch what {
	case moreBindings:
		damaged, err = g.o.Shelf.Bindings(ctx, q.From, q.To, rd.send(fw, frameBindings))
	case moreSessions:
		damaged, err = g.o.Shelf.Sessions(ctx, q.From, q.To, block.Heads, rd.send(fw, frameSessions))
	case moreRegisters:
		damaged, err = g.registers(ctx, fw, rd)
	case moreEverything:
		damaged, err = g.everything(ctx, fw, rd)
	}
	fw.end.Damaged += damaged
	if err != nil {
		return fmt.Errorf("read blocks of %s: %w", what, err)
	}
	return nil
}

// registers sends the directory of each import of subscribers, with the keys of
// their days: an import may be a year older than the window.
func (g *Gate) registers(ctx context.Context, fw *frameWriter, rd *reading) (damaged int, err error) {
	days, known := session.Day(-1), rd.query.BindingsSince()
	return g.o.Shelf.Registers(ctx, rd.query.To, func(sealed []byte) error {
		p, err := vault.ParsePlace(sealed)
		if err != nil {
			return err
		}
		if day := session.Day(p.Day); day < known && day > days { // later ones were sent before
			days = day
			if err := g.o.Shelf.Keys(ctx, day, day, rd.send(fw, frameKey)); err != nil {
				return err
			}
		}
		return rd.send(fw, frameRegister)(sealed)
	})
}

// More answers GET /v1/lookup/{id}/{what}: frames out, of a reading that has
// its intent in the ledger, and not yet its outcome.
func (g *Gate) More(w http.ResponseWriter, r *http.Request) {
	what := r.PathValue("what")
	rd := g.peek(r.PathValue("id"))
	switch {
	case rd == nil:
		refuse(w, http.StatusNotFound, errors.New("no reading of that name is open"))
		return
	case what != moreBindings && what != moreSessions && what != moreRegisters && what != moreEverything:
		refuse(w, http.StatusNotFound, errors.New("there is nothing of that name to be read"))
		return
	}
	g.reply(w, r, func(fw *frameWriter) error { return g.more(r.Context(), fw, rd, what) })
}

// blockName names a block of sessions.
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
	rd := g.peek(r.PathValue("id"))
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
		fw.end.Damaged++
		return nil
	}
	var p vault.Place
	if err == nil {
		p, err = vault.ParsePlace(b)
	}
	if err != nil {
		return fmt.Errorf("read a block of sessions: %w", err)
	}
	if from, to := rd.query.From/1e6-1, rd.query.To/1e6+1; p.From > to || p.To < from {
		fw.end.Damaged++ // it is none of those that were offered
		return nil
	}
	return rd.send(fw, frameSessions)(b)
}

// Page answers GET /v1/lookup/{id}/register/{day}/{epoch}/{page}: one block of
// an import of subscribers.
func (g *Gate) Page(w http.ResponseWriter, r *http.Request) {
	rd := g.peek(r.PathValue("id"))
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
		return rd.send(fw, frameRegister)(b)
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

// peek returns the open reading of that name; nil when there is none.
func (g *Gate) peek(id string) *reading {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open[id]
}
