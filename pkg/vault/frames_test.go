package vault

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
)

// framed seals three frames of 5, 0 and 40 bytes, as block number seq.
func framed(t testing.TB, v *Vault, seq uint32) ([]byte, [][]byte) {
	t.Helper()
	frames := [][]byte{[]byte("heads"), {}, bytes.Repeat([]byte{byte(seq)}, 40)}
	p := aPlace()
	p.Seq = seq
	b, err := v.Seal(nil, p, frames...)
	if err != nil {
		t.Fatal(err)
	}
	return b, frames
}

func ownKey(t testing.TB) (*Vault, *DayKey) {
	t.Helper()
	kp, _ := pair(t)
	v := newVault(t, &memory{}, kp.Recipient)
	seal(t, v, aPlace(), "makes the key")
	k, ok := v.Own(aPlace().Day, aPlace().Epoch)
	if !ok {
		t.Fatal("the vault does not know its own key")
	}
	return v, k
}

// frameAt returns where frame i of a whole block begins and ends.
func frameAt(t testing.TB, b []byte, i int) (from, to int) {
	t.Helper()
	_, sizes, err := Layout(b)
	if err != nil {
		t.Fatal(err)
	}
	to = fixedPlace + len(aPlace().Gateway) + saltSize + len(sizes)*lengthSize
	for _, n := range sizes[:i+1] {
		from, to = to, to+n+tagSize
	}
	return from, to
}

func TestFramesAreOpenedOneByOneAndAltogether(t *testing.T) {
	v, k := ownKey(t)
	sealed, frames := framed(t, v, 8)
	p, sizes, err := Layout(sealed)
	if err != nil || p.Seq != 8 || !slices.Equal(sizes, []int{5, 0, 40}) {
		t.Fatalf("layout %+v %v, %v", p, sizes, err)
	}
	b, err := k.Block(sealed)
	if err != nil || b.Place != p || b.Frames() != 3 {
		t.Fatalf("%+v, %v", b, err)
	}
	for _, i := range []int{2, 0, 1, 2} {
		if got, err := b.Frame([]byte("x"), i); err != nil || string(got) != "x"+string(frames[i]) {
			t.Errorf("frame %d: %q, %v", i, got, err)
		}
	}
	for _, i := range []int{-1, 3} {
		if _, err := b.Frame(nil, i); !errors.Is(err, ErrAbsent) {
			t.Errorf("frame %d: %v", i, err)
		}
	}
	if _, all, err := k.Open([]byte("x"), sealed); err != nil || string(all) != "x"+string(bytes.Join(frames, nil)) {
		t.Errorf("all: %q, %v", all, err)
	}
}

// TestAFrameOpensWhereItWasSealedAndNowhereElse opens each frame by itself, so
// that no other frame's tag can hide a failing.
func TestAFrameOpensWhereItWasSealedAndNowhereElse(t *testing.T) {
	v, k := ownKey(t)
	sealed, frames := framed(t, v, 8)
	opened := func(b []byte, i int) bool {
		blk, err := k.Block(b)
		if err != nil {
			return false
		}
		_, err = blk.Frame(nil, i)
		return err == nil
	}
	headerEnd, _ := frameAt(t, sealed, 0)
	for i := range frames {
		from, to := frameAt(t, sealed, i)
		for at := range sealed {
			if at >= headerEnd && (at < from || at >= to) {
				continue // of another frame
			}
			for bit := range 8 {
				bad := bytes.Clone(sealed)
				bad[at] ^= 1 << bit
				if opened(bad, i) {
					t.Fatalf("frame %d opened with bit %d of byte %d flipped", i, bit, at)
				}
			}
		}
		if !opened(sealed, i) {
			t.Fatalf("frame %d of the unharmed block", i)
		}
	}
	same := [][]byte{[]byte("same size 1"), []byte("same size 2")}
	one, err := v.Seal(nil, aPlace(), same...)
	if err != nil {
		t.Fatal(err)
	}
	two, err := v.Seal(nil, aPlace(), same...) // the same place and frames, another salt
	if err != nil {
		t.Fatal(err)
	}
	from, mid := frameAt(t, one, 0)
	_, end := frameAt(t, one, 1)
	swapped := slices.Concat(one[:from], one[mid:end], one[from:mid])
	replayed := slices.Concat(one[:from], two[from:mid], one[mid:])
	for i, bad := range [][]byte{swapped, swapped, replayed} {
		if opened(bad, i%2) {
			t.Errorf("case %d: a frame opened in the place of another", i)
		}
	}
	if !opened(replayed, 1) {
		t.Error("the frame that stayed where it was does not open")
	}
}

