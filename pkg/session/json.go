package session

import (
	"encoding/json"
	"strconv"
)

// AppendJSON appends s as one JSON object without a line break: the form of
// "edgelog replay --json", "edgelog lookup --format json" and JSON Lines
// exports. An endpoint that the profile does not record is left out, and so is
// an inside end that is not known.
func (s *Session) AppendJSON(b []byte) []byte {
	b = append(b, `{"proto":`...)
	b = strconv.AppendUint(b, uint64(s.Proto), 10)
	if s.Flags&LocalOnly == 0 || s.Local == SideInitiator {
		b = appendEnd(b, "initiator", s.Initiator, s.InitiatorPort)
	}
	if s.Flags&LocalOnly == 0 || s.Local == SideResponder {
		b = appendEnd(b, "responder", s.Responder, s.ResponderPort)
	}
	b = append(b, `,"start":"`...)
	b = append(b, FormatTime(s.Start)...)
	b = append(b, `","end":"`...)
	b = append(b, FormatTime(s.End)...)
	b = append(b, `","end_reason":"`...)
	b = append(b, s.EndReason.String()...)
	b = append(b, '"')
	switch s.Local {
	case SideInitiator:
		b = append(b, `,"local":"initiator"`...)
	case SideResponder:
		b = append(b, `,"local":"responder"`...)
	}
	if s.Inside != (Addr{}) {
		b = appendEnd(b, "inside", s.Inside, s.InsidePort)
	}
	if f := s.Flags.Words(); len(f) > 0 {
		b = append(b, `,"flags":[`...)
		for i, w := range f {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendQuote(b, w)
		}
		b = append(b, ']')
	}
	if s.Subscriber != "" {
		b = append(b, `,"subscriber":`...)
		b = append(b, quote(s.Subscriber)...)
	}
	return append(b, '}')
}

func appendEnd(b []byte, side string, a Addr, port uint16) []byte {
	b = append(b, `,"`+side+`":"`...)
	b = append(b, a.String()...)
	b = append(b, `","`+side+`_port":`...)
	return strconv.AppendUint(b, uint64(port), 10)
}

// quote returns s as a JSON string; a subscriber id may hold any bytes, so
// invalid UTF-8 is replaced as encoding/json does.
func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil { // cannot happen for a string
		return []byte(`""`)
	}
	return b
}

var flagWords = [...]string{"mid-stream", "syn-ack-first", "fragments", "orphan-fragments", "sample", "open", "local-only"}

// Words returns the remarks as words, in the order of their bits.
func (f Flags) Words() []string {
	var out []string
	for i, w := range flagWords {
		if f&(1<<i) != 0 {
			out = append(out, w)
		}
	}
	return out
}
