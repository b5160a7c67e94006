package recorder

import (
	"encoding/json"
	"errors"
	"net/http"
	"sync"

	"github.com/edgelog/edgelog/pkg/identity/radius"
	"github.com/edgelog/edgelog/pkg/ledger"
)

// PathImport takes a detail file of FreeRADIUS as the body of a POST, and
// answers with ImportAnswer when what it holds is durable.
const PathImport = "/v1/accounting/import"

// ImportAnswer says what became of a file.
type ImportAnswer struct {
	radius.Imported
	Error string `json:"error,omitempty"` // why it was not taken to its end

	// Foreign says that the file is another program's: nothing of it was taken.
	Foreign bool `json:"foreign,omitempty"`
}

// importing lets one file in at a time: each may be of any length.
type importing struct{ mu sync.Mutex }

// importHandler answers PathImport. It reads nothing, and the ledger says who
// imported.
func (r *Recorder) importHandler(w http.ResponseWriter, req *http.Request) {
	if !r.importing.mu.TryLock() {
		http.Error(w, "another file is being imported; wait for it", http.StatusConflict)
		return
	}
	defer r.importing.mu.Unlock()
	done, err := r.radius.server.Import(req.Context(), req.Body)
	a := ImportAnswer{Imported: done, Foreign: errors.Is(err, radius.ErrNotDetail)}
	result := "done"
	if err != nil {
		a.Error, result = err.Error(), "not to its end"
	}
	fields := map[string]string{
		"of": "accounting", "result": result, "entries": itoa(done.Entries), "taken": itoa(done.Taken),
		"ignored": itoa(done.Ignored), "broken": itoa(done.Broken),
	}
	if p, ok := PeerOf(req.Context()); ok {
		fields["uid"] = itoa(uint64(p.UID))
	}
	r.evidence.note(ledger.Import, fields)
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(a); err != nil {
		r.log.Debug("the answer to an import was not read to its end", "error", err)
	}
}
