package recorder

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
)

// spool holds sealed blocks until it is known whether they will be kept. It is a file
// without a name: it goes with the process.
type spool struct {
	f     *os.File
	parts []spooled
}

type spooled struct {
	size int
	rows uint64
}

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, ".import-")
	if err == nil {
		err = os.Remove(f.Name())
	}
	if err != nil {
		return nil, fmt.Errorf("make room for an import in %q: %w", dir, cause(err))
	}
	return &spool{f: f}, nil
}

func (s *spool) add(b store.Sealed, rows uint64) error {
	if _, err := s.f.Write(b); err != nil {
		return fmt.Errorf("%w for an import: %w; make room and import the file again", store.ErrNoSpace, cause(err))
	}
	s.parts = append(s.parts, spooled{len(b), rows})
	return nil
}

// each calls fn with all blocks, in their order, as many at a time as the store takes at
// once.
func (s *spool) each(fn func(blocks []store.Sealed, rows uint64) error) error {
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read an import back: %w", cause(err))
	}
	for rest := s.parts; len(rest) > 0; {
		var blocks []store.Sealed
		rows, size := uint64(0), 0
		for len(rest) > 0 && size+rest[0].size <= store.MaxPut {
			b := make(store.Sealed, rest[0].size)
			if _, err := io.ReadFull(s.f, b); err != nil {
				return fmt.Errorf("read an import back: %w", cause(err))
			}
			blocks, rows, size, rest = append(blocks, b), rows+rest[0].rows, size+len(b), rest[1:]
		}
		if err := fn(blocks, rows); err != nil {
			return err
		}
	}
	return nil
}

func (s *spool) close() { _ = s.f.Close() } // it has no name, and nobody needs it any more

// communications adds blocks of communications that ended on day.
func (l *load) communications(h block.Header, kind store.Kind, day session.Day, list []session.Communication) error {
	from, to := list[0].Start, list[0].End
	for i := range list {
		from, to = min(from, list[i].Start), max(to, list[i].End)
	}
	plain, err := l.f.enc.Communications(l.f.plain[:0], h, list)
	if half := len(list) / 2; half > 0 && tooLarge(plain, err) {
		return errors.Join(l.communications(h, kind, day, list[:half]), l.communications(h, kind, day, list[half:]))
	}
	if err != nil {
		return err
	}
	l.f.plain = plain
	return l.add(kind, day, from, to, len(list))
}
