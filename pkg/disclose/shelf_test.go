package disclose

import (
	"context"
	"io/fs"
	"slices"
	"testing"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// shelf holds really sealed blocks in memory, and counts what it handed out.
type shelf struct {
	t        *testing.T
	vault    *vault.Vault
	profile  session.Profile
	wrapped  [][]byte
	holdKeys [][]byte
	binding  [][]byte
	ended    [][]byte
	session  [][]byte
	calls    [][]byte
	mail     [][]byte

	directories [][]byte
	pages       map[uint64][][]byte

	fresh    bool // blocks are as they first came; else they are merged
	badHeads bool // the heads that are kept apart are damaged, and the blocks are not
	merging  int  // how often Block finds that the block was merged since its head was read
	seq      uint32
	handed   int
	bytes    int // of what was handed out
	fetched  int // blocks, by name
	failWith error
}

func (s *shelf) SaveKey(_ int32, _ uint64, wrapped []byte) error {
	s.wrapped = append(s.wrapped, wrapped)
	return nil
}

var merged = map[block.Kind]block.Kind{kindSessions: kindSessionsMerged, kindBindings: kindBindingsMerged, kindLate: kindLateMerged, kindEnds: kindEndsMerged}

func (s *shelf) seal(kind block.Kind, plain []byte, err error) []byte {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	s.seq++
	frames, err := block.Frames(nil, plain)
	if err != nil {
		s.t.Fatal(err)
	}
	h, err := block.ReadHeader(plain)
	if err != nil {
		s.t.Fatal(err)
	}
	if to := merged[kind]; to != 0 && !s.fresh {
		kind = to
	}
	sealed, err := s.vault.Seal(nil, vault.Place{Gateway: "gw1", Kind: uint8(kind), Day: int32(session.DayOf(at(0))), Epoch: 1, Seq: s.seq, Count: 1,
		From: h.MinStart, To: h.MaxEnd}, frames...)
	if err != nil {
		s.t.Fatal(err)
	}
	return sealed
}

func (s *shelf) header() block.Header {
	return block.Header{Profile: s.profile, Gateway: "gw1", Provider: "Net", Clock: block.Clock{Synchronised: true, MaxErrorMicros: 900}}
}

func (s *shelf) addSessions(list ...session.Session) {
	plain, err := block.EncodeSessions(nil, s.header(), list)
	s.session = append(s.session, s.seal(block.KindSessions, plain, err))
}

func (s *shelf) addBindings(list ...session.Binding) {
	plain, err := block.EncodeBindings(nil, s.header(), list)
	s.binding = append(s.binding, s.seal(block.KindBindings, plain, err))
}

// addEnds adds a block of ends that became known long after.
func (s *shelf) addEnds(list ...session.Binding) {
	plain, err := block.EncodeBindings(nil, s.header(), list)
	s.ended = append(s.ended, s.seal(kindEnds, plain, err))
}

// addLate adds a block of what came late, on the day that is over at noon.
func (s *shelf) addLate(list ...session.Binding) {
	plain, err := block.EncodeBindings(nil, s.header(), list)
	s.binding = append(s.binding, s.seal(kindLate, plain, err))
}

func (s *shelf) each(list [][]byte, fn func([]byte) error) error {
	for _, b := range list {
		s.handed++
		s.bytes += len(b)
		if err := fn(b); err != nil {
			return err
		}
	}
	return s.failWith
}

func (s *shelf) Keys(_ context.Context, _, _ session.Day, fn func([]byte) error) error {
	return s.each(s.wrapped, fn)
}

func (s *shelf) HoldKey(_ context.Context, _ uint64, fn func([]byte) error) error {
	return s.each(s.holdKeys, fn)
}

func (s *shelf) Bindings(_ context.Context, _, _ int64, fn func([]byte) error) (int, error) {
	return 0, s.each(s.binding, fn)
}

// Sessions hands out the heads of every other block, and all of the others.
func (s *shelf) Sessions(_ context.Context, _, _ int64, frames int, fn func([]byte) error) (int, error) {
	return 0, s.heads(s.session, frames, fn)
}

func (s *shelf) Ends(_ context.Context, _, _ int64, frames int, fn func([]byte) error) (int, error) {
	return 0, s.heads(s.ended, frames, fn)
}

// Communications hands out the heads of every other block, and all of the others.
func (s *shelf) Communications(_ context.Context, calls, mail bool, _, _ int64, frames int, fn func([]byte) error) (int, error) {
	var list [][]byte
	if calls {
		list = s.calls
	}
	if mail {
		list = append(slices.Clone(list), s.mail...)
	}
	return 0, s.heads(list, frames, fn)
}

// addCommunications adds a block of calls, or of mail.
func (s *shelf) addCommunications(list ...session.Communication) {
	plain, err := block.EncodeCommunications(nil, s.header(), list)
	if list[0].Kind == session.Mail {
		s.mail = append(s.mail, s.seal(kindMail, plain, err))
	} else {
		s.calls = append(s.calls, s.seal(kindCalls, plain, err))
	}
}

func (s *shelf) heads(list [][]byte, frames int, fn func([]byte) error) error {
	n := 0
	return s.each(list, func(b []byte) error {
		if n++; n%2 == 0 {
			head, err := vault.Part(nil, b, func(i int) bool { return i < frames })
			if err != nil {
				return err
			}
			s.bytes += len(head) - len(b)
			if s.badHeads {
				head[len(head)-1] ^= 1
			}
			return fn(head)
		}
		return fn(b)
	})
}

func (s *shelf) Block(_ context.Context, _ uint8, _ session.Day, _ uint64, seq uint32) ([]byte, error) {
	if s.merging > 0 {
		s.merging--
		return nil, fs.ErrNotExist
	}
	for _, b := range slices.Concat(s.session, s.ended, s.calls, s.mail) {
		if p, err := vault.ParsePlace(b); err == nil && p.Seq == seq {
			s.bytes += len(b)
			s.fetched++
			return b, nil
		}
	}
	return nil, fs.ErrNotExist
}

func (s *shelf) Registers(_ context.Context, _ int64, fn func([]byte) error) (int, error) {
	return 0, s.each(s.directories, fn)
}

func (s *shelf) Page(_ context.Context, _ session.Day, epoch uint64, page uint32) ([]byte, error) {
	if list := s.pages[epoch]; int(page) < len(list) {
		return list[page], nil
	}
	return nil, fs.ErrNotExist
}
