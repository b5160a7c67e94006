package tests

import (
	"testing"

	"github.com/edgelog/edgelog/tests/gateway"
)

func TestARingThatOverflowsLosesNoSession(t *testing.T) {
	edit := quickEnds()
	edit["ring_bytes ="] = "ring_bytes = 4096"
	g := start(t, gateway.Options{Edit: edit})
	ctx := limited(t)
	w := newCrowd(t, g, 8080)
	const all = 4000
	if err := w.call(ctx, all)(); err != nil {
		t.Fatal(err)
	}
	s, err := allStored(ctx, g, all)
	if err != nil {
		t.Fatal(err)
	}
	if s.Probe.Table.RingFull == 0 {
		t.Errorf("the ring was never full: %d events went through it, so this test proves nothing", s.Probe.Table.RingSent)
	}
	storedOnce(t, g, w)
}
