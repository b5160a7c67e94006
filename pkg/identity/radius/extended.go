package radius

import (
	"encoding/binary"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
)

// Extended attributes (RFC 6929 §2): 241 to 244 carry one byte of type before
// their value, 245 and 246 a byte of flags too and may go on in the next
// attribute. Type 26 of each is vendor-specific (§2.4).
const (
	firstExtended = 241
	firstLong     = 245
	lastExtended  = 246

	extendedVendor = 26
	flagMore       = 0x80

	maxLong = 4096 // of a value put together: no packet carries more
)

// extended is one extended attribute, put together again.
type extended struct {
	space byte // 241 to 246
	kind  byte
	value []byte
}

// eachExtended calls f for each extended attribute, in order. bad is called for
// one that breaks RFC 6929.
func eachExtended(attrs codec.Attributes, f func(extended), bad func()) {
	for i := 0; i < len(attrs); i++ {
		space, v := byte(attrs[i].Type), attrs[i].Attribute
		if attrs[i].Type < firstExtended || attrs[i].Type > lastExtended {
			continue
		}
		if space < firstLong {
			if len(v) < 2 { // §2.1: a value has at least one byte
				bad()
				continue
			}
			f(extended{space, v[0], v[1:]})
			continue
		}
		if len(v) < 3 {
			bad()
			continue
		}
		kind, more, value := v[0], v[1]&flagMore != 0, v[2:]
		for more { // §2.2: the next fragment follows at once
			if i+1 == len(attrs) || byte(attrs[i+1].Type) != space || len(attrs[i+1].Attribute) < 3 || attrs[i+1].Attribute[0] != kind || len(value) > maxLong {
				break
			}
			i++
			v = attrs[i].Attribute
			more = v[1]&flagMore != 0
			value = append(value[:len(value):len(value)], v[2:]...)
		}
		if more {
			bad()
			continue
		}
		f(extended{space, kind, value})
	}
}

// eachTLV walks through type-length-value triples (RFC 6929 §2.3), whose length
// counts the two bytes before the value, and reports whether they fit.
func eachTLV(b []byte, f func(kind byte, value []byte)) bool {
	for len(b) > 0 {
		if len(b) < 2 || int(b[1]) < 2 || int(b[1]) > len(b) {
			return false
		}
		f(b[0], b[2:b[1]])
		b = b[b[1]:]
	}
	return true
}

// vendorLayout is how long type and length of a vendor's own attributes are,
// in bytes, for those who do not keep to RFC 2865 §5.26.
type vendorLayout struct{ kind, length int }

var vendorLayouts = map[uint32]vendorLayout{
	429:  {4, 0}, // US Robotics
	4846: {2, 1}, // Lucent
	8164: {2, 2}, // Starent
}

// eachVendor calls f for each attribute of a vendor, in the classical form and
// in the extended one.
func eachVendor(attrs codec.Attributes, f func(vendor, kind uint32, value []byte), bad func()) {
	for _, a := range attrs {
		if a.Type != rfc2865.VendorSpecific_Type {
			continue
		}
		if len(a.Attribute) < 5 {
			bad()
			continue
		}
		vendor := binary.BigEndian.Uint32(a.Attribute)
		if vendor>>24 != 0 || !eachOfVendor(vendor, a.Attribute[4:], f) {
			bad()
		}
	}
	eachExtended(attrs, func(x extended) {
		if x.kind != extendedVendor {
			return
		}
		if len(x.value) < 6 {
			bad()
			return
		}
		f(binary.BigEndian.Uint32(x.value), uint32(x.value[4]), x.value[5:])
	}, func() {}) // bad ones are noted where others are looked for
}

func eachOfVendor(vendor uint32, b []byte, f func(vendor, kind uint32, value []byte)) bool {
	l, ok := vendorLayouts[vendor]
	if !ok {
		l = vendorLayout{1, 1}
	}
	head := l.kind + l.length
	for len(b) > 0 {
		if len(b) < head {
			return false
		}
		kind, n := bigEndian(b[:l.kind]), len(b)
		if l.length > 0 {
			n = int(bigEndian(b[l.kind:head]))
		}
		if n < head || n > len(b) {
			return false
		}
		f(vendor, kind, b[head:n])
		b = b[n:]
	}
	return true
}

func bigEndian(b []byte) (n uint32) {
	for _, c := range b {
		n = n<<8 | uint32(c)
	}
	return n
}
