package roster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

const table = `prefix,subscriber,line,ports,from,until,place
192.0.2.8/29,shop-1,"line; 7",,,,
2001:db8:7::/48,shop-1,,,2025-03-01,,
203.0.113.7,cafe,,1024-2047,2025-03-01T12:00:00Z,2026-03-01,"hall, 2"
203.0.113.7,bakery,,2048-3071,,,
203.0.113.7,florist,,1024-2047,2026-03-01,,
`

func parse(t *testing.T, text string) []Static {
	t.Helper()
	rows, err := ParseStatic(strings.NewReader(text))
	if err == nil {
		err = CheckStatic(rows)
	}
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestATableIsReadWhateverItsSeparatorAndOrder(t *testing.T) {
	rows := parse(t, table)
	if len(rows) != 5 || rows[0].Line != "line; 7" || rows[2].Place != "hall, 2" || rows[2].FirstPort != 1024 || rows[2].LastPort != 2047 || rows[4].Where != "line 6" {
		t.Errorf("%+v", rows)
	}
	other := parse(t, "\ufeffSubscriber; Prefix\r\nshop-1; 192.0.2.8/29\r\n")
	if len(other) != 1 || other[0].Subscriber != "shop-1" || other[0].Prefix != rows[0].Prefix {
		t.Errorf("%+v", other)
	}
}

func TestABrokenTableIsRefusedByLineAndColumnAndTakesNothing(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "it is empty",
		"prefix,name\n":                       "column 2 has no name that is known",
		"prefix,line\n":                       `"subscriber" is missing`,
		"prefix,subscriber,prefix\n":          "twice",
		"prefix,subscriber\n192.0.2.1/24,a\n": "line 2, column 1 (prefix): it has bits set",
		"prefix,subscriber\n192.0.2.0/24,a\nsecret,b\n":                        "line 3, column 1 (prefix): it is not an address",
		"prefix,subscriber\n192.0.2.0/24,a,b\n":                                "line 2",
		"prefix,subscriber\n192.0.2.0/24,\n":                                   "line 2: the subscriber is missing",
		"prefix,subscriber\n0.0.0.0/0,a\n":                                     "every address",
		"prefix,subscriber,ports\n192.0.2.1,a,9-1\n":                           "line 2, column 13 (ports)",
		"prefix,subscriber,ports\n192.0.2.0/24,a,1-9\n":                        "belong to one address",
		"prefix,subscriber,from\n192.0.2.0/24,a,soon\n":                        "column 16 (from): it is not a time",
		"prefix,subscriber,from,until\n192.0.2.0/24,a,2026-01-01,2025-01-01\n": "ends before it begins",
		"prefix,subscriber\n\"192.0.2.0/24,a\n":                                "line 2",
		"prefix,subscriber\n192.0.2.0/24," + strings.Repeat("x", 256) + "\n":   "longer than 255",
	} {
		rows, err := ParseStatic(strings.NewReader(text))
		if !errors.Is(err, ErrStatic) || !strings.Contains(err.Error(), want) || rows != nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, %d rows", text, err, len(rows))
		}
	}
}

func TestRowsThatGiveOneAddressToTwoAreRefusedAndBothNamed(t *testing.T) {
	for _, c := range [][2]string{
		{"192.0.2.0/24,a,,,\n198.51.100.0/24,b,,,\n192.0.2.8/29,c,,,\n", "line 2 and line 4"},
		{"192.0.2.1,a,,,\n192.0.2.1,b,,,\n", "line 2 and line 3"},
		{"192.0.2.1,a,10-20,,\n192.0.2.1,b,20-30,,\n", "line 2 and line 3"},
		{"192.0.2.1,a,,2025-01-01,2025-06-01\n192.0.2.1,b,,2025-05-31,\n", "line 2 and line 3"},
	} {
		rows, err := ParseStatic(strings.NewReader("prefix,subscriber,ports,from,until\n" + c[0]))
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckStatic(rows); !errors.Is(err, ErrStatic) || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: %v", c[0], err)
		}
	}
}

// show is all that is held at a time.
func show(b *identity.Book, at time.Time) string {
	var out []string
	for _, x := range b.Held(at.UnixNano()) {
		to := "-"
		if x.To != session.Forever {
			to = time.Unix(0, x.To).UTC().Format(time.DateOnly)
		}
		out = append(out, fmt.Sprintf("%s %s %s..%s %d", x.Subscriber, x.Prefix, time.Unix(0, x.From).UTC().Format(time.DateOnly), to, x.Certainty))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func TestWhatIsNewInATableBeginsAndWhatIsGoneEnds(t *testing.T) {
	now := time.Date(2025, 9, 1, 0, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	open := func() *identity.Book {
		b, err := identity.Open(dir, identity.Options{Clock: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := open()
	defer func() { b.Close() }()
	read := func(rows []Static) int {
		t.Helper()
		events := Events(rows, b.Held(now.UnixNano()), now)
		if err := b.Apply(context.Background(), events); err != nil {
			t.Fatal(err)
		}
		return len(events)
	}
	rows := parse(t, table)
	read(rows)
	const first = "bakery 203.0.113.7/32 2025-09-01..- 1\ncafe 203.0.113.7/32 2025-03-01..2026-03-01 2\nflorist 203.0.113.7/32 2026-03-01..- 0\n" +
		"shop-1 192.0.2.8/29 2025-09-01..- 1\nshop-1 2001:db8:7::/48 2025-03-01..- 0"
	if got := show(b, now); got != first {
		t.Errorf("at first:\n%s\nwant:\n%s", got, first)
	}
	now = now.Add(24 * time.Hour)
	if n := read(rows); n != 0 {
		t.Errorf("the same table says %d new things", n)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open()
	if n := read(rows); n != 0 {
		t.Errorf("after a restart the same table says %d new things", n)
	}
	now = now.Add(24 * time.Hour)
	rows[0].Subscriber = "shop-2"
	read(append(rows[:2:2], rows[4])) // cafe and bakery are gone
	for _, want := range []string{"shop-2 192.0.2.8/29 2025-09-03..- 1", "florist 203.0.113.7/32 2026-03-01..- 0"} {
		if got := show(b, now); !strings.Contains(got, want) || strings.Contains(got, "cafe") || strings.Contains(got, "bakery") || strings.Contains(got, "shop-1 192") {
			t.Errorf("after a change:\n%s", got)
		}
	}
}

func FuzzStatic(f *testing.F) {
	f.Add(table)
	f.Add("\ufeffsubscriber;prefix\r\n\"a\"\"b\";192.0.2.0/24\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := ParseStatic(strings.NewReader(text))
		if err != nil {
			if !errors.Is(err, ErrStatic) || rows != nil {
				t.Fatalf("%v, %d rows", err, len(rows))
			}
			return
		}
		if CheckStatic(rows) != nil {
			return
		}
		for _, e := range Events(rows, nil, time.Unix(1e9, 0)) {
			if err := e.Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
