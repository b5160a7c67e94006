package delivery

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/edgelog/edgelog/pkg/disclose"
)

// kinds are the kinds of answers.
func kinds(t testing.TB) map[string]*desk {
	return map[string]*desk{
		kindSessions: sessionsDesk(t), kindWho: newDesk(t, nil, sampleWho(), nil), kindAccess: newDesk(t, nil, nil, sampleAccess()),
		kindCommunications: exchangeDesk(t, sampleCommunications()),
	}
}

func TestAPackageOfEachKindIsVerified(t *testing.T) {
	for kind, d := range kinds(t) {
		t.Run(kind, func(t *testing.T) {
			r, err := Verify(bytes.NewReader(d.sealed()), Options{Identities: []age.Identity{d.to}, PublicKey: d.ledger.VerifierKey()})
			if err != nil {
				t.Fatal(err)
			}
			if !r.Encrypted || r.OwnKey || r.Filed.Index != d.in.ID || len(r.Approvals) != 1 || r.Intent.Index <= r.Approvals[0].Index || r.Outcome.Index <= r.Intent.Index {
				t.Errorf("%+v", r)
			}
			if r.Manifest.Request.Asked != kind || r.Manifest.Answer.LimitReached || !bytes.Contains(r.Summary(), []byte("<!DOCTYPE html>")) {
				t.Errorf("%+v", r.Manifest)
			}
			r, err = Verify(bytes.NewReader(d.zip()), Options{})
			if err != nil || !r.OwnKey || r.Encrypted {
				t.Errorf("decrypted, and without a key: %+v, %v", r, err)
			}
		})
	}
}

func TestTheSameInputGivesTheSameBytes(t *testing.T) {
	for kind, d := range kinds(t) {
		a, b := d.build(), d.build()
		if a.Digest() != b.Digest() || !bytes.Equal(a.text, b.text) {
			t.Errorf("%s: the manifests differ", kind)
		}
		for i := range a.members {
			if !bytes.Equal(a.members[i].data, b.members[i].data) {
				t.Errorf("%s: %s differs", kind, a.members[i].name)
			}
		}
		first, second := d.zip(), d.zip() // of two runs
		for _, m := range append(a.members, plainMember(manifestName, nil)) {
			if !bytes.Equal(member(t, first, m.name), member(t, second, m.name)) {
				t.Errorf("%s: %s differs between two runs", kind, m.name)
			}
		}
		if bytes.Equal(member(t, first, receiptName), member(t, second, receiptName)) {
			t.Errorf("%s: two runs have one receipt", kind)
		}
	}
}

// TestABitThatWasFlippedIsFound flips a bit of every byte of the zip, another one
// each time, and so every bit of a part that is not covered by a hash.
func TestABitThatWasFlippedIsFound(t *testing.T) {
	d := newDesk(t, &disclose.Answer{Summary: sampleSummary(0)}, nil, nil)
	z := d.zip()
	key := d.ledger.VerifierKey()
	names := map[string]bool{}
	flip := func(i int, bit byte) {
		z[i] ^= 1 << bit
		defer func() { z[i] ^= 1 << bit }()
		_, err := Verify(bytes.NewReader(z), Options{PublicKey: key})
		if !errors.Is(err, ErrPackage) {
			t.Fatalf("byte %d of %d, bit %d: %v", i, len(z), bit, err)
		}
		for _, where := range []string{"README.txt", manifestName, "sessions.csv", "sessions.jsonl", "sessions.ipfix", "response.xml", summaryName, signatureName, receiptName, "its directory"} {
			if strings.Contains(err.Error(), where) {
				names[where] = true
				return
			}
		}
		if !strings.Contains(err.Error(), "at byte") && !strings.Contains(err.Error(), "begin with a member") {
			t.Fatalf("byte %d: the message does not say where: %v", i, err)
		}
	}
	for i := range z {
		flip(i, byte(i%8))
	}
	for _, name := range []string{signatureName, receiptName} { // what no hash covers
		at := bytes.Index(z, member(t, z, name))
		for i := at; i < at+len(member(t, z, name)); i++ {
			for _, bit := range []byte{0, 1, 5} { // the last of a base64 quantum, the case of a letter
				flip(i, bit)
			}
		}
	}
	if len(names) != 10 {
		t.Errorf("only in %v something was found", names)
	}
	if _, err := Verify(bytes.NewReader(z), Options{PublicKey: key}); err != nil {
		t.Fatalf("not flipped: %v", err)
	}
}

