package identity

import (
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/pkg/session"
)

// parseShown reads what show prints, with the session in front: "a: anna
// 192.0.2.1/32 10..20~".
func parseShown(t *testing.T, line string) session.Binding {
	t.Helper()
	f := strings.Fields(line)
	b := session.Binding{SourceKey: f[0], Subscriber: f[1], Prefix: netip.MustParsePrefix(f[2]), LastPort: 65535}
	from, to, _ := strings.Cut(f[3], "..")
	num := func(s string, inferred session.Certainty) int64 {
		if s == "-" {
			return session.Forever
		}
		if strings.HasSuffix(s, "~") {
			b.Certainty |= inferred
			s = s[:len(s)-1]
		}
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		return sec(v)
	}
	b.From, b.To = num(from, session.FromInferred), num(to, session.ToInferred)
	return b
}

func TestReaderMergesVersionsInAnyOrder(t *testing.T) {
	for _, c := range []struct {
		name     string
		versions []string
		want     []string
	}{
		{"an end goes before none", []string{"a: anna 192.0.2.1/32 10..-", "a: anna 192.0.2.1/32 10..20"}, []string{"anna 192.0.2.1/32 10..20"}},
		{"an inferred end goes before none", []string{"a: anna 192.0.2.1/32 10..-", "a: anna 192.0.2.1/32 10..20~"}, []string{"anna 192.0.2.1/32 10..20~"}},
		{"a reported end goes before an inferred one", []string{"a: anna 192.0.2.1/32 10..15~", "a: anna 192.0.2.1/32 10..20"}, []string{"anna 192.0.2.1/32 10..20"}},
		{"of two inferred ends the earlier", []string{"a: anna 192.0.2.1/32 10..25~", "a: anna 192.0.2.1/32 10..20~"}, []string{"anna 192.0.2.1/32 10..20~"}},
		{"a late start", []string{"a: anna 192.0.2.1/32 12~..-", "a: anna 192.0.2.1/32 12~..20", "a: anna 192.0.2.1/32 10..20"}, []string{"anna 192.0.2.1/32 10..20"}},
		{"a late start after a wrong estimate", []string{"a: anna 192.0.2.1/32 8~..20", "a: anna 192.0.2.1/32 10..20"}, []string{"anna 192.0.2.1/32 10..20"}},
		{"a stop that came before its start", []string{"a: anna 192.0.2.1/32 20~..20", "a: anna 192.0.2.1/32 10..20"}, []string{"anna 192.0.2.1/32 10..20"}},
		{"an end that only a version without the start has", []string{"a: anna 192.0.2.1/32 10..-", "a: anna 192.0.2.1/32 15~..20"}, []string{"anna 192.0.2.1/32 10..20~"}},
		{"an inferred end before one that was heard of when the start was forgotten", []string{"a: anna 192.0.2.1/32 10..20~", "a: anna 192.0.2.1/32 15~..40", "a: anna 192.0.2.1/32 10..-"},
			[]string{"anna 192.0.2.1/32 10..40~"}},
		{"two stretches of one session stay two", []string{"a: anna 192.0.2.1/32 10..-", "a: anna 192.0.2.1/32 10..20~", "a: anna 192.0.2.1/32 30~..40"},
			[]string{"anna 192.0.2.1/32 10..20~", "anna 192.0.2.1/32 30~..40"}},
		{"an inferred end is no reported one of what follows", []string{"a: anna 192.0.2.1/32 10..20~", "a: anna 192.0.2.1/32 20~..20"},
			[]string{"anna 192.0.2.1/32 10..20~"}},
		{"a session of another key is another binding", []string{"a: anna 192.0.2.1/32 10..20", "b: anna 192.0.2.1/32 10..30"},
			[]string{"anna 192.0.2.1/32 10..20", "anna 192.0.2.1/32 10..30"}},
		{"one without end gives way to the next subscriber", []string{"a: anna 192.0.2.1/32 10..-", "b: bo 192.0.2.1/32 30..-"},
			[]string{"anna 192.0.2.1/32 10..30~", "bo 192.0.2.1/32 30..-"}},
		{"a wrong estimate does not hide behind a reported binding", []string{"a: anna 192.0.2.1/32 5~..-", "a: anna 192.0.2.1/32 30~..-", "b: bo 192.0.2.1/32 10..20"},
			[]string{"anna 192.0.2.1/32 20~..-", "bo 192.0.2.1/32 10..20"}},
		{"the same subscriber on two links", []string{"a: anna 192.0.2.1/32 10..-", "b: anna 192.0.2.1/32 20..30"},
			[]string{"anna 192.0.2.1/32 10..-", "anna 192.0.2.1/32 20..30"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all []session.Binding
			for _, v := range c.versions {
				all = append(all, parseShown(t, v))
			}
			r := rand.New(rand.NewPCG(1, 1))
			for range 10 {
				all = append(all, all[r.IntN(len(all))]) // repetitions
				r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
				want(t, "merged", NewReader(all, ReaderOptions{}).everything(), c.want...)
			}
		})
	}
}
