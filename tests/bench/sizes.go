package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
	"github.com/edgelog/edgelog/tests/day"
)

// What sizes are measured on: an evening of the realistic day (tests/day),
// dense as it comes.
const (
	mergeRows     = 524_288 // sessions that are sorted together; see pkg/store
	sizedSessions = 4 * mergeRows
	sizedSeed     = 5
)

// sizes measures bytes per session: of edgelog, and of the same sessions in
// what else they could be kept in.
func (b *bench) sizes(ctx context.Context) ([]Entry, error) {
	stream := day.New(day.Options{Seed: sizedSeed, Begin: time.Date(2026, 11, 2, 17, 0, 0, 0, time.UTC)})
	list := stream.Append(make([]session.Session, 0, sizedSessions), sizedSessions)
	n := float64(len(list))
	byTime, err := b.nfdumpBytes(ctx, list)
	if err != nil {
		return nil, err
	}
	ours, err := edgelogBytes(list)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, byLocal)
	columns, err := parquetBytes(list)
	if err != nil {
		return nil, err
	}
	floor, err := floorBytes(ctx, list)
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%d sessions of 10,000 subscribers from 17 h on, tests/day seed %d", len(list), sizedSeed)
	entry := func(vs string, bytes int64, more string) Entry {
		return Entry{Name: "store/bytes_per_session_sealed", Value: float64(ours) / n, Unit: "bytes", Vs: vs, Ratio: float64(bytes) / float64(ours),
			Note: fmt.Sprintf("%s; %s: %.2f bytes%s", note, vs, float64(bytes)/n, more)}
	}
	out := []Entry{
		{Name: "store/bytes_per_session_sealed", Value: float64(ours) / n, Unit: "bytes", Note: note + "; sealed blocks and wrapped keys"},
		entry("entropy_floor", floor, ", xz -9 of the sorted columns, neither sealed nor indexed"),
		entry("parquet_zstd", columns, ", in the same order, neither sealed nor indexed"),
	}
	for _, c := range byTime {
		out = append(out, entry("nfdump_"+c.name, c.bytes, ", without subscriber and inside end, as it arrives"))
	}
	return out, nil
}

// byLocal is the order in which sessions lie in merged blocks.
func byLocal(a, b session.Session) int {
	x, _, _ := a.LocalEnd()
	y, _, _ := b.LocalEnd()
	return cmp.Or(bytes.Compare(x[:], y[:]), cmp.Compare(a.Start, b.Start))
}

// wrapped counts the bytes of wrapped keys.
type wrapped struct{ bytes int64 }

func (w *wrapped) SaveKey(_ int32, _ uint64, key []byte) error {
	w.bytes += int64(len(key))
	return nil
}

// edgelogBytes is what edgelog keeps of sessions in the order in which it hears
// of them: merged, cut into blocks, sealed; and the wrapped keys.
func edgelogBytes(heard []session.Session) (int64, error) {
	pair, err := vault.GenerateIdentity()
	if err != nil {
		return 0, err
	}
	var keys wrapped
	v, err := vault.New([]string{pair.Recipient}, vault.Options{Keys: &keys})
	if err != nil {
		return 0, err
	}
	defer v.Close()
	head := block.Header{Profile: session.ProfileSession, Gateway: "gw-1", Provider: "Example Internet", Clock: block.Clock{Synchronised: true, MaxErrorMicros: 1000}}
	var sealed []byte
	var frames [][]byte
	var total int64
	seq := uint32(0)
	for unit := range slices.Chunk(heard, mergeRows) {
		m := block.NewMerger(block.MergeOptions{MaxRows: recorder.MergedRows})
		for rows := range slices.Chunk(unit, blockRows) {
			plain, err := block.EncodeSessions(nil, head, rows)
			if err == nil {
				err = m.Add(plain)
			}
			if err != nil {
				return 0, err
			}
		}
		if err := m.Blocks(func(h block.Header, plain []byte) (err error) {
			if frames, err = block.Frames(frames[:0], plain); err != nil {
				return err
			}
			sealed, err = v.Seal(sealed[:0], vault.Place{Gateway: head.Gateway, Kind: 7, Day: int32(session.DayOf(unit[0].End)), Epoch: 1, Seq: seq,
				From: h.MinStart, To: h.MaxEnd, Count: uint32(h.Count)}, frames...)
			seq++
			total += int64(len(sealed))
			return err
		}); err != nil {
			return 0, err
		}
	}
	return total + keys.bytes, nil
}

// parquetRow is a session as one would lay it out for Parquet.
type parquetRow struct {
	Start         int64    `parquet:"start,delta"` // ms
	Duration      int32    `parquet:"duration"`    // ms
	Initiator     [16]byte `parquet:"initiator,dict"`
	Responder     [16]byte `parquet:"responder,dict"`
	InitiatorPort int32    `parquet:"initiator_port,delta"`
	ResponderPort int32    `parquet:"responder_port,dict"`
	Proto         int32    `parquet:"proto,dict"`
	InitiatorTCP  int32    `parquet:"initiator_tcp,dict"`
	ResponderTCP  int32    `parquet:"responder_tcp,dict"`
	Local         int32    `parquet:"local,dict"`
	EndReason     int32    `parquet:"end_reason,dict"`
	Subscriber    string   `parquet:"subscriber,dict"`
	Inside        [16]byte `parquet:"inside,dict"`
	InsidePort    int32    `parquet:"inside_port,delta"`
}

