package recorder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
)

// PathKeys is where the wrapped data keys are had (GET), and put back wrapped for
// others (POST).
const PathKeys = "/v1/keys"

// KeyList is what PathKeys answers, and what is sent back.
type KeyList struct {
	Recipients []string    `json:"recipients,omitempty"` // public keys that new data keys are wrapped for
	Minimum    int         `json:"minimum,omitempty"`    // of different ones
	Keys       []KeyOfADay `json:"keys"`
}

// KeyOfADay is a wrapped data key, or that of a hold.
type KeyOfADay struct {
	Day     int32  `json:"day"`            // since 1970-01-01
	Epoch   uint64 `json:"epoch"`          // of a hold: its number
	Hold    bool   `json:"hold,omitempty"` // it is that of a hold
	Wrapped []byte `json:"wrapped"`
	Instead string `json:"instead,omitempty"` // SHA-256, hexadecimal, of the form that this one replaces
}

// Replaced says what became of keys that were sent back.
type Replaced struct {
	Keys        int   `json:"keys"`
	LedgerEntry int64 `json:"ledger_entry"`
}

const maxKeyList = 64 << 20 // bytes

// keysHandler hands the wrapped keys out, or takes them back. Both are in the
// ledger before: who has wrapped keys and a custodian's private key can read.
func (r *Recorder) keysHandler(w http.ResponseWriter, req *http.Request) {
	peer, ok := PeerOf(req.Context())
	if !ok {
		http.Error(w, "it is not known who asks, so no keys are handed out", http.StatusForbidden)
		return
	}
	who := fmt.Sprintf("uid %d gid %d", peer.UID, peer.GID)
	var out any
	var err error
	if req.Method == http.MethodPost {
		var in KeyList
		d := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxKeyList))
		if err = d.Decode(&in); err == nil {
			out, err = r.replaceKeys(req.Context(), &in, who)
		}
	} else {
		out, err = r.listKeys(req.Context(), who)
	}
	if err != nil {
		r.log.Error("wrapped keys were not handed out or taken back", "peer", who, "error", err)
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(out); err != nil {
		r.log.Debug("wrapped keys were not read to their end", "error", err)
	}
}

func (r *Recorder) listKeys(ctx context.Context, who string) (*KeyList, error) {
	keys, err := r.store.WrappedKeys()
	if err != nil {
		return nil, err
	}
	c := r.Config().Custodians
	out := &KeyList{Recipients: c.Recipients, Minimum: c.Minimum, Keys: []KeyOfADay{}}
	for _, k := range keys {
		out.Keys = append(out.Keys, KeyOfADay{Day: int32(k.Day), Epoch: k.Epoch, Wrapped: k.Wrapped})
	}
	holds, _ := r.store.Holds()
	for i := range holds {
		key, err := r.store.HoldKey(holds[i].ID)
		if errors.Is(err, store.ErrMissing) {
			continue // it was released meanwhile
		}
		if err != nil {
			return nil, err
		}
		out.Keys = append(out.Keys, KeyOfADay{Day: holds[i].KeyDay, Epoch: holds[i].ID, Hold: true, Wrapped: key})
	}
	if _, err := r.noteKeys(ctx, "handed out to be wrapped anew", who, len(out.Keys), nil); err != nil {
		return nil, err
	}
	return out, nil
}

// noteKeys puts into the ledger what is about to be done with keys.
func (r *Recorder) noteKeys(ctx context.Context, state, who string, n int, hash []byte) (int64, error) {
	payload, err := json.Marshal(struct {
		Peer string `json:"peer"`
	}{who})
	if err != nil {
		return 0, err
	}
	fields := map[string]string{"state": state, "keys": strconv.Itoa(n), "recipients": strconv.Itoa(r.custodians)}
	if hash != nil {
		fields["hash"] = hex.EncodeToString(hash)
	}
	index, err := r.evidence.Append(ctx, ledger.Entry{Kind: ledger.Keys, Fields: fields, Payload: payload})
	if err != nil {
		return 0, fmt.Errorf("the ledger cannot be written, so nothing is done with keys: %w", err)
	}
	return index, nil
}

// replaceKeys puts keys that were wrapped anew in the places of the old forms.
// Broken off, it can be done again: what was replaced stays so.
func (r *Recorder) replaceKeys(ctx context.Context, in *KeyList, who string) (*Replaced, error) {
	olds := make([][32]byte, len(in.Keys))
	all := sha256.New()
	for i, k := range in.Keys {
		b, err := hex.DecodeString(k.Instead)
		if err != nil || len(b) != 32 {
			return nil, fmt.Errorf("key %d of day %s does not say what it replaces", i, session.Day(k.Day))
		}
		olds[i] = [32]byte(b)
		sum := sha256.Sum256(k.Wrapped)
		fmt.Fprintf(all, "%d %d %s %x\n", k.Day, k.Epoch, k.Instead, sum) // never fails
	}
	index, err := r.noteKeys(ctx, "about to be replaced", who, len(in.Keys), all.Sum(nil))
	if err != nil {
		return nil, err
	}
	done := 0
	for i, k := range in.Keys {
		if k.Hold {
			err = r.store.ReplaceHoldKey(k.Epoch, k.Wrapped, olds[i])
		} else {
			err = r.store.ReplaceKey(store.WrappedKey{Day: session.Day(k.Day), Epoch: k.Epoch, Wrapped: k.Wrapped}, olds[i])
		}
		if errors.Is(err, store.ErrMissing) {
			err = nil // its day's time was over meanwhile, or its hold was released
			continue
		}
		if err != nil {
			break
		}
		done++
	}
	r.evidence.note(ledger.Keys, map[string]string{"state": "replaced", "keys": strconv.Itoa(done), "announced": strconv.FormatInt(index, 10)})
	if err != nil {
		return nil, fmt.Errorf("%d of %d keys were replaced, then: %w; do it again", done, len(in.Keys), err)
	}
	return &Replaced{Keys: done, LedgerEntry: index}, nil
}