func TestAnEncryptedPackageThatWasChangedIsFound(t *testing.T) {
	d := newDesk(t, &disclose.Answer{Summary: sampleSummary(0)}, nil, nil)
	s := d.sealed()
	for i := 0; i < len(s); i += 1 + i/64 {
		s[i] ^= 1
		_, err := Verify(bytes.NewReader(s), Options{Identities: []age.Identity{d.to}})
		if !errors.Is(err, ErrPackage) && !errors.Is(err, ErrNotOpened) {
			t.Fatalf("byte %d: %v", i, err)
		}
		s[i] ^= 1
	}
	for _, n := range []int{0, 1, len(ageHead), 200, len(s) / 2, len(s) - 1} {
		if _, err := Verify(bytes.NewReader(s[:n]), Options{Identities: []age.Identity{d.to}}); !errors.Is(err, ErrPackage) && !errors.Is(err, ErrNotOpened) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	other, err := age.GenerateX25519Identity()
	d.ok(err)
	if _, err := Verify(bytes.NewReader(s), Options{Identities: []age.Identity{other}}); !errors.Is(err, ErrNotOpened) {
		t.Errorf("another's key: %v", err)
	}
	if _, err := Verify(bytes.NewReader(s), Options{}); !errors.Is(err, ErrNotOpened) || !strings.Contains(err.Error(), "--identity") {
		t.Errorf("no key: %v", err)
	}
}

// rezip takes a zip apart, changes it and puts it together again.
func rezip(t *testing.T, z []byte, change func([]stored) []stored) []byte {
	t.Helper()
	list, err := readZip(slices.Clone(z))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := writeZip(&b, change(list)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTricksOfTheZipAreFound(t *testing.T) {
	z := sessionsDesk(t).zip()
	for _, c := range slices.Concat(changedMembers(t), changedZips(z)) {
		t.Run(c.name, func(t *testing.T) {
			b := c.zip
			if c.change != nil {
				b = rezip(t, z, c.change)
			}
			_, err := Verify(bytes.NewReader(b), Options{})
			if !errors.Is(err, ErrPackage) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// trick is a zip, or a change of the members of one.
type trick struct {
	name   string
	zip    []byte
	change func([]stored) []stored
	want   string
}

func changedZips(z []byte) []trick {
	return []trick{
		{"bytes before it", append([]byte("#!/bin/sh\n"), z...), nil, "begin with a member"},
		{"bytes behind it", append(slices.Clone(z), 0), nil, "its directory"},
		{"a symbolic link", bytes.Replace(z, []byte{0, 0, 0xa4, 0x81}, []byte{0, 0, 0xff, 0xa1}, 1), nil, "its directory"},
		{"nothing", nil, nil, "begin with a member"},
	}
}

func changedMembers(t *testing.T) []trick {
	bomb, err := pack("sessions.csv", func(w io.Writer) error {
		_, err := io.CopyN(w, zeroes{}, 64<<20)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	lying, huge := bomb, bomb
	lying.size, huge.size = 10, mostContent
	add := func(name string) func([]stored) []stored {
		return func(l []stored) []stored { return append(l, plainMember(name, nil)) }
	}
	replace := func(s stored) func([]stored) []stored {
		return func(l []stored) []stored { l[2] = s; return l }
	}
	return []trick{
		{"one more member", nil, add("more.txt"), `"more.txt"`},
		{"one more of a name that is there", nil, add(manifestName), "two of that name"},
		{"an absolute path", nil, add("/etc/passwd"), `"/etc/passwd", at byte`},
		{"a path upwards", nil, add("../../x"), `"../../x", at byte`},
		{"a hidden file", nil, add(".bashrc"), "not one of a file of this directory"},
		{"a path of another system", nil, add(`C:\x`), "not one of a file of this directory"},
		{"a long name", nil, add(strings.Repeat("x", 40)), "cut off"},
		{"one missing", nil, func(l []stored) []stored { return slices.Delete(l, 2, 3) }, `"sessions.jsonl"`},
		{"the last one missing", nil, func(l []stored) []stored { return l[:len(l)-1] }, `"receipt.json": it is missing`},
		{"no manifest", nil, func(l []stored) []stored { return slices.Delete(l, 1, 2) }, `"manifest.json": it is missing`},
		{"another order", nil, func(l []stored) []stored { l[2], l[3] = l[3], l[2]; return l }, "not in this place"},
		{"another content", nil, replace(plainMember("sessions.csv", []byte("start\r\n"))), `"sessions.csv"`},
		{"a bomb", nil, replace(bomb), `"sessions.csv": its content`},
		{"a bomb that lies", nil, replace(lying), "not the size"},
		{"a bomb beyond all bounds", nil, replace(huge), "come out of it"},
		{"many members", nil, func(l []stored) []stored {
			for i := range 20 {
				l = append(l, plainMember(strings.Repeat("y", i+1), nil))
			}
			return l
		}, "more than 16 members"},
		{"the same content packed in another way", nil, func(l []stored) []stored {
			var b bytes.Buffer
			if err := l[2].unpack(&b); err != nil {
				t.Fatal(err)
			}
			l[2] = plainMember(l[2].name, b.Bytes())
			return l
		}, "as it was packed"},
	}
}

type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestAPackageOfAnEarlierVersionIsStillVerified: what was handed over is kept for
// years. The files stay as they are.
func TestAPackageOfAnEarlierVersionIsStillVerified(t *testing.T) {
	r, err := Verify(bytes.NewReader(earlier(t)), Options{})
	if err != nil || r.Manifest.Format != 1 || r.Manifest.Answer.Delivered != 9 || r.Outcome.Index != 5 {
		t.Errorf("%+v, %v", r, err)
	}
}

// earlier returns a package of format 1.
func earlier(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/format-1.zip")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzVerify(f *testing.F) {
	z := earlier(f)
	f.Add(z)
	f.Add(z[:len(z)/2])
	f.Add([]byte("PK\x05\x06"))
	f.Add([]byte(ageHead))
	id, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Verify(bytes.NewReader(b), Options{Identities: []age.Identity{id}}); err == nil && !bytes.Equal(b, z) {
			t.Fatalf("%d bytes that are not the package were accepted", len(b))
		}
	})
}
