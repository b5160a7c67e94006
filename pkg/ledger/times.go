package ledger

import (
	"bytes"
	"time"
)

// mostBack bounds how many places where the time goes back are kept.
const mostBack = 1000

// times follows the times of entries in the order of the tree. It looks at the
// bytes alone: times of one layout stand in the order of their text.
type times struct {
	first, last []byte
	back        []Back
	err         error // the first entry that does not begin with a time
}

func (s *times) see(in tile, index int64, entry []byte) {
	t, ok := timeOf(entry)
	if !ok {
		if s.err == nil {
			s.err = &BrokenError{File: in.path(), Entry: index, Reason: "it was signed, but does not begin with a time"}
		}
		return
	}
	if s.last != nil && bytes.Compare(t, s.last) < 0 && len(s.back) < mostBack {
		from, to := parseTime(s.last), parseTime(t)
		if from.Sub(to) > Tolerance {
			s.back = append(s.back, Back{Index: index, From: from, To: to})
		}
	}
	if s.first == nil {
		s.first = bytes.Clone(t)
	}
	s.last = append(s.last[:0], t...)
}

// timeOf returns the text of an entry's time.
func timeOf(entry []byte) ([]byte, bool) {
	if len(entry) < timeBytes || string(entry[:len(timeKey)]) != timeKey {
		return nil, false
	}
	t := entry[len(timeKey) : len(timeKey)+len(timeLayout)]
	return t, t[10] == 'T' && t[23] == 'Z' && entry[len(timeKey)+len(timeLayout)] == '"'
}

func parseTime(text []byte) time.Time {
	t, _ := time.Parse(timeLayout, string(text)) // what is no time is the zero time
	return t
}

func (s *times) span() (first, last time.Time) {
	if s.last == nil {
		return first, last
	}
	return parseTime(s.first), parseTime(s.last)
}
