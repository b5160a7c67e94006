package recorder

import (
	"context"
	"fmt"
	"os"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/identity/roster"
)

// ReadStatic reads and checks the static table of a configuration: its own rows
// and those of its file. On an error there are none.
func ReadStatic(c *config.Config) ([]roster.Static, error) {
	rows := make([]roster.Static, 0, len(c.Static))
	for i := range c.Static {
		s := &c.Static[i]
		row := roster.Static{
			Prefix: s.Prefix.Masked(), Subscriber: s.Subscriber, Line: s.Line, Place: s.Place, From: s.From, Until: s.Until,
			Where: fmt.Sprintf("static %d of the configuration", i+1),
		}
		var err error
		if row.FirstPort, row.LastPort, err = roster.ParsePorts(s.Ports); err != nil {
			return nil, fmt.Errorf("static %d: ports: %w", i+1, err)
		}
		rows = append(rows, row)
	}
	if c.StaticFile != "" {
		f, err := os.Open(c.StaticFile)
		if err != nil {
			return nil, fmt.Errorf("read static_file %q: %w", c.StaticFile, cause(err))
		}
		more, err := roster.ParseStatic(f)
		_ = f.Close() // it was only read
		if err != nil {
			return nil, fmt.Errorf("static_file %q: %w", c.StaticFile, err)
		}
		rows = append(rows, more...)
	}
	if err := roster.CheckStatic(rows); err != nil {
		return nil, err
	}
	return rows, nil
}

// openStatic brings the static table into the book, and ends what it has no
// more.
func (r *Recorder) openStatic() error { return r.setStatic(r.o.Config) }

// setStatic does so while recording goes on, too.
func (r *Recorder) setStatic(c *config.Config) error {
	rows, err := ReadStatic(c)
	if err != nil {
		return err
	}
	now := r.o.Now()
	if events := roster.Events(rows, r.book.Held(now.UnixNano()), now); len(events) > 0 {
		if err := r.book.Apply(context.Background(), events); err != nil {
			return fmt.Errorf("keep the static table: %w", err)
		}
	}
	r.static.Store(int64(len(rows)))
	return nil
}
