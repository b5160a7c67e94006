package roster

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

const people = "id;name;address;services;valid_from;valid_to\nbob;Bob Holm;;fibre;;\nanna;Anna Berg;\"Gade 1\n8000 Aarhus\";\"tv; fibre\";2025-01-01;2025-06-01\nanna;Anna Holm;Gade 1;fibre;2025-06-01;\n"

func TestARegisterIsReadInTheOrderOfItsIDs(t *testing.T) {
	rows, err := ParseRegister(strings.NewReader(people))
	if err != nil {
		t.Fatal(err)
	}
	june := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	if len(rows) != 3 || rows[0].Name != "Anna Berg" || rows[0].To != june || rows[1].From != june || rows[1].To != session.Forever ||
		rows[0].Services != "tv; fibre" || rows[2].ID != "bob" || rows[2].From != 0 {
		t.Errorf("%+v", rows)
	}
}

func TestABrokenRegisterIsRefusedByLineAndColumnWithoutItsContent(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "it is empty",
		"id,phone\n":                       "column 2 has no name that is known",
		"id,address\n":                     `"name" is missing`,
		"id,name\na,Secret\n,Secret\n":     "line 3: the id is missing",
		"id,name\na,Secret\na,Secret\n":    "lines 2 and 3 are about one id",
		"id,name,valid_from\na,Secret,x\n": "line 2, column 10 (valid_from): it is not a time",
		"id,name\na,Secret,b\n":            "line 2",
		"id,name,valid_from,valid_to\na,Secret,2026-01-01,2025-01-01\n": "ends before it begins",
		"id,name\na," + strings.Repeat("x", 1025) + "\n":                "longer than 1024",
	} {
		rows, err := ParseRegister(strings.NewReader(text))
		if !errors.Is(err, ErrRegister) || !strings.Contains(err.Error(), want) || rows != nil && err == nil || strings.Contains(err.Error(), "Secret") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzRegister(f *testing.F) {
	f.Add(people)
	f.Add("\ufeffname,id\nx,y\n")
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := ParseRegister(strings.NewReader(text))
		if err != nil && !errors.Is(err, ErrRegister) {
			t.Fatal(err)
		}
		for i := range rows {
			if err == nil && (rows[i].ID == "" || rows[i].From >= rows[i].To) {
				t.Fatalf("row %d: %+v", i, rows[i])
			}
		}
	})
}
