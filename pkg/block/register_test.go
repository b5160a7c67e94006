package block

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/pkg/session"
)

func someSubscribers() []Subscriber {
	return []Subscriber{
		{ID: "a", Name: "Anna Ærø", Address: "Road 1\n1000 Town", Services: "fibre 1000", To: session.Forever},
		{ID: "b", From: 1e18, To: 1e18},
		{ID: "b", From: 1e18 + 1, To: farthest - 1, Name: strings.Repeat("x", MaxText)},
		{ID: "ø", Name: "", From: farthest - 1, To: session.Forever},
	}
}

func TestARegisterComesBackAsItWas(t *testing.T) {
	want := someSubscribers()
	b, err := NewEncoder().Register([]byte("before"), aHeader(), want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := NewDecoder().Register(b[len("before"):])
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	h, err := ReadHeader(b[len("before"):])
	if err != nil || h.Kind != KindRegister || h.Count != 4 || h.MinStart != 0 || h.MaxEnd != MaxMilli {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestWhatNoRegisterMayHoldIsRefused(t *testing.T) {
	for name, rows := range map[string][]Subscriber{
		"nothing":               nil,
		"out of order":          {{ID: "b", To: session.Forever}, {ID: "a", To: session.Forever}},
		"ends before it begins": {{ID: "a", From: 2, To: 1}},
		"before 1970":           {{ID: "a", From: -1, To: session.Forever}},
		"a text without end":    {{ID: "a", Name: strings.Repeat("x", MaxText+1), To: session.Forever}},
	} {
		if b, err := NewEncoder().Register(nil, aHeader(), rows); err == nil || b != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewDecoder().Register([]byte("EDGB")); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

func TestADirectoryLeadsToThePagesOfASubscriber(t *testing.T) {
	d := &Directory{Imported: 5, From: 7, Partial: true, Rows: 9, File: [32]byte{1, 31: 2}, First: []string{"a", "c", "c", "c", "f"}}
	b, err := NewEncoder().Directory(nil, aHeader(), d)
	if err != nil {
		t.Fatal(err)
	}
	got, err := NewDecoder().Directory(b)
	if err != nil || !reflect.DeepEqual(got, d) {
		t.Errorf("%+v, %v", got, err)
	}
	for id, want := range map[string][2]int{"": {0, 0}, "a": {0, 1}, "b": {0, 1}, "c": {0, 4}, "d": {3, 4}, "f": {3, 5}, "z": {4, 5}} {
		if from, to := d.Pages(id); [2]int{from, to} != want {
			t.Errorf("%q is looked for in pages %d to %d, want %v", id, from, to, want)
		}
	}
}

func FuzzRegister(f *testing.F) {
	b, err := NewEncoder().Register(nil, aHeader(), someSubscribers())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	if b, err = NewEncoder().Directory(nil, aHeader(), &Directory{First: []string{"a", "b"}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		d, e := NewDecoder(), NewEncoder()
		if rows, err := d.Register(b); err == nil {
			again, err := e.Register(nil, aHeader(), rows)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := d.Register(again); err != nil || fmt.Sprint(got) != fmt.Sprint(rows) {
				t.Errorf("%v", err)
			}
		}
		if dir, err := d.Directory(b); err == nil {
			dir.Pages("a")
			if _, err := e.Directory(nil, aHeader(), dir); err != nil {
				t.Error(err)
			}
		}
	})
}
