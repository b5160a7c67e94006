package recorder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

// rewrapped wraps keys for another custodian, as edgelog keys rotate does, and
// returns his private key.
func (r *room) rewrapped(list *KeyList) (back *KeyList, ids *vault.Identities) {
	r.t.Helper()
	pair, err := vault.GenerateIdentity()
	if err != nil {
		r.t.Fatal(err)
	}
	if ids, err = vault.ParseIdentities(bytes.NewReader(pair.File())); err != nil {
		r.t.Fatal(err)
	}
	to, err := vault.ParseRecipients([]string{pair.Recipient})
	if err != nil {
		r.t.Fatal(err)
	}
	back = &KeyList{}
	for _, k := range list.Keys {
		day, epoch, wrapped, err := vault.Rewrap(k.Wrapped, r.ids, to)
		if err != nil || day != k.Day || epoch != k.Epoch {
			r.t.Fatalf("%d %d %v", day, epoch, err)
		}
		sum := sha256.Sum256(k.Wrapped)
		k.Wrapped, k.Instead = wrapped, hex.EncodeToString(sum[:])
		back.Keys = append(back.Keys, k)
	}
	return back, ids
}

func TestAfterARotationOnlyTheNewKeyOpensAndAnOldCopyOnlyTheOldOne(t *testing.T) {
	r := newRoom(t, "")
	r.keep(5)
	r.clock.add(oneDay)
	r.keep(3)
	ctx := context.Background()
	list, err := r.listKeys(ctx, "uid 0 gid 0")
	if err != nil || len(list.Keys) != 2 {
		t.Fatalf("%+v %v", list, err)
	}
	copied := list.Keys // of before
	back, newIDs := r.rewrapped(list)
	if done, err := r.replaceKeys(ctx, back, "uid 0 gid 0"); err != nil || done.Keys != 2 {
		t.Fatalf("%+v %v", done, err)
	}
	if _, err := r.replaceKeys(ctx, back, "uid 0 gid 0"); !errors.Is(err, store.ErrKeyChanged) {
		t.Errorf("the same again: %v", err)
	}
	after, err := r.store.WrappedKeys()
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range after {
		if _, err := vault.OpenKey(k.Wrapped, newIDs); err != nil {
			t.Errorf("the new key: %v", err)
		}
		if _, err := vault.OpenKey(k.Wrapped, r.ids); !errors.Is(err, vault.ErrWrongIdentity) {
			t.Errorf("the old key: %v", err)
		}
		if _, err := vault.OpenKey(copied[i].Wrapped, newIDs); !errors.Is(err, vault.ErrWrongIdentity) {
			t.Errorf("the new key and an old copy: %v", err)
		}
		if _, err := vault.OpenKey(copied[i].Wrapped, r.ids); err != nil { // what an old copy still allows
			t.Errorf("the old key and an old copy: %v", err)
		}
	}
	for _, k := range copied {
		nowhere(t, r.dir, string(k.Wrapped))
	}
	r.ids = newIDs
	if sessions, _, _ := r.read(); len(sessions) != 8 {
		t.Errorf("%d sessions open with the new key", len(sessions))
	}
	var states []string
	for _, e := range r.entries() {
		if e.Kind == ledger.Keys {
			states = append(states, e.Fields["state"])
		}
	}
	if got := strings.Join(states, ", "); got != "handed out to be wrapped anew, about to be replaced, replaced, about to be replaced, replaced" {
		t.Errorf("ledger: %s", got)
	}
}

func TestKeysThatAreNoneReplaceNothing(t *testing.T) {
	r := newRoom(t, "")
	r.keep(2)
	keys, err := r.store.WrappedKeys()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(keys[0].Wrapped)
	good := KeyOfADay{Day: int32(keys[0].Day), Epoch: keys[0].Epoch, Wrapped: keys[0].Wrapped, Instead: hex.EncodeToString(sum[:])}
	for what, change := range map[string]func(*KeyOfADay){
		"no age file":         func(k *KeyOfADay) { k.Wrapped = []byte("noise") },
		"of another key":      func(k *KeyOfADay) { k.Instead = strings.Repeat("00", 32) },
		"no hash":             func(k *KeyOfADay) { k.Instead = "" },
		"a hash cut in a bit": func(k *KeyOfADay) { k.Instead = k.Instead[1:] },
	} {
		k := good
		change(&k)
		if _, err := r.replaceKeys(context.Background(), &KeyList{Keys: []KeyOfADay{k}}, "x"); err == nil {
			t.Errorf("%s: taken", what)
		}
		files, err := filepath.Glob(filepath.Join(r.dir, "data", "store", "keys", "*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%s: %v %v", what, files, err)
		}
		if have, err := os.ReadFile(files[0]); err != nil || !bytes.Equal(have, keys[0].Wrapped) {
			t.Errorf("%s: the key was changed, %v", what, err)
		}
	}
	// One whose day was destroyed meanwhile is passed over.
	gone := good
	gone.Day--
	if done, err := r.replaceKeys(context.Background(), &KeyList{Keys: []KeyOfADay{gone, good}}, "x"); err != nil || done.Keys != 1 {
		t.Errorf("%+v %v", done, err)
	}
	r.evidence.ledger = deafLedger{r.ledger}
	if _, err := r.listKeys(context.Background(), "x"); !errors.Is(err, ledger.ErrNotWritten) {
		t.Errorf("without a ledger: %v", err)
	}
}
