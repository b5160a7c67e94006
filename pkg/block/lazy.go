package block

import "github.com/edgelog/edgelog/pkg/session"

// Head is what the first frames of a block of sessions say.
type Head struct{ Header }

// Head reads the header.
func (d *Decoder) Head(frame func(i int) ([]byte, error)) (*Head, error) {
	b, err := frame(0)
	if err != nil {
		return nil, err
	}
	h, err := ReadHeader(b)
	return &Head{h}, err
}

// MayMatch reports whether a row may be one that q asks for.
func (h *Head) MayMatch(q Query) bool { return milli(q.To) >= h.MinStart && milli(q.From) <= h.MaxEnd }

// SessionsFrom is Sessions of a block in frames.
func (d *Decoder) SessionsFrom(frame func(i int) ([]byte, error)) (*Sessions, error) {
	plain, err := frame(0)
	if err != nil {
		return nil, err
	}
	_, n, _, err := readHeader(plain)
	if err != nil {
		return nil, err
	}
	for i := range n {
		f, err := frame(i + 1)
		if err != nil {
			return nil, err
		}
		plain = append(plain, f...)
	}
	return d.Sessions(plain)
}

// Find is Match.
func (s *Sessions) Find(dst []session.Session, q Query) ([]session.Session, error) {
	return s.Match(dst, q), nil
}
