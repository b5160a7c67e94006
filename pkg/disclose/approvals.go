package disclose

import (
	"encoding/json"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
)

// Approvals is what a ledger entry about a request says of its approvals. It names
// nobody.
type Approvals struct {
	Have int // different custodians

	// Needed are those that the request needs in the end: in an emergency two, of whom
	// the first is enough to read.
	Needed    int
	Emergency bool
	Ratify    time.Time // when the second one of an emergency must have come
}

// Due reports whether it was read before all approved who must.
func (a *Approvals) Due() bool { return a.Have < a.Needed }

// ApprovalsIn reads an entry about a request; nil when it does not say.
func ApprovalsIn(r *ledger.Record) *Approvals {
	var c Case
	if r.Kind != ledger.Request || json.Unmarshal([]byte(r.Fields["record"]), &c) != nil {
		return nil
	}
	a := &Approvals{Have: len(c.Approvals), Needed: c.Needed, Emergency: c.Emergency, Ratify: c.Ratify}
	if a.Emergency {
		a.Needed = max(a.Needed, 2)
	}
	return a
}
