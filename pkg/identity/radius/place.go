package radius

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

// Attributes of RFC 5580 §4.
const (
	attrOperatorName        = 126
	attrLocationInformation = 127
	attrLocationData        = 128
)

// Place says where a session is that comes by a certain access server, access
// point or port. All that is not "" must fit; the first that fits counts.
type Place struct {
	NAS    string // NAS-Identifier, or NAS address
	Called string // what Called-Station-Id begins with; letter case and - : . do not count
	Port   string // what NAS-Port-Id begins with
	Text   string
}

// maxPlace bounds the text of a place, in bytes.
const maxPlace = 255

// place returns where the session is: what the table says, the called station
// or else the port, and what the access server says of its location.
func (r *reader) place() string {
	called, port := r.text(rfc2865.CalledStationID_Type), r.text(rfc2869.NASPortID_Type)
	var parts []string
	if r.tables != nil {
		if text, ok := r.tables.place(r.text(rfc2865.NASIdentifier_Type), r.nasAddress(), called, port); ok {
			parts = append(parts, text)
		}
	}
	switch {
	case called != "":
		parts = append(parts, called)
	case port != "":
		parts = append(parts, port)
	}
	if where := r.location(); where != "" {
		parts = append(parts, where)
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return shorten(strings.Join(parts, "; "), maxPlace)
}

func (t *tables) place(id, addr, called, port string) (string, bool) {
	for i := range t.places {
		p := &t.places[i]
		if p.NAS != "" && p.NAS != id && p.NAS != addr ||
			p.Called != "" && !strings.HasPrefix(station(called), p.Called) ||
			p.Port != "" && !strings.HasPrefix(port, p.Port) {
			continue
		}
		return p.Text, true
	}
	return "", false
}

// station brings the notations of a Called-Station-Id to one.
func station(s string) string {
	return strings.Map(func(c rune) rune {
		if c == '-' || c == ':' || c == '.' {
			return -1
		}
		return c
	}, strings.ToLower(s))
}

// shorten cuts s to at most n bytes, between characters.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// location puts Operator-Name, and Location-Data by the profile that the
// Location-Information of the same index says, into words (RFC 5580 §4.1 to
// §4.3). The location of the access server comes before that of the device.
func (r *reader) location() string {
	if _, ok := r.attrs.Lookup(attrLocationData); !ok {
		if _, ok := r.attrs.Lookup(attrOperatorName); !ok {
			return ""
		}
	}
	profiles := map[uint16]byte{}
	for _, a := range r.attrs {
		if a.Type != attrLocationInformation {
			continue
		}
		if len(a.Attribute) < 20 { // index, code, entity, sighting time, time to live
			r.notes[noteBadAttribute] = true
			continue
		}
		profiles[binary.BigEndian.Uint16(a.Attribute)] = a.Attribute[2]
	}
	var parts []string
	for _, a := range r.attrs {
		text, ok := "", true
		switch a.Type {
		case attrOperatorName:
			text, ok = operatorName(a.Attribute)
		case attrLocationData:
			text, ok = locationData(a.Attribute, profiles)
		default:
			continue
		}
		if !ok {
			r.notes[noteBadAttribute] = true
		} else if text != "" {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, "; ")
}

// operatorName reads RFC 5580 §4.1: a byte that names the namespace ('0' TADIG,
// '1' realm, '2' E.212, '3' ICC), then the name.
func operatorName(b []byte) (string, bool) {
	if len(b) < 2 || b[0] < '0' || b[0] > '9' {
		return "", false
	}
	return "operator " + clean(b[1:]), true
}

// Location profiles (RFC 5580 §4.2).
const (
	profileCivic = 0
	profileGeo   = 1
)

func locationData(b []byte, profiles map[uint16]byte) (string, bool) {
	if len(b) < 3 {
		return "", false
	}
	profile, known := profiles[binary.BigEndian.Uint16(b)]
	switch {
	case known && profile == profileCivic:
		return civic(b[2:])
	case known && profile == profileGeo:
		return geo(b[2:])
	}
	return "", !known // without its information it cannot be read, and is no fault of its own
}

// civic reads a country of two letters and elements of type, length and value
// (RFC 5580 §4.3.1, RFC 4776 §3.3). Values are printed in the order in which
// they are sent, but for language and script.
func civic(b []byte) (string, bool) {
	const language, script = 0, 128
	if len(b) < 2 {
		return "", false
	}
	parts := []string{clean(b[:2])}
	for b = b[2:]; len(b) > 0; {
		if len(b) < 2 || 2+int(b[1]) > len(b) {
			return "", false
		}
		if v := clean(b[2 : 2+b[1]]); v != "" && b[0] != language && b[0] != script {
			parts = append(parts, v)
		}
		b = b[2+int(b[1]):]
	}
	return strings.Join(parts, ", "), true
}

// geo reads the 16 bytes of RFC 3825 §2: latitude and longitude are numbers of
// 34 bits, 25 of them behind the point, of which the first so many are meant.
func geo(b []byte) (string, bool) {
	if len(b) != 16 {
		return "", false
	}
	latRes, lat := geoNumber(b[0:5])
	lonRes, lon := geoNumber(b[5:10])
	if latRes > 34 || lonRes > 34 || math.Abs(lat) > 90 || math.Abs(lon) > 180 {
		return "", false
	}
	within := math.Max(math.Exp2(float64(9-latRes)), math.Exp2(float64(9-lonRes))) // degrees
	return strconv.FormatFloat(lat, 'f', 5, 64) + " " + strconv.FormatFloat(lon, 'f', 5, 64) +
		" ±" + strconv.FormatFloat(math.Ceil(within*metresPerDegree), 'f', 0, 64) + " m", true
}

// metresPerDegree of latitude, and at most so many of longitude.
const metresPerDegree = 111_320

// geoNumber reads six bits of resolution and a number in degrees.
func geoNumber(b []byte) (resolution int, degrees float64) {
	n := uint64(b[0])<<32 | uint64(binary.BigEndian.Uint32(b[1:]))
	v := int64(n<<30) >> 30 // the low 34 bits, with their sign
	return int(n >> 34), float64(v) / (1 << 25)
}
