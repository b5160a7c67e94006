package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
	"github.com/edgelog/edgelog/tests/gateway"
)

// pastDay puts a session of a day into the store of a gateway that is stopped, as
// its agent would have then.
func pastDay(t *testing.T, g *gateway.Gateway, day session.Day) {
	t.Helper()
	pastSession(t, g, day.Start().Add(12*time.Hour), netip.MustParseAddr("10.0.0.7"), "")
}

// pastSession is pastDay of a session of its own; with a subscriber, his log-on and
// log-off too, an hour before and after.
func pastSession(t *testing.T, g *gateway.Gateway, at time.Time, user netip.Addr, subscriber string) {
	t.Helper()
	c, err := config.Load(g.Config)
	if err != nil {
		t.Fatal(err)
	}
	head := block.Header{Gateway: c.Gateway, Provider: c.Provider, Profile: c.Profile, Clock: block.Clock{Synchronised: true}}
	plain, err := block.EncodeSessions(nil, head, []session.Session{{
		Start: at.UnixNano(), End: at.UnixNano(), Proto: session.TCP, Initiator: session.AddrFrom(user), InitiatorPort: 4711, Local: session.SideInitiator,
		Responder: session.AddrFrom(netip.MustParseAddr("192.0.2.7")), ResponderPort: 443, EndReason: session.EndFIN, Subscriber: subscriber,
	}})
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[store.Kind][]byte{store.KindSessions: plain}
	if subscriber != "" {
		blocks[store.KindBindings], err = block.EncodeBindings(nil, head, []session.Binding{{
			Prefix: netip.PrefixFrom(user, user.BitLen()), LastPort: math.MaxUint16, From: at.Add(-time.Hour).UnixNano(), To: at.Add(time.Hour).UnixNano(),
			Subscriber: subscriber, Source: session.SourceRADIUS, SourceName: "bng", SourceKey: "bng/" + subscriber,
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	sealPast(t, g, c, at, blocks)
}

func sealPast(t *testing.T, g *gateway.Gateway, c *config.Config, at time.Time, blocks map[store.Kind][]byte) {
	t.Helper()
	st, err := store.Open(filepath.Join(g.DataDir(), "store"), store.Options{MinFree: 1 << 20, Ballast: -1, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close() //nolint:errcheck // said below
	v, err := vault.New(c.Custodians.Recipients, vault.Options{Keys: st})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close() //nolint:errcheck // never fails
	epoch, day := st.NewEpoch(), session.DayOf(at.UnixNano())
	for kind, plain := range blocks {
		frames, err := block.Frames(nil, plain)
		if err != nil {
			t.Fatal(err)
		}
		b, err := v.Seal(nil, vault.Place{Gateway: c.Gateway, Kind: uint8(kind), Day: int32(day), Epoch: epoch, Seq: st.NextSeq(kind, day, epoch),
			From: at.Add(-time.Hour).UnixMilli(), To: at.Add(time.Hour).UnixMilli(), Count: 1}, frames...)
		if err == nil {
			err = st.Put(b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestADayWhoseTimeIsOverIsDestroyedAndACertificateSaysSo(t *testing.T) {
	g := start(t, gateway.Options{Edit: quickEnds()})
	ctx := limited(t)
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	day := session.DayOf(time.Now().UnixNano()) - 10
	pastDay(t, g, day)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	conf := []string{"--config", g.Config}
	with := func(args ...string) []string { return append(args, conf...) }
	says(t, g, true, day.String(), "expire", with("--dry-run")...)
	says(t, g, true, "0 due; nothing was destroyed now", "expire", with("--dry-run")...)
	says(t, g, true, day.String(), "keys", with("list")...)
	says(t, g, false, "give one of", "expire", with("--dry-run", "--certificates")...)
	if err := g.Reconfigure(map[string]string{"retention_days =": "retention_days = 3"}); err != nil {
		t.Fatal(err)
	}
	until(ctx, t, g, "the new time of retention is in force", func(s *recorder.Status) bool { return s.Store.Expiry.RetentionDays == 3 })
	says(t, g, true, "destroyed last: "+day.String(), "expire", conf...)
	says(t, g, true, day.String(), "expire", with("--certificates")...)
	if out, err := g.Run(ctx, "keys", "list"); err != nil || strings.Contains(out, day.String()) {
		t.Errorf("its key is listed: %v\n%s", err, out)
	}
	note := filepath.Join(g.DataDir(), "destroyed", day.String()+".note")
	says(t, g, true, "good: "+day.String(), "expire", with("--verify", note)...)
	out, err := g.Run(ctx, "expire", "--dry-run", "--json")
	var e recorder.Expiry
	if err != nil || json.Unmarshal([]byte(out), &e) != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	says(t, g, true, "1 records", "expire", "--verify", note, "--public-key", e.PublicKey)
	b, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	forged := filepath.Join(g.Dir, "forged.note")
	if err := os.WriteFile(forged, bytes.Replace(b, []byte(`"records": 1`), []byte(`"records": 0`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, g, false, "certificate", "expire", "--verify", forged, "--public-key", e.PublicKey)
	says(t, g, true, "kept", "status", conf...)
	says(t, g, true, "all is well", "verify", conf...)
}

// newCustodian restarts the agent with one other custodian, and returns the file
// of his key.
func newCustodian(t *testing.T, g *gateway.Gateway) (key string) {
	t.Helper()
	ctx := limited(t)
	c, err := config.Load(g.Config)
	if err != nil || len(c.Custodians.Recipients) != 1 {
		t.Fatalf("%v, %v", c, err)
	}
	pair, err := vault.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	key = filepath.Join(g.Dir, "new.key")
	if err := errors.Join(os.WriteFile(key, pair.File(), 0o600), os.Chown(key, int(g.Office.Custodian.UID), 0)); err != nil {
		t.Fatal(err)
	}
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(g.Config)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte(strconv.Quote(c.Custodians.Recipients[0])), []byte(strconv.Quote(pair.Recipient)))
	if err := os.WriteFile(g.Config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return key
}

func TestACustodianWhoLeavesHandsOver(t *testing.T) {
	g := start(t, gateway.Options{Edit: quickEnds()})
	ctx := limited(t)
	caseOf(t, g, 2)
	_, before, err := g.Sessions(ctx, "--subscriber", "anna")
	if err != nil || len(before) != 2 {
		t.Fatalf("%d sessions, %v", len(before), err)
	}
	oldKey, newKey := g.Identity, newCustodian(t, g)
	conf := []string{"--config", g.Config}
	with := func(args ...string) []string { return append(args, conf...) }
	says(t, g, true, "others", "keys", with("list")...)
	g.Identity = newKey
	if _, list, err := g.Sessions(ctx, "--subscriber", "anna"); err == nil && len(list) > 0 {
		t.Errorf("who comes reads %d sessions before anybody handed over", len(list))
	}
	says(t, g, false, "not sealed for any of these keys", "keys", with("rotate", "--identity", newKey)...)
	says(t, g, true, "wrapped for 1 custodians now", "keys", with("rotate", "--identity", oldKey)...)
	says(t, g, true, "0 of them not known", "keys", with("list")...)
	_, after, err := g.Sessions(ctx, "--subscriber", "anna")
	if err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("who comes reads %v, %v, instead of %v", after, err, before)
	}
	g.Identity = oldKey
	if _, list, err := g.Sessions(ctx, "--subscriber", "anna"); err == nil {
		t.Errorf("who left reads %d sessions", len(list))
	}
}
