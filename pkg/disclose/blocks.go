package disclose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// sessionBlock reads a block of sessions, or the head of one: that says whether
// the rest is worth reading.
func (r *reader) sessionBlock(sealed []byte) error {
	if r.wanted == nil {
		return errFrame // nobody asked for it
	}
	b, err := r.keyring.open(sealed)
	if errors.Is(err, errOutside) {
		return nil
	}
	if err != nil {
		r.unreadable(sealed)
		return nil
	}
	name := nameOf(b.Place)
	of, err := r.decoder.Look(func(i int) ([]byte, error) {
		f, err := b.Frame(nil, i)
		if errors.Is(err, vault.ErrAbsent) && i >= block.ZoneHeads && i < block.Heads {
			return nil, nil // it was not asked for
		}
		return f, err
	})
	if err != nil {
		r.unreadable(sealed)
		return nil
	}
	if !r.whole[name] { // else its head has been read
		r.note(&of.Header)
		if !slices.ContainsFunc(r.rows, of.MayMatch) {
			return nil
		}
		if isPart(sealed) {
			r.heads = append(r.heads, name)
			return nil
		}
	}
	if r.from = 0; isHeld(b.Place.Kind) {
		r.from = b.Place.Epoch
	}
	r.kept = false
	for _, q := range r.rows {
		if r.matched, err = of.Match(r.matched[:0], q); err != nil {
			r.failed()
			return nil
		}
		for i := range r.matched {
			r.wanted(&r.matched[i], of.Header.Clock)
		}
	}
	if r.kept {
		return r.keyring.used(sealed)
	}
	return nil
}

func nameOf(p vault.Place) blockName {
	return blockName{p.Kind, session.Day(p.Day), p.Epoch, p.Seq}
}

func isPart(sealed []byte) bool {
	_, err := vault.ParsePlace(sealed)
	return errors.Is(err, vault.ErrPart)
}

// unreadable counts a damaged block. Where it was only a head, the block may be
// sound: the store keeps heads of merged blocks a second time.
func (r *reader) unreadable(sealed []byte) {
	p, _, err := vault.Layout(sealed)
	if _, asked := r.whole[nameOf(p)]; err == nil && r.whole != nil && !asked && isPart(sealed) && r.keyring.has(&p) {
		r.whole[nameOf(p)] = false
		r.heads = append(r.heads, nameOf(p))
		return
	}
	r.failed()
}

// headsFirst reads the heads of all blocks of sessions in the window, or of ends,
// and then the blocks that may hold an answer. When one of these has been merged
// with others meanwhile, it starts anew.
func (r *reader) headsFirst(ctx context.Context, what string) error {
	for try := 1; ; try++ {
		sum, bindings, providers := r.sum, len(r.bindings), r.providers
		r.heads, r.whole, r.gone = nil, map[blockName]bool{}, 0
		if err := r.more(ctx, what); err != nil {
			return err
		}
		if err := r.rest(ctx); err != nil {
			return err
		}
		if r.gone == 0 || try == tries {
			r.sum.Failed += r.gone
			return nil
		}
		r.sum, r.bindings, r.providers = sum, r.bindings[:bindings], slices.Clone(providers)
	}
}

// tries is how often blocks are asked for. Merging has minutes between one time
// and the next, or seconds under the heaviest load; a block that is missing every
// time is missing.
const tries = 3

// rest reads the blocks of which the head has been read.
func (r *reader) rest(ctx context.Context) error {
	all := r.heads
	for len(all) > 0 && (r.ending != nil || !r.sum.Limited) { // too many sessions are no reason not to read ends
		some := all[:min(len(all), mostNames)]
		all = all[len(some):]
		for _, name := range some {
			if _, unread := r.whole[name]; !unread {
				r.whole[name] = true
			}
		}
		body, err := post(ctx, r.client, strings.Replace(PathBlocks, "{id}", r.begin.ID, 1), some)
		if err != nil {
			return fmt.Errorf("ask for blocks: %w", err)
		}
		if err := r.take(body); err != nil {
			return err
		}
	}
	return nil
}
