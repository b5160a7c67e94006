package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/edgelog/edgelog/pkg/recorder"
)

// settleTime bounds the wait for counters that move on for a moment after
// traffic has ended.
const settleTime = time.Minute

// Balance asks the agent for its counters and checks that all add up, as
// recorder.Status.Balance does, and to the last one as soon as nothing moves.
// The agent must run.
func (g *Gateway) Balance(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	var s *recorder.Status
	for {
		now, err := g.fullStatus(ctx)
		if err == nil {
			s = now
			if err = s.Balance(); err != nil {
				return err // in motion or not, this must never be
			}
			if s.Settled() {
				return nil
			}
		}
		if ctx.Err() == nil {
			continue
		}
		if s == nil {
			return fmt.Errorf("check the balance: %w", errors.Join(err, ctx.Err()))
		}
		for i := range s.Sums {
			s.Sums[i].Moving = 0 // what stands still for so long is wrong
		}
		return s.Balance()
	}
}

// fullStatus is the status in the words of the agent itself.
func (g *Gateway) fullStatus(ctx context.Context) (*recorder.Status, error) {
	out, err := g.Run(ctx, "status", "--json")
	if err != nil {
		return nil, err
	}
	s := new(recorder.Status)
	if err := json.Unmarshal([]byte(out), s); err != nil {
		return nil, fmt.Errorf("read the status: %w", err)
	}
	return s, nil
}

// Running reports whether there is an agent to be asked.
func (g *Gateway) Running() bool {
	if g.agent == nil {
		return false
	}
	select {
	case <-g.agent.Done():
		return false
	default:
		return true
	}
}
