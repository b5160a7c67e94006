package delivery

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/mod/sumdb/note"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/ledger"
)

func TestNothingIsSealedThatWouldNotBeVerified(t *testing.T) {
	d := sessionsDesk(t)
	p := d.build()
	digest := p.Digest()
	id := strconv.FormatInt(d.in.ID, 10)
	good := d.receipt(p)
	outcome := func(fields map[string]string) *ledger.Proof {
		f := map[string]string{"intent": strconv.FormatInt(good.Intent.Index, 10), "result": "answered", "manifest": hex.EncodeToString(digest[:]), "request": id}
		for k, v := range fields {
			f[k] = v
		}
		return d.prove(d.add(ledger.Outcome, f))
	}
	sign := func(what, text string) []byte {
		b, err := d.ledger.Statement(what, text)
		d.ok(err)
		return b
	}
	what, text := disclose.PackageStatement(digest)
	for _, c := range []struct {
		name   string
		change func(*disclose.Receipt)
		want   string
	}{
		{"the outcome of another package", func(r *disclose.Receipt) { r.Outcome = outcome(map[string]string{"manifest": strings.Repeat("0", 64)}) }, "another manifest"},
		{"the outcome of another intent", func(r *disclose.Receipt) { r.Outcome = outcome(map[string]string{"intent": "0"}) }, "not the outcome"},
		{"the outcome of another request", func(r *disclose.Receipt) { r.Outcome = outcome(map[string]string{"request": "0"}) }, "not the outcome"},
		{"an outcome without an answer", func(r *disclose.Receipt) { r.Outcome = outcome(map[string]string{"result": "no outcome given"}) }, "not the outcome"},
		{"an outcome before its intent", func(r *disclose.Receipt) { r.Intent = d.prove(d.add(ledger.Intent, nil)) }, "does not come after"},
		{"another entry as the outcome", func(r *disclose.Receipt) { r.Outcome = d.prove(d.add(ledger.Gap, nil)) }, "not the outcome"},
		{"another entry as the intent", func(r *disclose.Receipt) { r.Intent = d.prove(2) }, "does not come after"},
		{"an intent for another request", func(r *disclose.Receipt) { r.Intent = d.prove(d.add(ledger.Intent, map[string]string{"request": "0"})) }, "not the intent"},
		{"no intent", func(r *disclose.Receipt) { r.Intent = nil }, "intent: its proof is missing"},
		{"no outcome", func(r *disclose.Receipt) { r.Outcome = nil }, "outcome: its proof is missing"},
		{"no signature", func(r *disclose.Receipt) { r.Signature = nil }, "malformed note"},
		{"a signature of something else", func(r *disclose.Receipt) { r.Signature = sign("holiday", text) }, "no statement of"},
		{"a signature of another manifest", func(r *disclose.Receipt) { r.Signature = sign(what, strings.Replace(text, ": ", ": 0", 1)) }, "another manifest"},
		{"a signature twice", func(r *disclose.Receipt) {
			line := r.Signature[bytes.LastIndex(r.Signature, []byte("— ")):]
			r.Signature = append(slices.Clone(r.Signature), line...)
		}, "more than one"},
		{"a checkpoint as signature", func(r *disclose.Receipt) { r.Signature = d.ledger.Checkpoint().Note }, "no statement"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := *good
			c.change(&r)
			err := p.Seal(io.Discard, &r, d.in.Request.Delivery.Recipient)
			if !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	d.ok(p.Seal(io.Discard, good, d.in.Request.Delivery.Recipient))
	for _, to := range []string{"", "age1", "AGE-SECRET-KEY-1", d.to.Recipient().String() + "\n" + d.to.Recipient().String()} {
		if err := p.Seal(io.Discard, good, to); !errors.Is(err, ErrInput) {
			t.Errorf("sealed to %q: %v", to, err)
		}
	}
}

func TestARequestThatNobodyApprovedIsAnEmergencyOrNoPackage(t *testing.T) {
	for _, emergency := range []string{"", "a child is missing"} {
		d := newDesk(t, &disclose.Answer{Summary: sampleSummary(0)}, nil, nil, func(r *disclose.Request) { r.Emergency = emergency })
		d.in.Entries = d.in.Entries[:1]
		p := d.build()
		err := p.Seal(io.Discard, d.receipt(p), d.in.Request.Delivery.Recipient)
		if (err == nil) != (emergency != "") || err != nil && !strings.Contains(err.Error(), "nobody approved request 1") {
			t.Errorf("emergency %q: %v", emergency, err)
		}
	}
}

func TestBuildRefusesWhatDoesNotBelongTogether(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*desk)
		want   string
	}{
		{"two answers", func(d *desk) { d.in.Who = sampleWho() }, "exactly one"},
		{"no answer", func(d *desk) { d.in.Sessions = nil }, "exactly one"},
		{"an answer of another kind", func(d *desk) { d.in.Sessions, d.in.Access = nil, sampleAccess() }, "of the kind"},
		{"another text", func(d *desk) { d.in.Text = append([]byte(" "), d.in.Text...) }, "not that of the request"},
		{"no request", func(d *desk) { d.in.Request = nil }, "no request"},
		{"no entries", func(d *desk) { d.in.Entries = nil }, "no ledger entry"},
		{"an entry that is missing", func(d *desk) { d.in.Entries[1] = nil }, "is missing"},
		{"an entry that is not proven", func(d *desk) { d.in.Entries[1].Index++ }, "not proven"},
		{"a key that is none", func(d *desk) { d.in.LedgerKey = "x" }, "malformed"},
		{"no hits allowed", func(d *desk) {
			d.in.Request.Task.MaxHits = 0
			d.in.Text, _ = d.in.Request.Text()
		}, "cannot be filed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := sessionsDesk(t)
			c.change(d)
			if _, err := Build(d.in); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// resealed returns the zip with another receipt, as somebody would write it who
// cannot make the ledger sign.
func resealed(t *testing.T, z []byte, change func(*receiptFile)) []byte {
	t.Helper()
	return rezip(t, z, func(l []stored) []stored {
		var r receiptFile
		last := &l[len(l)-1]
		if err := json.Unmarshal(last.data, &r); err != nil {
			t.Fatal(err)
		}
		change(&r)
		text, err := encode(&r)
		if err != nil {
			t.Fatal(err)
		}
		*last = plainMember(receiptName, text)
		return l
	})
}

func TestAReceiptThatIsNotOfThisPackageIsFound(t *testing.T) {
	d := sessionsDesk(t)
	z := d.zip()
	id := strconv.FormatInt(d.in.ID, 10)
	for _, c := range []struct {
		name   string
		change func(*receiptFile)
		want   string
	}{
		{"no approval", func(r *receiptFile) { r.Entries = r.Entries[:1] }, "that the manifest names"},
		{"another approval", func(r *receiptFile) {
			r.Entries[1] = d.prove(d.add(ledger.Request, map[string]string{"request": id}))
		}, "not the one that the manifest names"},
		{"the approval in place of the filing", func(r *receiptFile) { r.Entries[0] = r.Entries[1] }, "not the one that the manifest names"},
		{"an index that lies", func(r *receiptFile) { r.Outcome.Index++ }, "not proven"},
		{"an entry that was changed", func(r *receiptFile) {
			r.Intent.Entry = bytes.Replace(r.Intent.Entry, []byte("lookup"), []byte("access"), 1)
		}, "not proven"},
		{"no packed members", func(r *receiptFile) { r.Packed = nil }, "does not name the members"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Verify(bytes.NewReader(resealed(t, z, c.change)), Options{})
			if !errors.Is(err, ErrPackage) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), receiptName) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestAWholePackageOfAnotherLedgerIsNotTaken: whoever makes a ledger of his own
// can make a package that is whole in itself.
func TestAWholePackageOfAnotherLedgerIsNotTaken(t *testing.T) {
	real, forger := sessionsDesk(t), sessionsDesk(t)
	z := forger.zip()
	if _, err := Verify(bytes.NewReader(z), Options{PublicKey: real.ledger.VerifierKey()}); !errors.Is(err, ErrOtherKey) {
		t.Errorf("%v", err)
	}
	r, err := Verify(bytes.NewReader(z), Options{})
	if err != nil || !r.OwnKey || r.Fingerprint != Fingerprint(forger.ledger.VerifierKey()) || r.Fingerprint == Fingerprint(real.ledger.VerifierKey()) {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := Verify(bytes.NewReader(z), Options{PublicKey: "nonsense"}); !errors.Is(err, ledger.ErrKey) {
		t.Errorf("%v", err)
	}
	swapped := rezip(t, z, func(l []stored) []stored { // the real one's key in the forger's package
		text := bytes.Replace(l[1].data, []byte(forger.ledger.VerifierKey()), []byte(real.ledger.VerifierKey()), 1)
		l[1] = plainMember(manifestName, text)
		return l
	})
	if _, err := Verify(bytes.NewReader(swapped), Options{PublicKey: real.ledger.VerifierKey()}); !errors.Is(err, ErrPackage) {
		t.Errorf("%v", err)
	}
}

func TestCheckpointsThatWereKeptAreHeldAgainstIt(t *testing.T) {
	d := sessionsDesk(t)
	p := d.build()
	receipt := d.receipt(p)
	var sealed bytes.Buffer
	d.ok(p.Seal(&sealed, receipt, d.in.Request.Delivery.Recipient))
	same := []byte(receipt.Outcome.Checkpoint)
	d.add(ledger.Gap, nil)
	later := d.ledger.Checkpoint().Note

	verify := func(key string, checkpoints ...[]byte) (*Report, error) {
		return Verify(bytes.NewReader(sealed.Bytes()), Options{Identities: []age.Identity{d.to}, PublicKey: key, Checkpoints: checkpoints})
	}
	r, err := verify(d.ledger.VerifierKey(), same, later)
	if err != nil || len(r.Compared) != 2 || !strings.HasSuffix(r.Compared[0], "is that of the package") || !strings.Contains(r.Compared[1], "cannot be compared") {
		t.Fatalf("%+v, %v", r, err)
	}
	other := sessionsDesk(t)
	for range 3 {
		other.add(ledger.Gap, nil)
	}
	for name, b := range map[string][]byte{"another's": other.ledger.Checkpoint().Note, "a statement": receipt.Signature, "nonsense": []byte("x"), "nothing": nil} {
		if _, err := verify("", b); !errors.Is(err, ErrPackage) || !strings.Contains(err.Error(), "held against") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAForkedLedgerIsFound signs two histories of one length with one key, as an
// agent would that was made to lie.
func TestAForkedLedgerIsFound(t *testing.T) {
	d := sessionsDesk(t)
	z := d.zip()
	key, verifier, err := note.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{3}, 64)), "edgelog.example.net/gw1")
	d.ok(err)
	signer, err := note.NewSigner(key)
	d.ok(err)
	sign := func(text string) []byte {
		b, err := note.Sign(&note.Note{Text: text}, signer)
		d.ok(err)
		return b
	}
	a := sign("edgelog.example.net/gw1\n5\n" + strings.Repeat("A", 43) + "=\n")
	b := sign("edgelog.example.net/gw1\n5\n" + strings.Repeat("B", 42) + "A=\n")
	c := checker{key: verifier, report: &Report{}, opt: Options{Checkpoints: [][]byte{b}}}
	proof := &ledger.Proof{Checkpoint: string(a)}
	if err := c.compare(&receiptFile{Intent: proof, Outcome: proof}); err == nil || !strings.Contains(err.Error(), "forked") {
		t.Errorf("against one that was kept: %v", err)
	}
	if err := c.compare(&receiptFile{Intent: proof, Outcome: &ledger.Proof{Checkpoint: string(b)}}); err == nil || !strings.Contains(err.Error(), "forked") {
		t.Errorf("within the package: %v", err)
	}
	if _, err := Verify(bytes.NewReader(z), Options{Checkpoints: [][]byte{d.ledger.Checkpoint().Note}}); err != nil {
		t.Error(err)
	}
}
