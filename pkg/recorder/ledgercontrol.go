package recorder

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/edgelog/edgelog/pkg/ledger"
)

const (
	// PathLedger is where the files of the ledger are read (GET), under the names of
	// C2SP tlog-tiles: checkpoint, tile/…; and public.key. They name nobody: what
	// does is sealed in them.
	PathLedger = "/v1/ledger/"
	// PathWitness is where it is said that a checkpoint was sent to somebody outside
	// (POST of a Sent).
	PathWitness = "/v1/ledger/witness"
)

// Sent says to what kind of witness a checkpoint was sent.
type Sent struct {
	To   string `json:"to"`   // file, mail, syslog or print
	Note string `json:"note"` // the checkpoint, as it was signed
}

// Witnessed is the answer to it.
type Witnessed struct {
	LedgerEntry int64 `json:"ledger_entry"`
}

// sentTo are the words that the ledger may hold of where a checkpoint was sent.
var sentTo = map[string]bool{"file": true, "mail": true, "syslog": true, "print": true}

// ledgerHandler serves the files, also of a ledger that cannot be trusted: an auditor
// is to see why.
func (r *Recorder) ledgerHandler(w http.ResponseWriter, req *http.Request) {
	name := req.PathValue("name")
	b, err := ledger.Dir(r.ledgerDir()).ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		http.Error(w, fmt.Sprintf("%q is not in the ledger", name), http.StatusNotFound)
		return
	case err != nil:
		r.log.Error("a file of the ledger could not be read", "file", name, "error", err)
		http.Error(w, fmt.Sprintf("%q could not be read: %v", name, cause(err)), http.StatusInternalServerError)
		return
	}
	kind := "application/octet-stream"
	if name == ledger.CheckpointName || name == ledger.PublicKeyName {
		kind = "text/plain; charset=utf-8"
	}
	w.Header().Set("Content-Type", kind)
	if _, err := w.Write(b); err != nil {
		r.log.Debug("a file of the ledger was not read to its end", "error", err)
	}
}

// witnessHandler puts into the ledger that one of its checkpoints was sent out, and
// sealed, by whom.
func (r *Recorder) witnessHandler(w http.ResponseWriter, req *http.Request) {
	peer, known := PeerOf(req.Context())
	if !known {
		http.Error(w, "it is not known who asks", http.StatusForbidden)
		return
	}
	var in Sent
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 1<<13)).Decode(&in); err != nil || !sentTo[in.To] {
		http.Error(w, "say where it was sent (file, mail, syslog or print), and the checkpoint, as JSON", http.StatusBadRequest)
		return
	}
	if err := r.ledger.Consistent([]byte(in.Note)); err != nil {
		http.Error(w, fmt.Sprintf("what was sent is no checkpoint of this ledger: %v", err), http.StatusConflict)
		return
	}
	c, err := ledger.ParseCheckpoint([]byte(in.Note), r.ledger.VerifierKey())
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	payload, err := json.Marshal(map[string]string{"peer": fmt.Sprintf("uid %d gid %d", peer.UID, peer.GID)})
	if err == nil {
		var index int64
		index, err = r.evidence.Append(req.Context(), ledger.Entry{Kind: ledger.Witnessed, Fields: witnessFields(in.To, c, "sent"), Payload: payload})
		if err == nil {
			r.reply(w, Witnessed{index})
			return
		}
	}
	r.log.Error("that a checkpoint was sent out is not in the ledger", "error", err)
	http.Error(w, fmt.Sprintf("the ledger cannot be written: %v", err), http.StatusServiceUnavailable)
}