// counter counts what is written to it.
type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

// parquetBytes is the size of the sorted sessions as a Parquet file.
func parquetBytes(list []session.Session) (int64, error) {
	var size counter
	w := parquet.NewGenericWriter[parquetRow](&size, parquet.Compression(&zstd.Codec{Level: zstd.SpeedBestCompression}), parquet.MaxRowsPerRowGroup(mergeRows))
	rows := make([]parquetRow, 0, 8192)
	for part := range slices.Chunk(list, 8192) {
		rows = rows[:0]
		for i := range part {
			s := &part[i]
			rows = append(rows, parquetRow{
				Start: s.Start / 1e6, Duration: int32(s.End/1e6 - s.Start/1e6), Initiator: s.Initiator, Responder: s.Responder,
				InitiatorPort: int32(s.InitiatorPort), ResponderPort: int32(s.ResponderPort), Proto: int32(s.Proto),
				InitiatorTCP: int32(s.InitiatorTCP), ResponderTCP: int32(s.ResponderTCP), Local: int32(s.Local), EndReason: int32(s.EndReason),
				Subscriber: s.Subscriber, Inside: s.Inside, InsidePort: int32(s.InsidePort),
			})
		}
		if _, err := w.Write(rows); err != nil {
			return 0, fmt.Errorf("write Parquet: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return 0, fmt.Errorf("end Parquet: %w", err)
	}
	return size.n, nil
}

// planes are fixed-width columns: byte n of each value of a column lies beside
// byte n of the next.
type planes struct {
	column []byte // row after row
	w      io.Writer
	err    error
}

// add writes a column; each value has width bytes.
func (p *planes) add(list []session.Session, width int, value func(dst []byte, s *session.Session)) {
	p.column = slices.Grow(p.column[:0], width*len(list))[:width*len(list)]
	one := make([]byte, width)
	for i := range list {
		value(one, &list[i])
		for b := range one {
			p.column[b*len(list)+i] = one[b]
		}
	}
	if p.err == nil {
		_, p.err = p.w.Write(p.column)
	}
}

// floorBytes is what xz -9 makes of the sorted columns as planes; names of
// subscribers are in it once.
func floorBytes(ctx context.Context, list []session.Session) (int64, error) {
	var size counter
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, "xz", "-9", "-T1", "-c")
	cmd.Stdout, cmd.Stderr = &size, &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start xz: %w", err)
	}
	err = writePlanes(in, list)
	if err = errors.Join(err, in.Close(), cmd.Wait()); err != nil {
		return 0, fmt.Errorf("xz of the columns: %w: %s", err, said.String())
	}
	return size.n, nil
}

func writePlanes(w io.Writer, list []session.Session) error {
	p := planes{w: w}
	begin := list[0].Start
	for i := range list {
		begin = min(begin, list[i].Start)
	}
	names, index := []byte{}, map[string]uint32{}
	for i := range list {
		if _, there := index[list[i].Subscriber]; !there {
			index[list[i].Subscriber] = uint32(len(index))
			names = append(append(names, list[i].Subscriber...), '\n')
		}
	}
	be := binary.BigEndian
	p.add(list, 16, func(d []byte, s *session.Session) { a, _, _ := s.LocalEnd(); copy(d, a[:]) })
	p.add(list, 16, func(d []byte, s *session.Session) { a, _, _ := s.RemoteEnd(); copy(d, a[:]) })
	p.add(list, 16, func(d []byte, s *session.Session) { copy(d, s.Inside[:]) })
	p.add(list, 4, func(d []byte, s *session.Session) { be.PutUint32(d, uint32((s.Start-begin)/1e6)) })
	p.add(list, 4, func(d []byte, s *session.Session) { be.PutUint32(d, uint32(s.End/1e6-s.Start/1e6)) })
	p.add(list, 4, func(d []byte, s *session.Session) { be.PutUint32(d, index[s.Subscriber]) })
	p.add(list, 2, func(d []byte, s *session.Session) { _, port, _ := s.LocalEnd(); be.PutUint16(d, port) })
	p.add(list, 2, func(d []byte, s *session.Session) { _, port, _ := s.RemoteEnd(); be.PutUint16(d, port) })
	p.add(list, 2, func(d []byte, s *session.Session) { be.PutUint16(d, s.InsidePort) })
	p.add(list, 6, func(d []byte, s *session.Session) {
		d[0], d[1], d[2], d[3], d[4], d[5] = s.Proto, s.InitiatorTCP, s.ResponderTCP, uint8(s.Local), uint8(s.Flags), uint8(s.EndReason)
	})
	if p.err != nil {
		return p.err
	}
	_, err := w.Write(names)
	return err
}
