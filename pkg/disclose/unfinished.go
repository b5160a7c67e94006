package disclose

import (
	"context"
	"fmt"
	"strconv"

	"github.com/edgelog/edgelog/pkg/ledger"
)

// unfinished finds the readings that an agent began and did not live to see the end
// of. What was sent for them nobody knows any more; that they had no outcome must
// stand in the ledger all the same.
type unfinished struct {
	ended map[string]bool // intents that have an outcome
	begun []ledger.Record // those that have none, the newest first
}

// learn takes entries in their order, the newest first. Intents from the number before
// on are of this agent, whose readings may still come to their end.
func (u *unfinished) learn(r *ledger.Record, before int64) {
	switch r.Kind {
	case ledger.Outcome:
		if u.ended == nil {
			u.ended = map[string]bool{}
		}
		u.ended[r.Fields[FieldIntent]] = true
	case ledger.Intent:
		if r.Index < before && !u.ended[strconv.FormatInt(r.Index, 10)] {
			u.begun = append(u.begun, *r)
		}
	}
}

// end gives each its outcome: that there was none.
func (u *unfinished) end(ctx context.Context, l Ledger) error {
	for i := len(u.begun) - 1; i >= 0; i-- {
		f := map[string]string{FieldIntent: strconv.FormatInt(u.begun[i].Index, 10), FieldResult: resultNone}
		for _, name := range []string{FieldAct, FieldAction, FieldRequest} {
			if word, ok := u.begun[i].Fields[name]; ok {
				f[name] = word
			}
		}
		if _, err := l.Append(ctx, ledger.Entry{Kind: ledger.Outcome, Fields: f}); err != nil {
			return fmt.Errorf("write to the ledger that reading %d had no outcome: %w", u.begun[i].Index, err)
		}
	}
	return nil
}
