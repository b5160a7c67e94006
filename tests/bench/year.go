package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
	"github.com/edgelog/edgelog/tests/gateway"
)

// What the filled store holds: of whole days until now, all addresses in force at
// the start of each day, and in each second some that change hands and some
// sessions that end.
const (
	filledDays     = 3
	filledLeases   = 1_000_000
	filledChanges  = 2 // a second
	filledSessions = 8 // a second
	blockRows      = 65536

	// Of what the recorder merges: see pkg/recorder/merge.go.
	mergedAfter    = 3600 // seconds
	mergedSessions = 1 << 14
	mergedBindings = 1 << 11

	longAfter = 2 * 86400 // seconds in force, after which an end is filed apart: see pkg/recorder/access.go
)

var filledNet = netip.MustParsePrefix("100.64.0.0/10")

// filler writes a store as an agent would have done that ran for days, by the
// code of the packages that do it.
type filler struct {
	gateway string
	st      *store.Store
	vault   *vault.Vault
	epoch   uint64
	enc     *block.Encoder
	plain   []byte
	waiting []store.Sealed
	bytes   int
	next    map[store.Kind]map[session.Day]uint32
	merging map[store.Kind]*block.Merger // what is still to be merged; nil: nothing is merged any more
	random  *rand.Rand

	since    []int64  // when the holder of each address got it, ns
	holder   []uint32 // who that is
	holders  uint32
	asked    []asked // what can be asked about
	sessions int
	first    int64 // when the store begins, ns
}

// asked is a moment of which the truth is known.
type asked struct {
	end        netip.AddrPort
	at         time.Time
	subscriber string
	changed    bool // it changes hands on that day: both ends of the hold are reported
}

// openFiller makes the store of a gateway whose agent has not run yet.
func openFiller(g *gateway.Gateway) (*filler, error) {
	c, err := config.Load(g.Config)
	if err != nil {
		return nil, err
	}
	st, err := store.Open(filepath.Join(g.DataDir(), "store"), store.Options{Create: true, MinFree: 256 << 20, Ballast: -1})
	if err != nil {
		return nil, err
	}
	v, err := vault.New(c.Custodians.Recipients, vault.Options{MinRecipients: c.Custodians.Minimum, Keys: st})
	if err != nil {
		return nil, err
	}
	return &filler{
		gateway: c.Gateway, st: st, vault: v, epoch: st.NewEpoch(), enc: block.NewEncoder(), next: map[store.Kind]map[session.Day]uint32{},
		merging: map[store.Kind]*block.Merger{}, random: rand.New(rand.NewPCG(1, 2)),
	}, nil
}

// fill writes the store of days.
func fill(g *gateway.Gateway) (*filler, error) {
	f, err := openFiller(g)
	if err != nil {
		return nil, err
	}
	f.since, f.holder = make([]int64, filledLeases), make([]uint32, filledLeases)
	if err := f.days(); err != nil {
		return nil, err
	}
	return f, f.close()
}

// close makes all of it durable.
func (f *filler) close() error {
	if err := f.put(); err != nil {
		return err
	}
	if err := f.vault.Close(); err != nil {
		return err
	}
	return f.st.Close()
}

// days writes all of it: merged hour by hour, and the last hour as it came, a
// block each second.
func (f *filler) days() error {
	now := time.Now().Unix()
	end := now - 60
	first := session.DayOf(now*1e9) - filledDays
	begin := first.Start().Unix()
	f.first = begin * 1e9
	for i := range f.since {
		f.since[i], f.holder[i] = (begin-int64(f.random.IntN(7*86400)))*1e9, f.who()
	}
	for s := begin; s < end; s++ {
		day := session.DayOf(s * 1e9)
		if s == day.Start().Unix() {
			if err := errors.Join(f.bindings(store.KindInForce, day, f.inForce()), f.merge(day)); err != nil {
				return err
			}
		}
		if err := errors.Join(f.change(day, s), f.ended(day, s)); err != nil {
			return err
		}
		last := s+1 == end-mergedAfter
		if (s+1)%mergedAfter == 0 || last {
			if err := f.merge(day); err != nil {
				return err
			}
		}
		if last {
			f.merging = nil
		}
	}
	return nil
}

// merge writes what was collected, sorted by address.
func (f *filler) merge(day session.Day) error {
	for kind, m := range f.merging {
		if err := m.Blocks(func(h block.Header, plain []byte) error {
			return f.seal(kind, day, plain, h.MinStart, h.MaxEnd, h.Count)
		}); err != nil {
			return err
		}
		m.Reset()
	}
	return nil
}

// file collects a block to be merged, or writes it as it is. Times are unix
// milliseconds.
func (f *filler) file(kind store.Kind, day session.Day, from, to int64, rows int) error {
	if f.merging == nil {
		return f.seal(kind, day, f.plain, from, to, rows)
	}
	if f.merging[kind] == nil {
		most := mergedBindings
		if kind == store.KindSessions {
			most = mergedSessions
		}
		f.merging[kind] = block.NewMerger(block.MergeOptions{MaxRows: most, MaxBytes: store.MaxPlaintext})
	}
	return f.merging[kind].Add(f.plain)
}

func (f *filler) who() uint32 {
	f.holders++
	return f.holders
}

func subscriber(n uint32) string { return fmt.Sprintf("user-%07d@isp.example", n) }