func TestAPartHasTheFramesThatWereWantedAndNoOthers(t *testing.T) {
	v, k := ownKey(t)
	sealed, frames := framed(t, v, 8)
	part, err := Part([]byte("x"), sealed, func(i int) bool { return i != 1 })
	if err != nil || part[0] != 'x' {
		t.Fatal(err)
	}
	part = part[1:]
	again, err := Part(nil, part, func(i int) bool { return i < 2 })
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		b    []byte
		want []bool
	}{{part, []bool{true, false, true}}, {again, []bool{true, false, false}}} {
		b, err := k.Block(c.b)
		if err != nil {
			t.Fatal(err)
		}
		if p, sizes, err := Layout(c.b); err != nil || p != b.Place || !slices.Equal(sizes, []int{5, 0, 40}) {
			t.Errorf("layout %+v %v, %v", p, sizes, err)
		}
		for i, there := range c.want {
			got, err := b.Frame(nil, i)
			if there && (err != nil || !bytes.Equal(got, frames[i])) || !there && !errors.Is(err, ErrAbsent) {
				t.Errorf("frame %d: %q, %v", i, got, err)
			}
		}
		if _, err := ParsePlace(c.b); !errors.Is(err, ErrPart) {
			t.Errorf("a part passes for a whole block: %v", err)
		}
		if _, _, err := k.Open(nil, c.b); !errors.Is(err, ErrPart) {
			t.Errorf("a part opens like a whole block: %v", err)
		}
	}
	for n := range part {
		if _, _, err := Layout(part[:n]); !errors.Is(err, ErrTruncated) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	if _, _, err := Layout(append(part, 0)); !errors.Is(err, ErrDamaged) {
		t.Errorf("one byte more: %v", err)
	}
}

func TestAPartThatWasPutTogetherWronglyDoesNotOpen(t *testing.T) {
	v, k := ownKey(t)
	sealed, _ := framed(t, v, 8)
	part, err := Part(nil, sealed, func(i int) bool { return i == 0 })
	if err != nil {
		t.Fatal(err)
	}
	headerEnd, _ := frameAt(t, sealed, 0)
	relisted := bytes.Clone(part) // frame 0 given out as the empty frame 1, and as one beyond the last
	for _, bit := range []byte{1 << 1, 1 << 3} {
		relisted[headerEnd+3] = bit
		if b, err := k.Block(relisted); err == nil {
			if _, err = b.Frame(nil, 1); err == nil {
				t.Errorf("list of frames %b: opened", bit)
			}
		}
	}
	p := aPlace()
	p.Seq = 8
	alike, err := v.Seal(nil, p, []byte("HEADS"), []byte("heads"), make([]byte, 40))
	if err != nil {
		t.Fatal(err)
	}
	from, mid := frameAt(t, alike, 0)
	_, end := frameAt(t, alike, 1)
	for what, frame := range map[string][]byte{"of another block": alike[from:mid], "with another number": alike[mid:end]} {
		b, err := k.Block(slices.Concat(part[:headerEnd+presentSize], frame))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Frame(nil, 0); !errors.Is(err, ErrDamaged) {
			t.Errorf("a frame %s: %v", what, err)
		}
	}
}

func TestOwnBlocksAreReadUntilTheKeyIsGivenUp(t *testing.T) {
	v, k := ownKey(t)
	p := aPlace()
	sealed, _ := framed(t, v, 8)
	k.Close() // the vault's to close: nothing happens
	if _, err := k.Block(sealed); err != nil {
		t.Fatal(err)
	}
	if _, ok := v.Own(p.Day, p.Epoch+1); ok {
		t.Error("a key of an epoch that was never sealed")
	}
	s := v.keys[name{p.Day, p.Epoch}].key
	v.Forget(p.Day)
	if _, err := k.Block(sealed); !errors.Is(err, ErrForgotten) {
		t.Errorf("opened with a forgotten key: %v", err)
	}
	if _, ok := v.Own(p.Day, p.Epoch); ok || s.b != nil || s.mapped != nil {
		t.Error("a forgotten key is still there")
	}
	p.Day++
	seal(t, v, p, "x")
	s = v.keys[name{p.Day, p.Epoch}].key
	if err := v.Close(); err != nil || s.b != nil {
		t.Errorf("the key outlives the vault: %v", err)
	}
}

