package nat

import (
	"encoding/binary"
	"errors"
	"time"
)

// What stands in a datagram of IPFIX (RFC 7011) or NetFlow version 9 (RFC
// 3954).
const (
	ipfixVersion = 10
	ipfixHeader  = 16
	v9Version    = 9
	v9Header     = 20
	setHeader    = 4

	setTemplates   = 2 // RFC 7011 §3.3.2
	setOptions     = 3
	setV9Templates = 0
	setV9Options   = 1
	firstData      = 256

	variable   = 65535   // a field's length: it stands before the value
	enterprise = 1 << 15 // of a field's number
)

// Elements that are read (IANA, IPFIX Information Elements).
const (
	ieProto         = 4
	ieSrcPort       = 7
	ieSrc4          = 8
	ieDstPort       = 11
	ieDst4          = 12
	ieSrc6          = 27
	ieDst6          = 28
	ieFlowStart     = 152
	iePostSrc4      = 225
	iePostDst4      = 226
	iePostSrcPort   = 227
	iePostDstPort   = 228
	ieNATEvent      = 230
	iePostSrc6      = 281
	iePostDst6      = 282
	ieTimeSeconds   = 322
	ieTimeMillis    = 323
	iePortStart     = 361
	iePortEnd       = 362
	iePortStep      = 363
	iePortNum       = 364
	ieUserName      = 371
	maxUserName     = 253
	maxTemplates    = 256 // of one exporter's domain
	maxFields       = 128 // of a template
	maxDomains      = 256
	maxPending      = 1 << 20 // bytes of data that wait for their template, of one domain
	pendingCost     = 64      // bytes of memory for each set of them
	templateExpires = 2 * time.Hour
)

var (
	errShort    = errors.New("it ends too early")
	errVersion  = errors.New("neither IPFIX nor NetFlow version 9")
	errTemplate = errors.New("a template that is not one")
)

// field is a part of a template.
type field struct {
	id     uint16 // 0: not one that is read
	length uint16
}

// template says what the records of a set hold.
type template struct {
	fields  []field
	least   int // bytes of the shortest record
	options bool
	at      time.Time // when it was last sent
}

// domain is what is known of one observation domain of one exporter.
type domain struct {
	templates map[uint16]*template
	waiting   []pending
	bytes     int
	next      uint32 // the sequence number that comes next
	known     bool   // whether it is
}

// pending is a set that came before its template.
type pending struct {
	id   uint16
	data []byte
	at   int64
}

// datagram is one, with its header read.
type datagram struct {
	version  uint16
	sequence uint32
	domain   uint32
	exported int64 // UTC, ns
	sets     []byte
}

// open reads the header.
func (d *datagram) open(b []byte) error {
	if len(b) < ipfixHeader {
		return errShort
	}
	d.version = binary.BigEndian.Uint16(b)
	switch d.version {
	case ipfixVersion:
		size := int(binary.BigEndian.Uint16(b[2:]))
		if size < ipfixHeader || size > len(b) {
			return errShort
		}
		d.exported = int64(binary.BigEndian.Uint32(b[4:])) * 1e9
		d.sequence, d.domain, d.sets = binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:]), b[ipfixHeader:size]
	case v9Version:
		if len(b) < v9Header {
			return errShort
		}
		d.exported = int64(binary.BigEndian.Uint32(b[8:])) * 1e9
		d.sequence, d.domain, d.sets = binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint32(b[16:]), b[v9Header:]
	default:
		return errVersion
	}
	return nil
}

// set takes the first set off the datagram.
func (d *datagram) set() (id uint16, body []byte, err error) {
	if len(d.sets) < setHeader {
		return 0, nil, errShort
	}
	id = binary.BigEndian.Uint16(d.sets)
	size := int(binary.BigEndian.Uint16(d.sets[2:]))
	if size < setHeader || size > len(d.sets) {
		return 0, nil, errShort
	}
	body, d.sets = d.sets[setHeader:size], d.sets[size:]
	return id, body, nil
}

// isTemplates says whether a set holds templates, and of options.
func (d *datagram) isTemplates(id uint16) (yes, options bool) {
	if d.version == v9Version {
		return id == setV9Templates || id == setV9Options, id == setV9Options
	}
	return id == setTemplates || id == setOptions, id == setOptions
}

// learn takes the templates of a set. It returns how many, and the ids of those.
func (m *domain) learn(d *datagram, b []byte, options bool, now time.Time) (ids []uint16, err error) {
	for len(b) >= 4 { // less is padding
		id, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		b = b[4:]
		if id < firstData {
			if id == 0 && n == 0 && d.version == v9Version {
				return ids, nil // padding
			}
			if n == 0 { // RFC 7011 §8.1: withdraw all
				clear(m.templates)
				continue
			}
			return ids, errTemplate
		}
		if n == 0 {
			delete(m.templates, id)
			continue
		}
		t := &template{options: options, at: now}
		if options {
			if len(b) < 2 {
				return ids, errShort
			}
			if d.version == v9Version { // lengths in bytes: of the scope, of the rest
				if len(b) < 2 || (n+int(binary.BigEndian.Uint16(b)))%4 != 0 {
					return ids, errTemplate
				}
				n = (n + int(binary.BigEndian.Uint16(b))) / 4
			}
			b = b[2:]
		}
		if b, err = t.read(b, n, d.version == ipfixVersion); err != nil {
			return ids, err
		}
		if _, known := m.templates[id]; !known && len(m.templates) >= maxTemplates {
			return ids, errTemplate
		}
		m.templates[id] = t
		ids = append(ids, id)
	}
	return ids, nil
}

// read takes n fields.
func (t *template) read(b []byte, n int, enterprises bool) ([]byte, error) {
	if n > maxFields {
		return nil, errTemplate
	}
	for range n {
		if len(b) < 4 {
			return nil, errShort
		}
		f := field{binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])}
		b = b[4:]
		if enterprises && f.id&enterprise != 0 {
			if len(b) < 4 {
				return nil, errShort
			}
			f.id, b = 0, b[4:]
		}
		if f.length == variable && enterprises {
			t.least++
		} else {
			t.least += int(f.length)
		}
		t.fields = append(t.fields, f)
	}
	if t.least == 0 {
		return nil, errTemplate // its records would be without end
	}
	return b, nil
}

// record is what is read of one.
type record struct {
	event                            uint8
	proto                            uint8
	src, dst, postSrc, postDst       end
	hasPostSrc, hasPostDst, hasPorts bool
	first, last, step, num           uint16
	at                               int64 // UTC, ns; 0: not told
	user                             string
}

// records calls fn with each record of a data set; it returns how many there
// were.
func (t *template) records(b []byte, fn func(*record)) (n int, err error) {
	for len(b) >= t.least { // less is padding
		var r record
		for _, f := range t.fields {
			size := int(f.length)
			if f.length == variable {
				if size, b, err = varLength(b); err != nil {
					return n, err
				}
			}
			if size > len(b) {
				return n, errShort
			}
			r.set(f.id, b[:size])
			b = b[size:]
		}
		n++
		if !t.options {
			fn(&r)
		}
	}
	return n, nil
}

// varLength reads the length of a field (RFC 7011 §7).
func varLength(b []byte) (int, []byte, error) {
	switch {
	case len(b) >= 1 && b[0] < 255:
		return int(b[0]), b[1:], nil
	case len(b) >= 3:
		return int(binary.BigEndian.Uint16(b[1:])), b[3:], nil
	}
	return 0, nil, errShort
}
