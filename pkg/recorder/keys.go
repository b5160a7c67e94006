package recorder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

// PathKeys is where the wrapped data keys are had (GET), and put back wrapped for
// others (POST).
const PathKeys = "/v1/keys"

// KeyList is what PathKeys answers, and what is sent back.
type KeyList struct {
	Recipients []string    `json:"recipients,omitempty"` // public keys that new data keys are wrapped for
	Minimum    int         `json:"minimum,omitempty"`    // of different ones
	Keys       []KeyOfADay `json:"keys"`
	Done       int         `json:"done,omitempty"` // further keys, which the ledger says are wrapped for these recipients
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
	LedgerEntry int64 `json:"ledger_entry"` // the last one that announced it
}

const maxKeyList = 64 << 20 // bytes

// keysHandler hands the wrapped keys out, or takes them back. Both are in the
// ledger before: who has wrapped keys and a custodian's private key can read.
func (r *Recorder) keysHandler(w http.ResponseWriter, req *http.Request) {
	who := WhoAsks(req.Context())
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
	keys, known, err := r.keysAndCustodians(ctx)
	if err != nil {
		return nil, err
	}
	c := r.Config().Custodians
	out := &KeyList{Recipients: c.Recipients, Minimum: c.Minimum, Keys: []KeyOfADay{}}
	present := custodiansHash(c.Recipients)
	for _, k := range keys {
		if f := factOf(&k); known.of(&f) == present {
			out.Done++
		} else {
			out.Keys = append(out.Keys, k)
		}
	}
	if _, err := r.noteKeys(ctx, "handed out to be wrapped anew", who, len(out.Keys), nil); err != nil {
		return nil, err
	}
	return out, nil
}

// keysAndCustodians returns all wrapped keys, and what the ledger says of whom they
// are wrapped for.
func (r *Recorder) keysAndCustodians(ctx context.Context) ([]KeyOfADay, *custodianship, error) {
	keys, err := r.wrappedKeys()
	if err != nil {
		return nil, nil, err
	}
	known, err := custodiansOf(ctx, r.ledger)
	return keys, known, err
}

// wrappedKeys returns the keys of all days, then those of holds.
func (r *Recorder) wrappedKeys() ([]KeyOfADay, error) {
	keys, err := r.store.WrappedKeys()
	if err != nil {
		return nil, err
	}
	out := []KeyOfADay{}
	for _, k := range keys {
		out = append(out, KeyOfADay{Day: int32(k.Day), Epoch: k.Epoch, Wrapped: k.Wrapped})
	}
	holds, _ := r.store.Holds()
	for i := range holds {
		key, err := r.store.HoldKey(holds[i].ID)
		if errors.Is(err, store.ErrMissing) || errors.Is(err, store.ErrNoKey) || errors.Is(err, store.ErrDamaged) {
			continue // released meanwhile, or without a key that can be read (edgelog verify tells of it): the others must not wait for it
		}
		if err != nil {
			return nil, err
		}
		out = append(out, KeyOfADay{Day: holds[i].KeyDay, Epoch: holds[i].ID, Hold: true, Wrapped: key})
	}
	return out, nil
}

// noteKeys puts into the ledger what is about to be done with keys, with the
// hashes of the old and the new wrapped forms when they are replaced.
func (r *Recorder) noteKeys(ctx context.Context, state, who string, n int, replaced []KeyOfADay) (int64, error) {
	payload, err := json.Marshal(struct {
		Peer string `json:"peer"`
	}{who})
	if err != nil {
		return 0, err
	}
	fields := map[string]string{"state": state, "keys": strconv.Itoa(n), "recipients": strconv.Itoa(r.custodians)}
	if replaced != nil {
		before, after := make([]string, n), make([]string, n)
		for i, k := range replaced {
			before[i], after[i] = k.Instead, factOf(&k).Hash
		}
		fields["before"], fields["after"] = strings.Join(before, " "), strings.Join(after, " ")
		fields["custodians"] = custodiansHash(r.Config().Custodians.Recipients)
	}
	index, err := r.evidence.Append(ctx, ledger.Entry{Kind: ledger.Keys, Fields: fields, Payload: payload})
	if err != nil {
		return 0, fmt.Errorf("the ledger cannot be written, so nothing is done with keys: %w", err)
	}
	return index, nil
}

// keysInEntry is how many keys one entry of the ledger names: two hashes of 65
// characters each must fit into its 64 KiB.
const keysInEntry = 200

// replaceKeys puts keys that were wrapped anew in the places of the old forms.
// Broken off, it can be done again: what was replaced stays so. What is in them
// only their custodian can tell.
func (r *Recorder) replaceKeys(ctx context.Context, in *KeyList, who string) (*Replaced, error) {
	for i, k := range in.Keys {
		if b, err := hex.DecodeString(k.Instead); err != nil || len(b) != sha256.Size {
			return nil, fmt.Errorf("key %d of day %s does not say what it replaces; nothing was replaced", i, session.Day(k.Day))
		}
		types, err := vault.Stanzas(k.Wrapped)
		if err == nil && len(types) != r.custodians {
			err = fmt.Errorf("it is wrapped for %d, and there are %d custodians", len(types), r.custodians)
		}
		if err != nil {
			return nil, fmt.Errorf("key %d of day %s: %w; nothing was replaced", i, session.Day(k.Day), err)
		}
	}
	out := &Replaced{}
	var err error
	for some := range slices.Chunk(in.Keys, keysInEntry) {
		if out.LedgerEntry, err = r.noteKeys(ctx, "about to be replaced", who, len(some), some); err != nil {
			break
		}
		if err = r.replace(some, out); err != nil {
			break
		}
	}
	r.evidence.note(ledger.Keys, map[string]string{"state": "replaced", "keys": strconv.Itoa(out.Keys), "announced": strconv.FormatInt(out.LedgerEntry, 10)})
	if err != nil {
		return nil, fmt.Errorf("%d of %d keys were replaced, then: %w; do it again", out.Keys, len(in.Keys), err)
	}
	return out, nil
}

func (r *Recorder) replace(keys []KeyOfADay, out *Replaced) error {
	for _, k := range keys {
		var old [sha256.Size]byte
		_, err := hex.Decode(old[:], []byte(k.Instead))
		switch {
		case err != nil:
		case k.Hold:
			err = r.store.ReplaceHoldKey(k.Epoch, k.Wrapped, old)
		default:
			err = r.store.ReplaceKey(store.WrappedKey{Day: session.Day(k.Day), Epoch: k.Epoch, Wrapped: k.Wrapped}, old)
		}
		switch {
		case errors.Is(err, store.ErrMissing): // its day's time was over meanwhile, or its hold was released
		case err != nil:
			return err
		default:
			out.Keys++
		}
	}
	return nil
}
