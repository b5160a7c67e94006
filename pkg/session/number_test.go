package session

import (
	"strings"
	"testing"
)

func TestANumberHasOneForm(t *testing.T) {
	danish, german := Numbering{Country: "45"}, Numbering{Country: "49", Trunk: "0"}
	for _, c := range []struct {
		name string
		how  Numbering
		text string
		want string // "": it is refused
	}{
		{"international", Numbering{}, "+4512345678", "+4512345678"},
		{"with spaces", Numbering{}, " +45 12 34-56.78 ", "+4512345678"},
		{"with brackets and a slash", Numbering{}, "+49 (30) 123/456", "+4930123456"},
		{"with two zeros in front", Numbering{}, "004512345678", "+4512345678"},
		{"as a tel URI", Numbering{}, "tel:+45-1234-5678", "+4512345678"},
		{"national, of a known country", danish, "12 34 56 78", "+4512345678"},
		{"national, of no country", Numbering{}, "12345678", ""},
		{"international in spite of a country", danish, "+4612345678", "+4612345678"},
		{"with a trunk prefix", german, "030 123456", "+4930123456"},
		{"with a zero that is part of it", Numbering{Country: "39"}, "06 1234567", "+39061234567"},
		{"a service number", danish, "112", "112"},
		{"a harmonised service number", Numbering{}, "116000", "116000"},
		{"a short national number", Numbering{Country: "298", Short: 5}, "123456", "+298123456"},
		{"too long", Numbering{}, "+1234567890123456", ""},
		{"too short", Numbering{}, "+4512", ""},
		{"a country that is none", Numbering{}, "+0123456", ""},
		{"nothing", danish, "", ""},
		{"a plus alone", danish, "+", ""},
		{"two pluses", danish, "++4512345678", ""},
		{"a letter in it", danish, "1234567O", ""},
		{"zeros alone", danish, "00", ""},
		{"digits of another script", danish, "١٢٣٤٥٦٧٨", ""},
		{"a user of internet telephony", Numbering{}, "sip:Alice@VoIP.Example.NET", "Alice@voip.example.net"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.how.ParseNumber(c.text)
			if got != c.want || (err == nil) != (c.want != "") {
				t.Fatalf("%q, %v", got, err)
			}
			if again, err := (Numbering{}).ParseNumber(got); got != "" && (again != got || err != nil) {
				t.Errorf("its form has another form: %q, %v", again, err)
			}
		})
	}
}

func TestOnlyASenderMayHaveANameInThePlaceOfANumber(t *testing.T) {
	for text, want := range map[string]string{
		"DSB": "DSB", "My Bank": "My Bank", "+45 12345678": "+4512345678", "Twelve chars": "", " DSB": "", "DSB ": "", "Ærø": "", "1-2-x-+": "", "12345678": "", "\x00a": "",
	} {
		if got, err := (Numbering{}).ParseSender(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestAMailAddressHasOneForm(t *testing.T) {
	for text, want := range map[string]string{
		"Anna.Berg@Example.NET": "Anna.Berg@example.net", "<a@b.example>": "a@b.example", "a@b.example.": "a@b.example", "a@XN--BLBR-0RA.example": "a@xn--blbr-0ra.example",
		"a@BLÅBÆR.example": "a@blåbær.example", `"a b"@c.example`: `"a b"@c.example`, `"a@b"@c.example`: `"a@b"@c.example`, "a@[IPv6:2001:DB8::1]": "a@[ipv6:2001:db8::1]",
		"a+tag|x@b.example": "a+tag|x@b.example", "ærø@b.example": "ærø@b.example",
		"": "", "a": "", "@b.example": "", "a@": "", "a@.": "", "a@b..": "", "a b@c.example": "", "a@b c": "", "a@b@c": "", "<a@b": "", "a;b@c": "", "a@b;c": "", "a@\xff": "", "a\n@b": "",
		strings.Repeat("x", 320) + "@b": "",
	} {
		got, err := ParseMailAddress(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
		if again, err := ParseMailAddress(got); got != "" && (again != got || err != nil) {
			t.Errorf("the form of %q has another form: %q, %v", text, again, err)
		}
	}
}

func FuzzParties(f *testing.F) {
	for _, s := range []string{"+45 12345678", "0045", "a@B.example.", "<x@y>", "sip:a@b", "tel:112", "DSB", "sip:sips:a@b"} {
		f.Add(s, "45", "0")
	}
	f.Fuzz(func(t *testing.T, s, country, trunk string) {
		if len(country) > 3 || !plainNumber(country) || country[0] == '+' || country[0] == '0' {
			country = ""
		}
		for _, n := range []Numbering{{}, {Country: country, Trunk: trunk}} {
			for _, parse := range []func(string) (string, error){n.ParseNumber, n.ParseSender, ParseMailAddress} {
				got, err := parse(s)
				if err != nil {
					continue
				}
				again, err := (Numbering{}).ParseSender(got)
				if strings.Contains(got, "@") {
					again, err = ParseMailAddress(got)
				}
				if err != nil || again != got || got == "" {
					t.Fatalf("%q became %q, and that %q, %v", s, got, again, err)
				}
			}
		}
	})
}

func TestCommunicationsThatDifferInAnyFieldAreTwo(t *testing.T) {
	whole := func() Communication {
		return Communication{Kind: Call, Service: "voice", From: "+451", To: []string{"+452"}, Forwarded: []string{"+453"}, Start: 1e6, End: 2e6}
	}
	base := whole()
	seen := map[CommunicationID]string{base.ID(): "as it is"}
	for name, change := range map[string]func(c *Communication){
		"kind": func(c *Communication) { c.Kind = Mail }, "from": func(c *Communication) { c.From = "" }, "to": func(c *Communication) { c.To = []string{"+452", "+453"} },
		"forwarded": func(c *Communication) { c.Forwarded = nil }, "forwarded and not called": func(c *Communication) { c.To, c.Forwarded = nil, []string{"+452", "+453"} },
		"start": func(c *Communication) { c.Start = 0 }, "end": func(c *Communication) { c.End = 3e6 }, "delivered": func(c *Communication) { c.Delivered = NotDelivered },
	} {
		c := whole()
		change(&c)
		if other, twice := seen[c.ID()]; twice {
			t.Errorf("%s: it is the same as %s", name, other)
		}
		seen[c.ID()] = name
	}
	for i := range base.Texts() {
		c := whole()
		*c.Texts()[i] += "x"
		if other, twice := seen[c.ID()]; twice {
			t.Errorf("text %d: it is the same as %s", i, other)
		}
		seen[c.ID()] = "a text"
	}
	if !base.Has("+453") || base.Has("+45") {
		t.Error("its parties are not found, or others are")
	}
}
