package radius

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/edgelog/edgelog/pkg/identity"
)

// Imported says what became of a detail file: Entries = Taken + Ignored +
// Broken.
type Imported struct {
	Entries  uint64   `json:"entries"`
	Taken    uint64   `json:"taken"`              // durable
	Ignored  uint64   `json:"ignored"`            // not about a session: other packets, other statuses
	Broken   uint64   `json:"broken"`             // could not be read
	Problems []string `json:"problems,omitempty"` // the first of the broken ones, by line; they hold no data of subscribers
}

const (
	importBatch = 1024 // entries that become durable together
	maxProblems = 20
)

func (im *Imported) problem(err error) {
	im.Broken++
	if len(im.Problems) < maxProblems {
		im.Problems = append(im.Problems, err.Error())
	}
}

// Import takes the accounting of a detail file of FreeRADIUS into the book, and
// returns when all of it is durable. What came another way too is one session.
// An entry that cannot be read is counted and named; a file of another program
// is refused with ErrNotDetail. After another error what was counted as taken
// is durable, and the whole file may be imported again.
//
// It is the operator who vouches for the file: no secret does, and no Permit
// bounds it.
func (s *Server) Import(ctx context.Context, r io.Reader) (im Imported, err error) {
	d := newDetail(r)
	var events []identity.Event
	var entries uint64 // with events that are not durable yet
	keep := func() error {
		if len(events) == 0 {
			return nil
		}
		if err := s.book.Apply(ctx, events); err != nil {
			return fmt.Errorf("import accounting: %w", err)
		}
		for i := range events {
			s.tracker.gone(&events[i])
		}
		im.Taken += entries
		events, entries = events[:0], 0
		return nil
	}
	for {
		e, err := d.next()
		if errors.Is(err, io.EOF) {
			return im, keep()
		}
		if err != nil {
			return im, errors.Join(fmt.Errorf("import accounting: %w", err), keep())
		}
		im.Entries++
		n := len(events)
		events = s.importEntry(&im, e, events)
		if len(events) > n {
			entries++
		}
		if entries >= importBatch {
			if err := keep(); err != nil {
				return im, err
			}
		}
	}
}

// importEntry appends the events of an entry, or counts why there are none.
func (s *Server) importEntry(im *Imported, e *entry, events []identity.Event) []identity.Event {
	if e.err != nil {
		im.problem(e.err)
		return events
	}
	if e.other {
		im.Ignored++
		return events
	}
	now := s.opts.Clock()
	if e.at.After(now.Add(s.opts.MaxAhead)) || e.at.Before(now.Add(-s.opts.MaxAge)) {
		im.problem(fmt.Errorf("line %d: it was received in the future, or longer ago than anything is kept", e.line))
		return events
	}
	r := reader{opts: &s.opts, tables: s.tables.Load(), attrs: e.attrs}
	ev, v, why := r.event(e.from, e.at)
	switch {
	case v == drop:
		im.problem(fmt.Errorf("line %d: %s", e.line, reasonWords[why]))
		return events
	case v == acknowledge:
		im.Ignored++
		return events
	case ev.NAS == noSender:
		im.problem(fmt.Errorf("line %d: it names no access server", e.line))
		return events
	}
	n := len(events)
	events = s.expand(events, ev, &r)
	for i := range events[n:] {
		if err := events[n+i].Validate(); err != nil {
			im.problem(fmt.Errorf("line %d: %w", e.line, err))
			return events[:n]
		}
	}
	return events
}

// noSender is what the address of nobody is called.
const noSender = "invalid IP"
