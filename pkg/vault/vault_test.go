package vault

import (
	"bytes"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// memory is a KeySaver that also counts, and fails when told to.
type memory struct {
	mu   sync.Mutex
	keys map[name][]byte
	fail error
}

func (m *memory) SaveKey(day int32, epoch uint64, wrapped []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	if m.keys == nil {
		m.keys = map[name][]byte{}
	}
	if m.keys[name{day, epoch}] != nil {
		return errors.New("already there")
	}
	m.keys[name{day, epoch}] = bytes.Clone(wrapped)
	return nil
}

func pair(t testing.TB) (KeyPair, *Identities) {
	t.Helper()
	k, err := GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := ParseIdentities(bytes.NewReader(k.File()))
	if err != nil {
		t.Fatal(err)
	}
	return k, ids
}

func newVault(t testing.TB, m *memory, recipients ...string) *Vault {
	t.Helper()
	v, err := New(recipients, Options{Keys: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

func seal(t testing.TB, v *Vault, p Place, plain string) []byte {
	t.Helper()
	b, err := v.Seal(nil, p, []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func aPlace() Place {
	return Place{Gateway: "gw-1", Kind: 1, Day: 20778, Epoch: 1763720000123, Seq: 7, From: -5, To: 1795219200999, Count: 42}
}

func TestWhatIsSealedIsOpenedByEachCustodianAndByNobodyElse(t *testing.T) {
	a, aIDs := pair(t)
	b, bIDs := pair(t)
	_, stranger := pair(t)
	m := &memory{}
	v := newVault(t, m, a.Recipient, b.Recipient)
	p := aPlace()
	prefix := []byte("kept")
	sealed, err := v.Seal(bytes.Clone(prefix), p, []byte("who spoke to whom"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(sealed, prefix) {
		t.Fatal("Seal did not append")
	}
	sealed = sealed[len(prefix):]
	if got, err := ParsePlace(sealed); err != nil || got != p {
		t.Fatalf("ParsePlace = %+v, %v", got, err)
	}
	wrapped := m.keys[name{p.Day, p.Epoch}]
	if !IsSealedKey(wrapped) {
		t.Error("the wrapped key does not look like one")
	}
	for who, ids := range map[string]*Identities{"a": aIDs, "b": bIDs} {
		k, err := OpenKey(wrapped, ids)
		if err != nil {
			t.Fatalf("custodian %s: %v", who, err)
		}
		got, plain, err := k.Open([]byte("x"), sealed)
		if err != nil || got != p || string(plain) != "xwho spoke to whom" {
			t.Errorf("custodian %s: %+v %q %v", who, got, plain, err)
		}
		if k.Day() != p.Day || k.Epoch() != p.Epoch {
			t.Errorf("key says day %d epoch %d", k.Day(), k.Epoch())
		}
	}
	if _, err := OpenKey(wrapped, stranger); !errors.Is(err, ErrWrongIdentity) {
		t.Errorf("stranger: %v", err)
	}
}

func TestEveryBitOfASealedBlockCounts(t *testing.T) {
	kp, ids := pair(t)
	m := &memory{}
	v := newVault(t, m, kp.Recipient)
	p := aPlace()
	sealed := seal(t, v, p, "some sessions of one minute")
	k, err := OpenKey(m.keys[name{p.Day, p.Epoch}], ids)
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		for bit := range 8 {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1 << bit
			if _, plain, err := k.Open(nil, bad); err == nil || len(plain) != 0 {
				t.Fatalf("bit %d of byte %d flipped: opened", bit, i)
			}
		}
	}
	for n := range sealed {
		if _, _, err := k.Open(nil, sealed[:n]); !errors.Is(err, ErrTruncated) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	if _, _, err := k.Open(nil, append(bytes.Clone(sealed), 0)); !errors.Is(err, ErrDamaged) {
		t.Fatalf("one byte more: %v", err)
	}
	bad := bytes.Clone(sealed)
	bad[len(bad)-1] ^= 1
	if _, _, err := k.Open(nil, bad); !errors.Is(err, ErrDamaged) {
		t.Fatalf("tag altered: %v", err)
	}
	bad = bytes.Clone(sealed)
	bad[4] = version + 1
	if _, _, err := k.Open(nil, bad); !errors.Is(err, ErrNewer) {
		t.Fatalf("newer version: %v", err)
	}
	bad[4] = version - 1
	if _, _, err := k.Open(nil, bad); !errors.Is(err, ErrOlder) {
		t.Fatalf("older version: %v", err)
	}
	if _, plain, err := k.Open(nil, sealed); err != nil || string(plain) != "some sessions of one minute" {
		t.Fatalf("the unharmed block: %v", err)
	}
}

func TestABlockInAnotherBlocksPlaceDoesNotOpen(t *testing.T) {
	kp, ids := pair(t)
	m := &memory{}
	v := newVault(t, m, kp.Recipient)
	base := aPlace()
	one := seal(t, v, base, "first ")
	k, err := OpenKey(m.keys[name{base.Day, base.Epoch}], ids)
	if err != nil {
		t.Fatal(err)
	}
	changes := map[string]func(*Place){
		"gateway": func(p *Place) { p.Gateway = "gw-2" },
		"kind":    func(p *Place) { p.Kind = 2 },
		"number":  func(p *Place) { p.Seq++ },
		"from":    func(p *Place) { p.From-- },
		"to":      func(p *Place) { p.To++ },
		"count":   func(p *Place) { p.Count-- },
	}
	for what, change := range changes {
		p := base
		change(&p)
		other := seal(t, v, p, "second")
		n := fixedPlace + len(base.Gateway)
		swapped := append(bytes.Clone(other[:n]), one[n:]...)
		if _, _, err := k.Open(nil, swapped); !errors.Is(err, ErrDamaged) {
			t.Errorf("a block under the place of another %s: %v", what, err)
		}
	}
	for what, p := range map[string]Place{
		"day":   {Gateway: "gw-1", Kind: 1, Day: base.Day + 1, Epoch: base.Epoch},
		"epoch": {Gateway: "gw-1", Kind: 1, Day: base.Day, Epoch: base.Epoch + 1},
	} {
		if _, _, err := k.Open(nil, seal(t, v, p, "x")); !errors.Is(err, ErrWrongKey) {
			t.Errorf("block of another %s: %v", what, err)
		}
	}
}

func TestNothingIsSealedBeforeItsKeyIsSafe(t *testing.T) {
	kp, _ := pair(t)
	broken := errors.New("disk is gone")
	m := &memory{fail: broken}
	v := newVault(t, m, kp.Recipient)
	if b, err := v.Seal(nil, aPlace(), []byte("x")); !errors.Is(err, broken) || len(b) != 0 {
		t.Fatalf("sealed %d bytes without a saved key, %v", len(b), err)
	}
	m.fail = nil
	seal(t, v, aPlace(), "x")
	seal(t, v, aPlace(), "y")
	if len(m.keys) != 1 {
		t.Fatalf("%d keys for one day and epoch", len(m.keys))
	}
}

func TestEachDayAndEpochHasItsOwnKeyAndAForgottenOneStaysForgotten(t *testing.T) {
	kp, ids := pair(t)
	m := &memory{}
	v := newVault(t, m, kp.Recipient)
	p := aPlace()
	first := seal(t, v, p, "x")
	next := p
	next.Day++
	seal(t, v, next, "x")
	if len(v.Days()) != 2 {
		t.Fatalf("keys of days %v are held", v.Days())
	}
	v.Forget(p.Day)
	if _, err := v.Seal(nil, p, []byte("x")); !errors.Is(err, ErrForgotten) {
		t.Fatalf("sealed under a forgotten key: %v", err)
	}
	p.Epoch++
	second := seal(t, v, p, "x")
	k, err := OpenKey(m.keys[name{p.Day, p.Epoch}], ids)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Open(nil, second); err != nil {
		t.Fatal(err)
	}
	// Relabel the first block as one of the second epoch: other key, so it must fail.
	copy(first[10:18], second[10:18])
	if _, _, err := k.Open(nil, first); !errors.Is(err, ErrDamaged) {
		t.Fatalf("block of another key: %v", err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Seal(nil, next, nil); !errors.Is(err, ErrClosed) {
		t.Fatalf("sealed after Close: %v", err)
	}
}

func TestTheSameTextIsNeverSealedAlike(t *testing.T) {
	kp, _ := pair(t)
	v := newVault(t, &memory{}, kp.Recipient)
	seen := map[string]bool{}
	n := fixedPlace + len(aPlace().Gateway)
	for range 1000 {
		sealed := seal(t, v, aPlace(), "same")
		for what, b := range map[string][]byte{"salt": sealed[n : n+saltSize], "ciphertext": sealed[n+saltSize+lengthSize:]} {
			if seen[string(b)] {
				t.Fatalf("a %s came twice", what)
			}
			seen[string(b)] = true
		}
	}
	v.keys[name{aPlace().Day, aPlace().Epoch}].seals = maxSeals
	if _, err := v.Seal(nil, aPlace(), nil); !errors.Is(err, ErrExhausted) {
		t.Fatalf("sealed beyond the limit: %v", err)
	}
}

func TestPlacesThatCannotBe(t *testing.T) {
	kp, _ := pair(t)
	v := newVault(t, &memory{}, kp.Recipient)
	for what, p := range map[string]Place{
		"no gateway":    {},
		"long gateway":  {Gateway: strings.Repeat("g", 256)},
		"bad UTF-8":     {Gateway: "\xff"},
		"ends too soon": {Gateway: "g", From: 2, To: 1},
	} {
		if b, err := v.Seal(nil, p, nil); !errors.Is(err, ErrPlace) || len(b) != 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
	p := Place{Gateway: strings.Repeat("g", 255), Kind: 255, Day: math.MinInt32, Epoch: math.MaxUint64,
		Seq: math.MaxUint32, From: math.MinInt64, To: math.MaxInt64, Count: math.MaxUint32}
	if _, err := v.Seal(nil, aPlace()); !errors.Is(err, ErrPlace) {
		t.Errorf("no frames: %v", err)
	}
	frames := make([][]byte, MaxFrames+1)
	if _, err := v.Seal(nil, aPlace(), frames...); !errors.Is(err, ErrPlace) {
		t.Errorf("too many frames: %v", err)
	}
	frames[MaxFrames-1] = []byte("abc")
	b, err := v.Seal(nil, p, frames[:MaxFrames]...)
	if err != nil || len(b) != MaxOverhead+3 {
		t.Errorf("overhead is %d, said %d; %v", len(b)-3, MaxOverhead, err)
	}
	if got, err := ParsePlace(b); err != nil || got != p {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestRecipientsThatAreRefused(t *testing.T) {
	kp, _ := pair(t)
	for what, c := range map[string]struct {
		keys []string
		min  int
		want error
	}{
		"none":                    {nil, 0, ErrTooFewRecipients},
		"one instead of two":      {[]string{kp.Recipient}, 2, ErrTooFewRecipients},
		"the same twice":          {[]string{kp.Recipient, " " + kp.Recipient}, 2, ErrTooFewRecipients},
		"nonsense":                {[]string{"age1nonsense"}, 0, ErrRecipient},
		"a comment":               {[]string{"# nobody"}, 0, ErrRecipient},
		"two on a line":           {[]string{kp.Recipient + "\n" + kp.Recipient}, 0, ErrRecipient},
		"a private key":           {[]string{kp.Secret}, 0, ErrSecretInPlace},
		"a private key in lower":  {[]string{strings.ToLower(kp.Secret)}, 0, ErrSecretInPlace},
		"post-quantum and X25519": {[]string{kp.Recipient, hybrid(t)}, 0, ErrRecipient},
	} {
		_, err := New(c.keys, Options{MinRecipients: c.min, Keys: &memory{}})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
		if err != nil && strings.Contains(strings.ToUpper(err.Error()), strings.TrimPrefix(kp.Secret, "AGE-SECRET-KEY-")) {
			t.Errorf("%s: the error repeats a private key", what)
		}
	}
	if _, err := New([]string{kp.Recipient}, DefaultOptions()); err == nil {
		t.Error("a vault without a place for its keys")
	}
}

func TestWrappedKeysThatAreNotWhatTheySay(t *testing.T) {
	kp, ids := pair(t)
	m := &memory{}
	v := newVault(t, m, kp.Recipient)
	seal(t, v, aPlace(), "x")
	wrapped := m.keys[name{aPlace().Day, aPlace().Epoch}]
	for i := range wrapped {
		bad := bytes.Clone(wrapped)
		bad[i] ^= 1
		if _, err := OpenKey(bad, ids); err == nil {
			t.Fatalf("byte %d altered: opened", i)
		}
		if _, err := OpenKey(wrapped[:i], ids); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrWrongIdentity) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	for what, c := range map[string]struct {
		inside string
		want   error
	}{
		"nothing":   {"", ErrDamaged},
		"a letter":  {"Dear custodian", ErrDamaged},
		"too short": {"EDGK\x01", ErrDamaged},
		"newer":     {"EDGK\x02" + strings.Repeat("x", 80), ErrNewer},
	} {
		b, err := SealTo([]string{kp.Recipient}, []byte(c.inside))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenKey(b, ids); !errors.Is(err, c.want) {
			t.Errorf("%s inside: %v", what, err)
		}
	}
}

// TestDebiansAgeAgrees opens a wrapped key with the age program, and reads the
// identity files that it makes (Debian packages age, expect not needed).
func TestDebiansAgeAgrees(t *testing.T) {
	for _, p := range []string{"age", "age-keygen"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed: apt-get install age", p)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "custodian.key")
	if out, err := exec.Command("age-keygen", "-o", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	theirs, err := exec.Command("age-keygen", "-y", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	ours, err := GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	ourFile := filepath.Join(dir, "ours.key")
	if err := os.WriteFile(ourFile, ours.File(), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &memory{}
	v := newVault(t, m, string(theirs), ours.Recipient)
	p := aPlace()
	sealed := seal(t, v, p, "x")
	wrapped := filepath.Join(dir, "key.age")
	if err := os.WriteFile(wrapped, m.keys[name{p.Day, p.Epoch}], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{file, ourFile} {
		ids, err := OpenIdentities(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		k, err := OpenKey(m.keys[name{p.Day, p.Epoch}], ids)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := k.Open(nil, sealed); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("age", "-d", "-i", f, wrapped).Output()
		if err != nil || len(out) != payloadSize || !strings.HasPrefix(string(out), keyMagic) {
			t.Fatalf("age -d: %d bytes, %v", len(out), err)
		}
	}
}
