package recorder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// PathKeyFacts is where it is asked what can be said of the wrapped keys without
// having them (GET).
const PathKeyFacts = "/v1/keys/facts"

// KeyFacts is what can be said of all wrapped keys. It opens nothing and names
// nobody.
type KeyFacts struct {
	Recipients []string  `json:"recipients"` // of the configuration in force
	Minimum    int       `json:"minimum"`
	Keys       []KeyFact `json:"keys"`
}

// KeyFact is what can be said of one.
type KeyFact struct {
	Day   string   `json:"day"`
	Epoch uint64   `json:"epoch"` // of a hold: its number
	Hold  bool     `json:"hold,omitempty"`
	Hash  string   `json:"sha256"`          // of the wrapped key
	Types []string `json:"recipient_types"` // one for each recipient; which ones they are does not stand in it
	For   string   `json:"for"`             // ForPresent, ForOthers or ForUnknown, by what the ledger says
}

// For whom a key is wrapped.
const (
	ForPresent = "present" // the custodians of the configuration in force
	ForOthers  = "others"
	ForUnknown = "unknown"
)

func (r *Recorder) keyFactsHandler(w http.ResponseWriter, req *http.Request) {
	out, err := r.keyFacts(req.Context())
	if err != nil {
		r.log.Error("wrapped keys could not be listed", "error", err)
		http.Error(w, fmt.Sprintf("wrapped keys could not be listed: %v", cause(err)), http.StatusInternalServerError)
		return
	}
	r.reply(w, out)
}

func (r *Recorder) keyFacts(ctx context.Context) (*KeyFacts, error) {
	keys, known, err := r.keysAndCustodians(ctx)
	if err != nil {
		return nil, err
	}
	c := r.Config().Custodians
	present := custodiansHash(c.Recipients)
	out := &KeyFacts{Recipients: c.Recipients, Minimum: c.Minimum, Keys: []KeyFact{}}
	for _, k := range keys {
		f := factOf(&k)
		if f.Types, err = vault.Stanzas(k.Wrapped); err != nil {
			f.Types = []string{"damaged"}
		}
		switch known.of(&f) {
		case present:
			f.For = ForPresent
		case "":
			f.For = ForUnknown
		}
		out.Keys = append(out.Keys, f)
	}
	return out, nil
}

func factOf(k *KeyOfADay) KeyFact {
	sum := sha256.Sum256(k.Wrapped)
	return KeyFact{Day: session.Day(k.Day).String(), Epoch: k.Epoch, Hold: k.Hold, Hash: hex.EncodeToString(sum[:]), For: ForOthers}
}

// custodiansHash names a set of recipients in the ledger.
func custodiansHash(recipients []string) string {
	list := slices.Clone(recipients)
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	slices.Sort(list)
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(list), "\n")))
	return hex.EncodeToString(sum[:])
}

// custodianship is what the ledger says of whom keys were wrapped for.
type custodianship struct {
	starts  []startOf         // of the agent, in order
	rotated map[string]string // by hash of the wrapped key
	holds   map[uint64]string
}

type startOf struct {
	epoch      uint64 // of the first key that it may have made
	custodians string
}

func custodiansOf(ctx context.Context, l wholeLedger) (*custodianship, error) {
	c := &custodianship{rotated: map[string]string{}, holds: map[uint64]string{}}
	const some = 4096
	size := l.Size()
	for at := int64(0); at < size; at += some {
		list, err := l.Entries(ctx, at, min(at+some, size))
		if err != nil {
			return nil, err
		}
		for i := range list {
			c.take(&list[i])
		}
	}
	return c, nil
}

func (c *custodianship) take(e *ledger.Record) {
	f := e.Fields
	switch e.Kind {
	case ledger.Start:
		epoch, _ := strconv.ParseUint(f["epoch"], 10, 64) // 0: it does not say
		c.starts = append(c.starts, startOf{epoch, f["custodians"]})
	case ledger.Held:
		if id, err := strconv.ParseUint(f["hold"], 10, 64); err == nil && len(c.starts) > 0 {
			c.holds[id] = c.starts[len(c.starts)-1].custodians
		}
	case ledger.Keys:
		for _, hash := range strings.Fields(f["after"]) {
			c.rotated[hash] = f["custodians"]
		}
	}
}

// of returns the hash of the custodians whom a key was wrapped for, "" when it is
// not known. Epochs grow from start to start.
func (c *custodianship) of(k *KeyFact) (custodians string) {
	if who, ok := c.rotated[k.Hash]; ok {
		return who
	}
	if k.Hold {
		return c.holds[k.Epoch]
	}
	for _, s := range c.starts {
		if s.epoch > 0 && s.epoch <= k.Epoch {
			custodians = s.custodians
		}
	}
	return custodians
}