// TestAKeyMayBeGivenUpWhileItIsUsed is for the race detector: the key's pages
// are unmapped, and whoever read them then would die.
func TestAKeyMayBeGivenUpWhileItIsUsed(t *testing.T) {
	v, k := ownKey(t)
	sealed, _ := framed(t, v, 8)
	var ready, done sync.WaitGroup
	for range 4 {
		ready.Add(1)
		done.Go(func() {
			for i := 0; ; i++ {
				_, err := k.Block(sealed)
				if i == 0 {
					ready.Done()
				}
				if err != nil {
					if i == 0 || !errors.Is(err, ErrForgotten) {
						t.Errorf("turn %d: %v", i, err)
					}
					return
				}
			}
		})
	}
	ready.Wait()
	v.Forget(aPlace().Day)
	done.Wait()
}

func TestACustodiansKeyIsGoneOnceItIsClosed(t *testing.T) {
	kp, ids := pair(t)
	m := &memory{}
	v := newVault(t, m, kp.Recipient)
	sealed := seal(t, v, aPlace(), "x")
	k, err := OpenKey(m.keys[name{aPlace().Day, aPlace().Epoch}], ids)
	if err != nil {
		t.Fatal(err)
	}
	b, err := k.Block(sealed)
	if err != nil {
		t.Fatal(err)
	}
	k.Close()
	k.Close()
	if _, err := k.Block(sealed); !errors.Is(err, ErrForgotten) {
		t.Errorf("opened with a closed key: %v", err)
	}
	if got, err := b.Frame(nil, 0); err != nil || string(got) != "x" {
		t.Errorf("a block that was taken before: %q, %v", got, err)
	}
}

// openByThePicture opens frame i of a whole block. It is written from the
// picture above Place and RFC 5869, and uses nothing of this package.
func openByThePicture(t *testing.T, dayKey, b []byte, i int) []byte {
	t.Helper()
	f, n := int(b[42]), int(b[43])
	salt := b[44+n : 60+n]
	end := 60 + n + 4*f
	extract := hmac.New(sha256.New, salt)
	extract.Write(dayKey)
	expand := hmac.New(sha256.New, extract.Sum(nil))
	expand.Write(b[:end])
	expand.Write([]byte{1})
	c, err := aes.NewCipher(expand.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(c)
	if err != nil {
		t.Fatal(err)
	}
	at := end
	for j := range i {
		at += int(binary.BigEndian.Uint32(b[60+n+4*j:])) + 16
	}
	size := int(binary.BigEndian.Uint32(b[60+n+4*i:])) + 16
	out, err := gcm.Open(nil, []byte{11: byte(i)}, b[at:at+size], nil)
	if err != nil {
		t.Fatalf("frame %d: %v", i, err)
	}
	return out
}

func TestWhoeverReadsThePictureCanOpenABlock(t *testing.T) {
	kp, ids := pair(t)
	m := &memory{}
	v := newVault(t, m, kp.Recipient)
	sealed, frames := framed(t, v, 8)
	payload, err := OpenSealed(m.keys[name{aPlace().Day, aPlace().Epoch}], ids)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range frames {
		if got := openByThePicture(t, payload[17:49], sealed, i); !bytes.Equal(got, want) {
			t.Errorf("frame %d: %q", i, got)
		}
	}
}

func FuzzLayout(f *testing.F) {
	v, k := ownKey(f)
	good, _ := framed(f, v, 8)
	part, err := Part(nil, good, func(i int) bool { return i == 2 })
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:fixedPlace])
	f.Add(part)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parse(b)
		if err != nil {
			if _, err := k.Block(b); err == nil {
				t.Fatal("a block that cannot be taken apart")
			}
			return
		}
		frames := make([][]byte, p.frames)
		for i := range frames {
			if size := p.size(i); size < 1<<20 { // a part may promise far more than it has
				frames[i] = make([]byte, size)
			} else {
				return
			}
		}
		again, err := p.place.append(nil, [saltSize]byte(p.salt()), frames)
		if p.part {
			copy(again, partMagic)
		}
		if err != nil || !bytes.Equal(again, p.header) {
			t.Fatalf("header of %+v is not canonical: %v", p.place, err)
		}
		all, err := Part(nil, b, func(int) bool { return true })
		if err != nil || !bytes.HasSuffix(all, p.body) {
			t.Fatalf("all of it: %v", err)
		}
	})
}
