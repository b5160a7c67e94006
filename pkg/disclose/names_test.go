package disclose

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
)

// TestASubscriberHasTheNameOfThatTime: a connection that is taken over, or a
// marriage, falls into a window as well as anything.
func TestASubscriberHasTheNameOfThatTime(t *testing.T) {
	rows := []block.Subscriber{
		{ID: "anna", Name: "Anna Old", Address: "Gade 1", From: at(-1000 * time.Hour), To: at(-30 * time.Minute)},
		{ID: "anna", Name: "Anna New", Address: "Gade 2", From: at(-30 * time.Minute), To: session.Forever},
		{ID: "carl", Name: "Carl", From: at(-10 * time.Minute), To: session.Forever},
	}
	g := &register{list: []*imported{{Directory: &block.Directory{From: at(-2000 * time.Hour), First: []string{"anna"}}, pages: map[int][]block.Subscriber{0: rows}}}}
	var a Answer
	for _, h := range []struct {
		who   string
		start time.Duration
	}{{"anna", -50 * time.Minute}, {"anna", -40 * time.Minute}, {"carl", -35 * time.Minute}, {"", -34 * time.Minute}, {"anna", -20 * time.Minute}, {"carl", -5 * time.Minute}, {"anna", -time.Minute}} {
		s := lived(h.start, h.start)
		s.Subscriber = h.who
		a.Hits = append(a.Hits, Hit{Session: s, Stored: h.who})
	}
	var err error
	if a.Names, err = g.names(context.Background(), a.moments()); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range a.Names {
		names = append(names, n.Name)
	}
	if d := cmp.Diff([]string{"Anna Old", "Anna New", "Carl"}, names); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	var b bytes.Buffer
	if err := a.WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	var cells []string
	for line := range strings.Lines(b.String()) {
		w := strings.Split(strings.TrimSpace(line), ",")
		cells = append(cells, w[len(w)-3]+"/"+w[len(w)-2])
	}
	want := []string{"name/address", "Anna Old/Gade 1", "Anna Old/Gade 1", "/", "/", "Anna New/Gade 2", "Carl/", "Anna New/Gade 2"}
	if d := cmp.Diff(want, cells); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
