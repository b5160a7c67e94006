package session

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Numbering says how numbers that are not written internationally are meant. The zero
// Numbering refuses them, but for service numbers.
type Numbering struct {
	Country string // country code, digits without +; "": national numbers are refused
	Trunk   string // what is dialled before a national number and is no part of it, as 0 in Germany; "": nothing
	Short   int    // numbers of at most so many digits are service numbers, which have no country; 0: 6
}

// Limits of parties, in bytes.
const (
	maxDigits   = 15  // E.164 §6
	minDigits   = 5   // with the country code: shorter ones are written by mistake
	maxAddress  = 320 // RFC 5321 §4.5.3.1: 64, @ and 255
	maxSenderID = 11  // TS 23.038 §6.2.1, TS 23.040 §9.1.2.5: characters of an alphanumeric sender
	usualShort  = 6
)

// Errors of parties. They say nothing of what was written.
var (
	errNumber   = errors.New("it is not a telephone number; write it as +4512345678")
	errCountry  = errors.New("it is a national number, and no country code was given; write it as +4512345678, or say whose it is: import --country 45, request --number-country 45")
	errDigits   = errors.New("it has not 5 to 15 digits, as an international number has")
	errAddress  = errors.New("it is not a mail address; write it as name@example.net")
	errSenderID = errors.New("it is not a number, nor the name of a sender: up to 11 letters and digits")
)

// ParseNumber returns a telephone number in the one form in which numbers are kept and
// asked for: E.164 with a leading +, without spaces, brackets, dots, dashes and slashes; a
// service number as its digits alone (112); a user of internet telephony as user@domain, without
// "sip:", the domain in lower case. 00 in front is taken for +.
func (n Numbering) ParseNumber(s string) (string, error) {
	if strings.Contains(s, "@") {
		for _, scheme := range []string{"sip:", "sips:", "SIP:", "SIPS:"} {
			s = strings.TrimPrefix(s, scheme)
		}
		return ParseMailAddress(s)
	}
	s = strings.TrimPrefix(s, "tel:")
	if !plainNumber(s) {
		var ok bool
		if s, ok = strip(s); !ok {
			return "", errNumber
		}
	}
	short := n.Short
	if short == 0 {
		short = usualShort
	}
	international, is := strings.CutPrefix(s, "+")
	if !is {
		international, is = strings.CutPrefix(s, "00")
	}
	switch {
	case is && international == "", !is && s == "":
		return "", errNumber
	case is:
	case len(s) <= short && s[0] != '0':
		return s, nil
	case n.Country == "":
		return "", errCountry
	default:
		international = n.Country + strings.TrimPrefix(s, n.Trunk)
	}
	if len(international) < minDigits || len(international) > maxDigits || international[0] == '0' {
		return "", errDigits
	}
	if is && len(international) == len(s)-1 {
		return s, nil // it was written so
	}
	return "+" + international, nil
}

// ParseSender is ParseNumber, and lets the name of a sender pass that short messages
// have in the place of a number.
func (n Numbering) ParseSender(s string) (string, error) {
	number, err := n.ParseNumber(s)
	if err == nil || !errors.Is(err, errNumber) {
		return number, err
	}
	letter := false
	for _, c := range []byte(s) {
		if c <= ' ' && (c != ' ' || !letter) || c >= 0x7f || c == '+' {
			return "", errSenderID
		}
		letter = letter || c|0x20 >= 'a' && c|0x20 <= 'z'
	}
	if !letter || len(s) > maxSenderID || strings.HasSuffix(s, " ") {
		return "", errSenderID
	}
	return s, nil
}

// plainNumber reports whether s is digits, after at most one +.
func plainNumber(s string) bool {
	if s == "" {
		return false
	}
	for i, c := range []byte(s) {
		if (c < '0' || c > '9') && (c != '+' || i > 0) {
			return false
		}
	}
	return true
}

// strip takes out what makes numbers easier to read.
func strip(s string) (string, bool) {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9', c == '+' && b.Len() == 0:
			b.WriteByte(c)
		case strings.IndexByte(" -./()", c) < 0:
			return "", false
		}
	}
	return b.String(), true
}

// ParseMailAddress returns a mail address in the one form in which addresses are
// kept and asked for: the part before the last @ as it is written, since only its server knows
// what it means; the domain in lower case, without a dot at its end. An internationalised domain stays in
// the form in which it is written: xn--… and its letters are two.
func ParseMailAddress(s string) (string, error) {
	if inner, ok := strings.CutPrefix(s, "<"); ok {
		if s, ok = strings.CutSuffix(inner, ">"); !ok {
			return "", errAddress
		}
	}
	at := strings.LastIndexByte(s, '@')
	if at < 1 || len(s) > maxAddress || !utf8.ValidString(s) {
		return "", errAddress
	}
	local, domain := s[:at], strings.TrimSuffix(s[at+1:], ".")
	if domain == "" || domain[0] == '.' || strings.HasSuffix(domain, ".") || strings.ContainsFunc(domain, notInDomain) || strings.ContainsFunc(local, notInLocal(local)) {
		return "", errAddress
	}
	lower := strings.ToLower(domain)
	if !utf8.ValidString(lower) || len(local)+1+len(lower) > maxAddress {
		return "", errAddress
	}
	if lower == s[at+1:] {
		return s, nil
	}
	return local + "@" + lower, nil
}

func notInDomain(r rune) bool {
	return r <= ' ' || r == 0x7f || strings.ContainsRune(`"(),;<>\`, r)
}

// notInLocal returns what a local part may not hold: more where it is not quoted.
func notInLocal(local string) func(rune) bool {
	quoted := len(local) > 1 && local[0] == '"' && local[len(local)-1] == '"'
	return func(r rune) bool {
		if r < ' ' || r == 0x7f {
			return true
		}
		return !quoted && (r == ' ' || strings.ContainsRune(`"(),:;<>@[]\`, r))
	}
}

// EquipmentKey returns what identifies a mobile's equipment: the first 14 digits of an IMEI.
// The 15th, a check digit, and the 15th and 16th of an IMEISV, the version of its software, are
// written in one record and left out in another (TS 23.003 §6.2).
func EquipmentKey(imei string) string {
	if len(imei) > 14 {
		return imei[:14]
	}
	return imei
}
