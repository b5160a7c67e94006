package disclose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// sessionBlock reads a block of sessions, or the head of one: that says whether
// the rest is worth reading.
func (r *reader) sessionBlock(sealed []byte) error {
	if r.wanted == nil {
		return errFrame // nobody asked for it
	}
	b, err := r.open(sealed)
	if err != nil {
		r.sum.Failed++
		return nil
	}
	name := blockName{b.Place.Kind, session.Day(b.Place.Day), b.Place.Epoch, b.Place.Seq}
	frame := func(i int) ([]byte, error) { return b.Frame(nil, i) }
	asked := slices.Contains(r.heads, name)
	if !asked {
		h, err := r.decoder.Head(frame)
		if err != nil {
			r.sum.Failed++
			return nil
		}
		r.note(&h.Header)
		if !slices.ContainsFunc(r.rows, h.MayMatch) {
			return nil
		}
		if _, err := vault.ParsePlace(sealed); errors.Is(err, vault.ErrPart) {
			r.heads = append(r.heads, name)
			return nil
		}
	}
	if err := r.sessionRows(frame); err != nil {
		r.sum.Failed++
	}
	return nil
}

// open derives the key of a sealed block, or of a part of one.
func (r *reader) open(sealed []byte) (*vault.Block, error) {
	p, _, err := vault.Layout(sealed)
	if err != nil {
		return nil, err
	}
	k := r.keys[keyName{p.Day, p.Epoch}]
	if k == nil {
		return nil, ErrWrongIdentity
	}
	return k.Block(sealed)
}

// sessionRows gives the rows that are asked for to whoever wants them.
func (r *reader) sessionRows(frame func(int) ([]byte, error)) error {
	s, err := r.decoder.SessionsFrom(frame)
	if err != nil {
		return err
	}
	for _, q := range r.rows {
		if r.matched, err = s.Find(r.matched[:0], q); err != nil {
			return err
		}
		for i := range r.matched {
			r.wanted(&r.matched[i], s.Header.Clock)
		}
	}
	return nil
}

// sessions reads the heads of all blocks of sessions in the window, and then the
// blocks that may hold an answer.
func (r *reader) sessions(ctx context.Context) error {
	r.heads = nil
	if err := r.more(ctx, moreSessions); err != nil {
		return err
	}
	all := r.heads
	for len(all) > 0 && !r.sum.Limited {
		r.heads = all[:min(len(all), mostNames)]
		all = all[len(r.heads):]
		body, err := post(ctx, r.client, strings.Replace(PathBlocks, "{id}", r.begin.ID, 1), r.heads)
		if err != nil {
			return fmt.Errorf("ask for blocks: %w", err)
		}
		if err := r.take(body); err != nil {
			return err
		}
	}
	return nil
}
