package identity

import "testing"

func TestParseMAC(t *testing.T) {
	for in, want := range map[string]string{
		"E6-FB-DF-05-7A-88":  "e6:fb:df:05:7a:88",
		"e6:fb:df:05:7a:88":  "e6:fb:df:05:7a:88",
		"E6fb.df05.7a88":     "e6:fb:df:05:7a:88",
		"e6fbdf057a88":       "e6:fb:df:05:7a:88",
		"00-11-22-33-44-55":  "00:11:22:33:44:55",
		"004512345678":       "", // a telephone number
		"+4512345678":        "",
		"e6:fb-df:05:7a:88":  "",
		"e6:fb:df:05:7a:8":   "",
		"e6:fb:df:05:7a:888": "",
		"e6fb:df05:7a88":     "",
		"e6::fb:df:05:7a88":  "",
		":e6:fb:df:05:7a:88": "",
		"e6:fb:df:05:7a:88:": "",
		"e6fbdf057a8g":       "",
		"":                   "",
	} {
		got, ok := ParseMAC(in)
		if got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v", in, got, ok)
		}
	}
}
