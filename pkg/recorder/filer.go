package recorder

import (
	"errors"
	"fmt"
	"maps"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

// Sealer seals a block; vault.Vault is one.
type Sealer interface {
	Seal(dst []byte, p vault.Place, frames ...[]byte) ([]byte, error)
}

// Keeper makes sealed blocks durable, all of them or none, and numbers them;
// store.Store is one.
type Keeper interface {
	NewEpoch() uint64
	NextSeq(kind store.Kind, day session.Day, epoch uint64) uint32
	Put(blocks ...store.Sealed) error
}

// filer encodes, seals, numbers and stores blocks, one load after the other.
// Sessions and bindings share it; one goroutine drives both.
type filer struct {
	gateway string
	vault   Sealer
	store   Keeper

	epoch  uint64 // this start of the agent
	enc    *block.Encoder
	plain  []byte
	frames [][]byte // of plain
	again  uint64   // records that are on the disk already and will be stored once more: the rest of their load failed
}

func newFiler(gateway string, v Sealer, k Keeper) *filer {
	return &filer{gateway: gateway, vault: v, store: k, epoch: k.NewEpoch(), enc: block.NewEncoder()}
}

// load is what goes to the disk together.
type load struct {
	f      *filer
	blocks []store.Sealed
	rows   []uint64 // in each of them
	bytes  int

	expired uint64 // records left out: their day has been destroyed

	next map[series]uint32 // of each series, what the block after this load is numbered
}

// series is one row of block numbers.
type series struct {
	kind  store.Kind
	day   session.Day
	epoch uint64
}

// load begins a load. Where another one is on its way to the store, it is
// numbered as what comes after that.
func (f *filer) load(behind *load) *load {
	l := &load{f: f, next: map[series]uint32{}}
	if behind != nil {
		maps.Copy(l.next, behind.next)
	}
	return l
}

// sessions adds blocks of sessions that ended on day.
func (l *load) sessions(h block.Header, day session.Day, list []session.Session) error {
	from, to := list[0].Start, list[0].End
	for i := range list {
		from, to = min(from, list[i].Start), max(to, list[i].End)
	}
	plain, err := l.f.enc.Sessions(l.f.plain[:0], h, list)
	if half := len(list) / 2; half > 0 && tooLarge(plain, err) {
		return errors.Join(l.sessions(h, day, list[:half]), l.sessions(h, day, list[half:]))
	}
	if err != nil {
		return err
	}
	l.f.plain = plain
	return l.add(store.KindSessions, day, from, to, len(list))
}

// bindings adds blocks of bindings of one of the kinds that hold them, filed
// under the day on which they are written.
func (l *load) bindings(h block.Header, kind store.Kind, day session.Day, list []session.Binding) error {
	from, to := list[0].From, list[0].To
	for i := range list {
		from, to = min(from, list[i].From), max(to, list[i].To)
	}
	plain, err := l.f.enc.Bindings(l.f.plain[:0], h, list)
	if half := len(list) / 2; half > 0 && tooLarge(plain, err) {
		return errors.Join(l.bindings(h, kind, day, list[:half]), l.bindings(h, kind, day, list[half:]))
	}
	if err != nil {
		return err
	}
	l.f.plain = plain
	return l.add(kind, day, from, to, len(list))
}

// tooLarge reports whether what was encoded, or could not be, takes more room than
// one block has.
func tooLarge(plain []byte, err error) bool {
	return errors.Is(err, block.ErrTooBig) || err == nil && len(plain) > store.MaxPlaintext
}

// add seals what was encoded last. A key that has been given up, or used up,
// or that is on the disk without this process knowing it (its saving was broken
// off behind the last step), is followed by one of another epoch.
func (l *load) add(kind store.Kind, day session.Day, from, to int64, count int) error {
	defer clear(l.f.plain)
	sealed, err := l.seal(kind, day, from, to, count)
	if errors.Is(err, vault.ErrForgotten) || errors.Is(err, vault.ErrExhausted) || errors.Is(err, store.ErrKeyKnown) {
		l.f.epoch = max(l.f.store.NewEpoch(), l.f.epoch+1)
		sealed, err = l.seal(kind, day, from, to, count)
	}
	if err != nil {
		return fmt.Errorf("seal block: %w", err)
	}
	l.blocks, l.rows = append(l.blocks, sealed), append(l.rows, uint64(count))
	l.bytes += len(sealed)
	return nil
}

func (l *load) seal(kind store.Kind, day session.Day, from, to int64, count int) (store.Sealed, error) {
	at := series{kind, day, l.f.epoch}
	seq, ok := l.next[at]
	if !ok {
		seq = l.f.store.NextSeq(kind, day, l.f.epoch)
	}
	frames, err := block.Frames(l.f.frames[:0], l.f.plain)
	if err != nil {
		return nil, err
	}
	l.f.frames = frames
	sealed, err := l.f.vault.Seal(nil, vault.Place{
		Gateway: l.f.gateway, Kind: uint8(kind), Day: int32(day), Epoch: l.f.epoch, Seq: seq,
		From: floorMilli(from), To: floorMilli(to), Count: uint32(count),
	}, frames...)
	if err != nil {
		return nil, err
	}
	l.next[at] = seq + 1
	return sealed, nil
}

// put makes the load durable. One that is too large for the store to take at
// once goes in parts; when a later part fails, what the earlier ones hold, done
// records, is stored again with the next try, and read as one (session.ID). It
// touches nothing of the filer but its store.
func (l *load) put() (done uint64, err error) {
	for rest, rows := l.blocks, l.rows; len(rest) > 0; {
		n, size := 1, len(rest[0])
		for n < len(rest) && size+len(rest[n]) <= store.MaxPut {
			size += len(rest[n])
			n++
		}
		if err := l.f.store.Put(rest[:n]...); err != nil {
			return done, err
		}
		for _, r := range rows[:n] {
			done += r
		}
		rest, rows = rest[n:], rows[n:]
	}
	return 0, nil
}

func floorMilli(ns int64) int64 {
	ms := ns / 1e6
	if ns%1e6 < 0 {
		ms--
	}
	return ms
}