func filledAddr(i int) netip.Addr {
	a := filledNet.Addr().As4()
	n := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(i)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// binding is what the holder of an address has, until to.
func (f *filler) binding(i int, to int64) session.Binding {
	n := f.holder[i]
	return session.Binding{
		Prefix: block.Exactly(filledAddr(i)), LastPort: 65535, From: f.since[i], To: to, Subscriber: subscriber(n),
		Line: fmt.Sprintf("0045%08d", n), Equipment: fmt.Sprintf("02:00:00:%02x:%02x:%02x", byte(n>>16), byte(n>>8), byte(n)),
		Source: session.SourceRADIUS, SourceName: fmt.Sprintf("bng-%d", i%16), SourceKey: fmt.Sprintf("bng-%d/%08X", i%16, n),
	}
}

func (f *filler) inForce() []session.Binding {
	list := make([]session.Binding, filledLeases)
	for i := range list {
		list[i] = f.binding(i, session.Forever)
	}
	return list
}

// change lets some addresses change hands. Ends of what had long been in force are
// filed apart.
func (f *filler) change(day session.Day, s int64) error {
	var list, ends []session.Binding
	for range filledChanges {
		i := f.random.IntN(filledLeases)
		if end := f.binding(i, s*1e9); end.From < (s-longAfter)*1e9 {
			ends = append(ends, end)
		} else {
			list = append(list, end)
		}
		f.since[i], f.holder[i] = s*1e9, f.who()
		list = append(list, f.binding(i, session.Forever))
	}
	return errors.Join(f.bindings(store.KindBindings, day, list), f.bindings(store.KindEnds, day, ends))
}

// ended writes the sessions that end in a second: most are short, one in a
// hundred lasts for hours.
func (f *filler) ended(day session.Day, s int64) error {
	list := make([]session.Session, 0, filledSessions)
	for range filledSessions {
		i := f.random.IntN(filledLeases)
		long := []int{5, 60, 600, 6 * 3600}[min(3, f.random.IntN(100)/33)]
		x := session.Session{
			End: s*1e9 + int64(f.random.IntN(1e9)), Proto: session.TCP, Local: session.SideInitiator, EndReason: session.EndFIN,
			InitiatorTCP: 0x1b, ResponderTCP: 0x1b, Initiator: session.AddrFrom(filledAddr(i)), InitiatorPort: uint16(1024 + f.random.IntN(64000)),
			Responder: session.AddrFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(f.random.IntN(256))})), ResponderPort: 443, Subscriber: subscriber(f.holder[i]),
		}
		x.Start = max(x.End-int64(f.random.IntN(long*1000+1))*1e6, f.since[i])
		list = append(list, x)
		if f.random.IntN(20_000) == 0 && f.since[i] < x.Start-60e9 {
			f.asked = append(f.asked, asked{netip.AddrPortFrom(filledAddr(i), x.InitiatorPort), time.Unix(0, x.Start), x.Subscriber, f.since[i] > day.Start().UnixNano()})
		}
	}
	f.sessions += len(list)
	plain, err := f.enc.Sessions(f.plain[:0], f.head(), list)
	if err != nil {
		return err
	}
	f.plain = plain
	from, to := list[0].Start, list[0].End
	for i := range list {
		from, to = min(from, list[i].Start), max(to, list[i].End)
	}
	return f.file(store.KindSessions, day, from/1e6, to/1e6, len(list))
}

func (f *filler) head() block.Header {
	return block.Header{Profile: session.ProfileSession, Gateway: f.gateway, Provider: "Example Internet", Clock: block.Clock{Synchronised: true, MaxErrorMicros: 1000}}
}

// bindings writes blocks that are as large as may be.
func (f *filler) bindings(kind store.Kind, day session.Day, list []session.Binding) error {
	if len(list) == 0 {
		return nil
	}
	part := list[:min(len(list), blockRows)]
	for {
		plain, err := f.enc.Bindings(f.plain[:0], f.head(), part)
		if err != nil {
			return err
		}
		if f.plain = plain; len(plain) <= store.MaxPlaintext {
			break
		}
		part = part[:len(part)/2]
	}
	from, to := part[0].From, part[0].To
	for i := range part {
		from, to = min(from, part[i].From), max(to, part[i].To)
	}
	if err := f.file(kind, day, from/1e6, to/1e6, len(part)); err != nil {
		return err
	}
	return f.bindings(kind, day, list[len(part):])
}

// seal seals a block. Times are unix milliseconds.
func (f *filler) seal(kind store.Kind, day session.Day, plain []byte, from, to int64, rows int) error {
	if f.next[kind] == nil {
		f.next[kind] = map[session.Day]uint32{}
	}
	frames, err := block.Frames(nil, plain)
	if err != nil {
		return err
	}
	sealed, err := f.vault.Seal(nil, vault.Place{
		Gateway: f.gateway, Kind: uint8(kind), Day: int32(day), Epoch: f.epoch, Seq: f.next[kind][day], From: from, To: to, Count: uint32(rows),
	}, frames...)
	if err != nil {
		return err
	}
	f.next[kind][day]++
	if f.bytes += len(sealed); f.bytes > store.MaxPut || len(f.waiting) >= 4096 {
		if err := f.put(); err != nil {
			return err
		}
		f.bytes = len(sealed)
	}
	f.waiting = append(f.waiting, sealed)
	return nil
}

func (f *filler) put() error {
	if len(f.waiting) == 0 {
		return nil
	}
	err := f.st.Put(f.waiting...)
	f.waiting, f.bytes = f.waiting[:0], 0
	return err
}
