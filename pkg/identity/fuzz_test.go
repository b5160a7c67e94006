package identity

import (
	"crypto/cipher"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func fuzzKey(t testing.TB) cipher.AEAD {
	key := newKey(7)
	copy(key[16:48], "0123456789abcdef0123456789abcdef")
	aead, err := openKey(sumKey(key[:48]), 7)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// FuzzLogFile reads any bytes as a log of a known key: it ends, does not
// panic, and what it opens was sealed.
func FuzzLogFile(f *testing.F) {
	aead := fuzzKey(f)
	path := filepath.Join(f.TempDir(), "log")
	header := appendHeader(nil, kindLog, 7)
	file, err := createFile(path, header)
	if err != nil {
		f.Fatal(err)
	}
	w := &frameWriter{f: file, aead: aead, header: header}
	for _, s := range []string{"one", "two", "three"} {
		if err := w.write([]byte(s)); err != nil {
			f.Fatal(err)
		}
	}
	file.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-9])
	f.Add(header)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := newFrameReader(data, aead, kindLog, 7)
		if err != nil {
			return
		}
		for i := 0; ; i++ {
			plain, err := r.read()
			if err != nil {
				if err != io.EOF && !errors.Is(err, errDamaged) {
					t.Fatal(err)
				}
				return
			}
			if i > 2 || string(plain) != []string{"one", "two", "three"}[i] {
				t.Fatalf("frame %d opened as %q", i, plain)
			}
		}
	})
}

// FuzzRecords takes any bytes for the opened frames of a snapshot and a log:
// they are refused, or leave a book that can be asked and written again.
func FuzzRecords(f *testing.F) {
	b := openTest(f, f.TempDir(), Options{Sink: &testSink{}})
	apply(f, b, ev(Start, "a", "anna", 10, "192.0.2.1", "2001:db8::/56"), on(40), held(ev(Stop, "b", "bo", 50, "192.0.2.1"), 30))
	var seed []byte
	for _, k := range b.all() {
		seed = appendSession(seed, k.look(), b.storedFacts(k.look()))
	}
	s := &snapWriter{}
	b.snapRest(s)
	f.Add(append(seed, s.buf...), true)
	f.Add(seed, false)
	f.Fuzz(func(t *testing.T, data []byte, inLog bool) {
		b := newBook("", Options{Sink: &testSink{}}, osFiles{})
		b.loading = true
		l := &loader{b: b, inLog: inLog}
		if err := l.frame(&decoder{b: data}); err != nil && !errors.Is(err, errRecord) {
			t.Fatal(err)
		}
		l.finish()
		b.loading = false
		for list := range b.idx.all() {
			for i := range list {
				if x := list[i].binding(); x.Prefix != x.Prefix.Masked() || list[i].prefix() != list[0].prefix() || x.To < x.From && x.Certainty == 0 {
					t.Fatalf("%+v", x)
				}
			}
		}
		var again []byte
		for _, k := range b.all() {
			again = appendSession(again, k.look(), b.storedFacts(k.look()))
		}
		c := newBook("", Options{}, osFiles{})
		if err := (&loader{b: c}).frame(&decoder{b: again}); err != nil {
			t.Fatalf("what was written does not read: %v", err)
		}
	})
}
