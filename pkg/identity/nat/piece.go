package nat

import (
	"net/netip"

	"github.com/edgelog/edgelog/pkg/session"
)

// Piece is a part of a translation's time, or all of it, as an access record
// has it: without the far end.
type Piece struct {
	From, To       int64 // UTC, ns
	Public, Inside session.Addr
	PublicPort     uint16
	Proto          uint8
	Certainty      session.Certainty
}

// piece puts the time from e.from to to in the queue. While the translation
// goes on what follows is a piece of its own: each is true by itself, whatever
// becomes of those after it.
func (t *Table) piece(e *entry, to int64, goesOn bool) {
	if len(t.pieces) >= t.o.MaxPieces {
		t.count.piecesLost++
		return
	}
	p := Piece{From: e.from, To: max(to, e.from+1), Public: e.public, Inside: e.inside, PublicPort: e.publicPort, Proto: e.proto}
	if !session.HasPorts(e.proto) {
		p.PublicPort = 0
	}
	if e.flags&(flagPiece|flagListed) != 0 || e.fromDoubt == 0xffff {
		p.Certainty |= session.FromInferred
	}
	if goesOn {
		p.Certainty |= session.ToInferred
		e.flags |= flagPiece
		e.from, e.fromDoubt = p.To, 0
	}
	t.pieces = append(t.pieces, p)
	t.count.piecesMade++
}

// Pieces returns what has become an access record since it was called last;
// with goingOn also all that goes on, as far as it has come.
func (t *Table) Pieces(goingOn bool, now int64) []Piece {
	t.mu.Lock()
	defer t.mu.Unlock()
	if goingOn && t.o.Pieces {
		for i := uint32(1); i < t.used; i++ {
			if e := t.at(i); e.to == session.Forever && now > e.from {
				t.piece(e, now, true)
			}
		}
	}
	list := t.pieces
	t.pieces = nil
	t.count.piecesTaken += uint64(len(list))
	return list
}

// Binding returns the piece as an access record of the translator of that name.
// Two that could be taken for versions of one are of the same inside address.
func (p *Piece) Binding(name string) session.Binding {
	a := p.Public.Netip()
	first, last := p.PublicPort, p.PublicPort
	if !session.HasPorts(p.Proto) {
		last = 65535
	}
	return session.Binding{
		Prefix: netip.PrefixFrom(a, a.BitLen()), FirstPort: first, LastPort: last, From: p.From, To: p.To,
		Via: p.Inside.Netip(), Source: session.SourceNAT, SourceName: name, Certainty: p.Certainty,
		SourceKey: session.SourceNAT.String() + "/" + name + "/" + session.ProtoName(p.Proto) + "/" + p.Inside.String(),
	}
}
