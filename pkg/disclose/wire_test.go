package disclose

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

func frames(t testing.TB, write func(*frameWriter)) []byte {
	t.Helper()
	var b bytes.Buffer
	w := newFrameWriter(&b)
	write(w)
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFramesComeBackAndAreCounted(t *testing.T) {
	big := bytes.Repeat([]byte{7}, 3<<20) // more than one step of reading
	b := frames(t, func(w *frameWriter) {
		for _, p := range [][]byte{{1, 2}, {}, big} {
			if err := w.write(frameSessions, p); err != nil {
				t.Fatal(err)
			}
		}
	})
	r := newFrameReader(bytes.NewReader(b))
	for i, want := range []int{2, 0, 3 << 20} {
		k, p, err := r.next()
		if err != nil || k != frameSessions || len(p) != want {
			t.Fatalf("frame %d: kind %d, %d bytes, %v", i, k, len(p), err)
		}
	}
	if r.end.Sessions != 3 {
		t.Errorf("counted %d", r.end.Sessions)
	}
	if _, _, err := r.next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last frame: %v", err)
	}
}

func TestACutStreamIsNoticedAtEveryByte(t *testing.T) {
	b := frames(t, func(w *frameWriter) { _ = w.write(frameKey, []byte("0123456789")) })
	for n := 1; n < len(b); n++ {
		if _, _, err := newFrameReader(bytes.NewReader(b[:n])).next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
}

func FuzzAnswerStream(f *testing.F) {
	f.Add(frames(f, func(w *frameWriter) {
		_ = w.writeJSON(frameBegin, begin{ID: "x", Origin: Origin{Profile: "session"}})
		_ = w.write(frameKey, []byte("age-encryption.org/v1\n"))
		_ = w.write(frameBindings, []byte("EDGS"))
		_ = w.write(frameSessions, []byte("EDGS"))
		_ = w.writeJSON(frameEnd, w.end)
	}))
	f.Add([]byte{6, 0, 0, 0, 1, 'x'})
	f.Add([]byte{1, 255, 255, 255, 255})
	q := &Query{Reference: "r", Subscriber: "s", From: at(-1), To: at(0)}
	ids := testIdentity(f).ids
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newReader(q, ids)
		err := r.readAll(bytes.NewReader(b))
		if err == nil && r.sum.Records != 0 {
			t.Error("something was found in nothing that was sealed")
		}
		if o := r.outcome(err); !reasons[o.Error] {
			t.Errorf("outcome %q is not one that the ledger takes", o.Error)
		}
	})
}

func TestTheAnswerTrustsTheSourcesThatTheGatewayTrusts(t *testing.T) {
	bindings := []session.Binding{bind("anna", hour, -time.Minute), bind("bo", hour, -time.Minute, of(session.SourceDHCP))}
	for want, trust := range map[string][]string{"anna": nil, "bo": {"dhcp", "a later version's", "radius"}} {
		o := Origin{Trust: trust}
		r := identity.NewReader(bindings, o.trust())
		if b, ok := r.Holder(session.AddrFrom(netip.MustParseAddr("10.0.0.1")), 0, at(half)); !ok || b.Subscriber != want {
			t.Errorf("with %v it is %q", trust, b.Subscriber)
		}
	}
}
