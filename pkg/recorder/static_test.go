package recorder

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/pkg/identity/roster"
)

func TestTheStaticTableNamesSessionsAndFollowsTheFileOnReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "static.csv")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("prefix,subscriber,from\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("10.0.0.1,anna,2025-01-01\n10.0.1.0/24,office,\n")
	r := newRoom(t, "[[static]]\nprefix = \"10.9.0.0/16\"\nsubscriber = \"house\"\n")
	r.shut()
	r.text = "static_file = \"" + file + "\"\n" + r.text
	r.open()
	if s := r.Status(); s.Bindings.Static != 3 {
		t.Errorf("%d rows are in force", s.Bindings.Static)
	}
	r.table.add(seen(3, evening)...)
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	got, bindings, _ := r.read()
	if len(got) != 3 || got[0].Subscriber != "anna" || len(bindings) < 3 {
		t.Fatalf("%d sessions, of %q; %d access records", len(got), got[0].Subscriber, len(bindings))
	}
	name := func(want string) {
		t.Helper()
		s := seen(1, r.clock.Now())
		who, _ := r.book.Name(s[0].Initiator, 0, r.clock.Now().UnixNano())
		if who != want {
			t.Errorf("the address is of %q, not %q", who, want)
		}
	}
	name("anna")
	r.clock.add(clockStep)
	write("10.0.0.1,bob,\n")
	if out, err := r.Reload(t.Context(), r.config(r.text)); err != nil || strings.Join(out.Changed, " ") != "static" {
		t.Errorf("%+v, %v", out, err)
	}
	name("bob")
	write("10.0.0.1,carl,\n10.0.0.0/24,dora,\n")
	if _, err := r.Reload(t.Context(), r.config(r.text)); !errors.Is(err, roster.ErrStatic) || !strings.Contains(err.Error(), "line 3 and line 2") {
		t.Errorf("%v", err)
	}
	name("bob")
	r.shut()
	if _, err := Open(t.Context(), r.options()); !errors.Is(err, roster.ErrStatic) {
		t.Errorf("a start with a broken table: %v", err)
	}
	write("10.0.0.1,bob,\n")
	r.open()
	name("bob")
}
