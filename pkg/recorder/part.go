package recorder

import (
	"context"
	"fmt"
)

// part is something that runs beside the recording.
type part struct {
	what string
	run  func(context.Context) error
}

// With has run be called beside the recording until its context ends, which is
// when the agent stops. What it cannot go on with is logged, and shown as the
// last error: it does not stop the recording. With must be called before Run.
func (r *Recorder) With(what string, run func(context.Context) error) {
	r.parts = append(r.parts, part{what, run})
}

// play runs a part to its end.
func (r *Recorder) play(ctx context.Context, p part) {
	if err := p.run(ctx); err != nil {
		err = fmt.Errorf("%s: %w", p.what, err)
		r.log.Error("a part of the agent has ended; recording goes on without it", "error", err)
		r.note(err)
	}
}

// Describe has more be called whenever a status is made, to add what only it
// knows. It may not wait for anything, and must be given before Run.
func (r *Recorder) Describe(more func(*Status)) { r.describers = append(r.describers, more) }
