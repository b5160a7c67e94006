package recorder

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/vault"
)

// handOver restarts the agent with n new custodians and returns the first one's
// private key.
func (r *room) handOver(n int) (ids *vault.Identities) {
	r.t.Helper()
	r.shut()
	var list []string
	for i := range n {
		pair, err := vault.GenerateIdentity()
		if err != nil {
			r.t.Fatal(err)
		}
		list = append(list, strconv.Quote(pair.Recipient))
		if i > 0 {
			continue
		}
		if ids, err = vault.ParseIdentities(bytes.NewReader(pair.File())); err != nil {
			r.t.Fatal(err)
		}
	}
	was := strconv.Quote(r.config(r.text).Custodians.Recipients[0])
	r.text = strings.Replace(r.text, was, strings.Join(list, ", "), 1)
	r.open()
	r.noteStart() // as Run does
	return ids
}

// wrapAgain is a custodian's part of a rotation.
func (r *room) wrapAgain(list *KeyList, ids *vault.Identities, recipients []string) *KeyList {
	r.t.Helper()
	to, err := vault.ParseRecipients(recipients)
	if err != nil {
		r.t.Fatal(err)
	}
	out := &KeyList{}
	for _, k := range list.Keys {
		_, _, wrapped, err := vault.Rewrap(k.Wrapped, ids, to)
		if err != nil {
			r.t.Fatal(err)
		}
		k.Instead, k.Wrapped = factOf(&k).Hash, wrapped
		out.Keys = append(out.Keys, k)
	}
	return out
}

// forWhom counts the keys by whom the ledger says that they are wrapped for.
func (r *room) forWhom() map[string]int {
	r.t.Helper()
	facts, err := r.keyFacts(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	n := map[string]int{}
	for _, f := range facts.Keys {
		n[f.For+" "+strings.Join(f.Types, "+")]++
	}
	return n
}

func TestARotationThatWasBrokenOffIsGoneOnWith(t *testing.T) {
	r := newRoom(t, "")
	r.noteStart()
	for range 3 {
		r.keep(2)
		r.clock.add(oneDay)
	}
	if err := r.hold(9, "gw1", seen(2, r.clock.Now())); err != nil {
		t.Fatal(err)
	}
	leaves := r.ids
	comes := r.handOver(2)
	r.keep(1) // under a key that is for who comes
	if n := r.forWhom(); n["others X25519"] != 4 || n["present X25519+X25519"] != 1 {
		t.Errorf("before: %v", n)
	}
	list, err := r.listKeys(t.Context(), "x")
	if err != nil || len(list.Keys) != 4 || list.Done != 1 {
		t.Fatalf("%+v %v", list, err)
	}
	back := r.wrapAgain(list, leaves, list.Recipients)
	few := r.wrapAgain(list, leaves, list.Recipients[:1])
	if _, err := r.replaceKeys(t.Context(), few, "x"); err == nil || !strings.Contains(err.Error(), "nothing was replaced") {
		t.Errorf("wrapped for one of two custodians: %v", err)
	}
	if done, err := r.replaceKeys(t.Context(), &KeyList{Keys: back.Keys[:2]}, "x"); err != nil || done.Keys != 2 { // killed after that
		t.Fatalf("%+v %v", done, err)
	}
	r.shut()
	r.open()
	r.noteStart()
	if list, err = r.listKeys(t.Context(), "x"); err != nil || len(list.Keys) != 2 || list.Done != 3 {
		t.Fatalf("gone on with: %+v %v", list, err)
	}
	if done, err := r.replaceKeys(t.Context(), r.wrapAgain(list, leaves, list.Recipients), "x"); err != nil || done.Keys != 2 {
		t.Fatalf("%+v %v", done, err)
	}
	if n := r.forWhom(); n["present X25519+X25519"] != 5 || len(n) != 1 {
		t.Errorf("after: %v", n)
	}
	keys, err := r.wrappedKeys()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if _, err := vault.OpenKey(k.Wrapped, comes); err != nil {
			t.Errorf("who comes: %v", err)
		}
	}
	r.hashesInLedger(back, keys)
	r.ids = comes
	if sessions, _, _ := r.read(); len(sessions) != 3*2+1+2 { // the hold's too
		t.Errorf("who comes reads %d sessions", len(sessions))
	}
}

// hashesInLedger fails the test unless the ledger has the hash of each old and of
// each new form of the keys that were replaced.
func (r *room) hashesInLedger(back *KeyList, now []KeyOfADay) {
	r.t.Helper()
	text := ""
	for _, e := range r.entries() {
		if e.Kind == ledger.Keys {
			text += e.Fields["before"] + " " + e.Fields["after"] + " "
		}
	}
	for _, k := range back.Keys {
		if !strings.Contains(text, k.Instead) {
			r.t.Errorf("the old key of day %d is not in the ledger", k.Day)
		}
	}
	found := 0
	for _, k := range now {
		if sum := sha256.Sum256(k.Wrapped); strings.Contains(text, hex.EncodeToString(sum[:])) {
			found++
		}
	}
	if found != len(back.Keys) {
		r.t.Errorf("%d new keys are in the ledger, of %d", found, len(back.Keys))
	}
}
