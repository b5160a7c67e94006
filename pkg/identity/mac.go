package identity

import "strings"

// ParseMAC returns a MAC address in the form of Binding.Equipment, lower case
// with colons. It knows the notations of RADIUS and DHCP servers:
// 00-11-22-AA-BB-CC (RFC 3580 §3.21), 00:11:22:aa:bb:cc, 0011.22aa.bbcc and
// 001122aabbcc. The last must have a letter in it: twelve digits alone may be
// a telephone number.
func ParseMAC(s string) (string, bool) {
	var hex strings.Builder
	letters, sep := false, byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20 // lower case, for letters
		switch {
		case s[i] >= '0' && s[i] <= '9':
			hex.WriteByte(s[i])
		case c >= 'a' && c <= 'f':
			hex.WriteByte(c)
			letters = true
		case s[i] == '-' || s[i] == ':' || s[i] == '.':
			if sep != 0 && sep != s[i] {
				return "", false
			}
			sep = s[i]
			group := 2
			if sep == '.' {
				group = 4
			}
			if hex.Len() == 0 || hex.Len()%group != 0 || i+1 == len(s) || s[i-1] == sep {
				return "", false
			}
		default:
			return "", false
		}
	}
	h := hex.String()
	wantLen := map[byte]int{0: 12, '.': 14, '-': 17, ':': 17}[sep]
	if len(h) != 12 || len(s) != wantLen || sep == 0 && !letters {
		return "", false
	}
	return h[0:2] + ":" + h[2:4] + ":" + h[4:6] + ":" + h[6:8] + ":" + h[8:10] + ":" + h[10:12], true
}
