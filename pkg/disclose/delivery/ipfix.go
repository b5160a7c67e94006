package delivery

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net/netip"
)

// An IPFIX file (RFC 5655) is a row of messages (RFC 7011 §3):
//
//	offset  size
//	     0     2  10, the version
//	     2     2  length of the message
//	     4     4  export time: here the end of the window, so that the file says
//	              the same whenever it is made
//	     8     4  data records before this message
//	    12     4  observation domain: 1
//	    16        sets: 2 = templates, 3 = options templates, 256 and up = records
//
// A message is short enough to be sent over UDP as it is.
const (
	ipfixVersion  = 10
	messageHead   = 16
	setHead       = 4
	messageLimit  = 1400
	domain        = 1
	setTemplates  = 2
	setOptions    = 3
	firstTemplate = 256

	// reversePEN marks the element of the other direction (RFC 5103 §6.1).
	reversePEN = 29305

	variable = 0xffff // length of an element that says its length itself
	longest  = 1024   // bytes of a text, so that a record fits in a message
)

// element is one field of a template.
type element struct {
	id     uint16
	length uint16
	pen    uint32
}

// The elements of the IANA registry that are used.
var (
	elProtocol       = element{id: 4, length: 1}
	elTCPFlags       = element{id: 6, length: 2}
	elSourcePort     = element{id: 7, length: 2}
	elSource4        = element{id: 8, length: 4}
	elSource4Bits    = element{id: 9, length: 1}
	elDestPort       = element{id: 11, length: 2}
	elDest4          = element{id: 12, length: 4}
	elSource6        = element{id: 27, length: 16}
	elDest6          = element{id: 28, length: 16}
	elSource6Bits    = element{id: 29, length: 1}
	elSource4Prefix  = element{id: 44, length: 4}
	elMAC            = element{id: 56, length: 6}
	elEndReason      = element{id: 136, length: 1}
	elDomain         = element{id: 149, length: 4}
	elStart          = element{id: 152, length: 8}
	elEnd            = element{id: 153, length: 8}
	elSource6Prefix  = element{id: 170, length: 16}
	elNATSource4     = element{id: 225, length: 4}
	elNATDest4       = element{id: 226, length: 4}
	elNATSourcePort  = element{id: 227, length: 2}
	elNATDestPort    = element{id: 228, length: 2}
	elNATEvent       = element{id: 230, length: 1}
	elDirection      = element{id: 239, length: 1}
	elNATSource6     = element{id: 281, length: 16}
	elNATDest6       = element{id: 282, length: 16}
	elDomainName     = element{id: 300, length: variable}
	elSampleInterval = element{id: 305, length: 4}
	elSampleSpace    = element{id: 306, length: 4}
	elObserved       = element{id: 323, length: 8}
	elFirstPort      = element{id: 361, length: 2}
	elLastPort       = element{id: 362, length: 2}
	elUser           = element{id: 371, length: variable}
	elReverseTCP     = element{id: 6, length: 2, pen: reversePEN}
)

// record is a row of elements and their values. Records with the same elements
// share a template.
type record struct {
	elements []element
	value    []byte
}

func (r *record) reset() { r.elements, r.value = r.elements[:0], r.value[:0] }

func (r *record) u8(e element, v uint8) {
	r.elements, r.value = append(r.elements, e), append(r.value, v)
}

func (r *record) u16(e element, v uint16) {
	r.elements, r.value = append(r.elements, e), binary.BigEndian.AppendUint16(r.value, v)
}

func (r *record) u32(e element, v uint32) {
	r.elements, r.value = append(r.elements, e), binary.BigEndian.AppendUint32(r.value, v)
}

// milli adds a time in nanoseconds since 1970 as milliseconds.
func (r *record) milli(e element, ns int64) {
	r.elements, r.value = append(r.elements, e), binary.BigEndian.AppendUint64(r.value, uint64(max(ns, 0)/1e6))
}

func (r *record) bytes(e element, v []byte) {
	r.elements, r.value = append(r.elements, e), append(r.value, v...)
}

// addr adds an address under the element of its family.
func (r *record) addr(e4, e6 element, a netip.Addr) {
	if a.Is4() {
		v := a.As4()
		r.bytes(e4, v[:])
		return
	}
	v := a.As16()
	r.bytes(e6, v[:])
}

// text adds a text with its length before it (RFC 7011 §7).
func (r *record) text(e element, s string) {
	s = cut(s, longest)
	r.elements = append(r.elements, e)
	if len(s) < 255 {
		r.value = append(r.value, byte(len(s)))
	} else {
		r.value = binary.BigEndian.AppendUint16(append(r.value, 255), uint16(len(s)))
	}
	r.value = append(r.value, s...)
}

// ipfixWriter packs records into messages.
type ipfixWriter struct {
	w         *bufio.Writer
	at        uint32 // export time
	templates map[string]uint16
	key       []byte

	message []byte
	set     int    // where the open set begins in message; 0: none
	setID   uint16 // of the open set
	records uint32 // in message
	before  uint32 // records in earlier messages
}

// newIPFIX begins a file that says which gateway observed.
func newIPFIX(w io.Writer, exported int64, gateway string) *ipfixWriter {
	x := &ipfixWriter{w: bufio.NewWriterSize(w, 1<<16), at: uint32(min(max(exported/1e9, 0), math.MaxUint32)), templates: map[string]uint16{}}
	x.begin()
	x.domainName(gateway)
	return x
}

func (x *ipfixWriter) begin() {
	be := binary.BigEndian
	b := be.AppendUint16(x.message[:0], ipfixVersion)
	b = be.AppendUint16(b, 0) // length; flush puts it in
	b = be.AppendUint32(b, x.at)
	b = be.AppendUint32(b, x.before)
	x.message = be.AppendUint32(b, domain)
	x.set, x.setID, x.records = 0, 0, 0
}

// domainName says, as an option, what the observation domain is called.
func (x *ipfixWriter) domainName(gateway string) {
	be := binary.BigEndian
	x.open(setOptions)
	for _, v := range []uint16{firstTemplate, 2, 1, elDomain.id, elDomain.length, elDomainName.id, elDomainName.length} {
		x.message = be.AppendUint16(x.message, v)
	}
	x.close()
	x.templates[""] = firstTemplate
	var r record
	r.u32(elDomain, domain)
	r.text(elDomainName, gateway)
	x.put(firstTemplate, r.value)
}

// add writes a record, and its template before it when there was none yet.
func (x *ipfixWriter) add(r *record) error {
	x.key = x.key[:0]
	for _, e := range r.elements {
		x.key = binary.BigEndian.AppendUint32(x.key, uint32(e.id)<<16|uint32(e.length))
		x.key = append(x.key, byte(e.pen>>8), byte(e.pen))
	}
	id, known := x.templates[string(x.key)]
	need := len(r.value) + setHead
	if !known {
		need += 2*setHead + 8*len(r.elements)
	}
	if len(x.message)+need > messageLimit {
		if err := x.flush(); err != nil {
			return err
		}
	}
	if !known {
		id = firstTemplate + uint16(len(x.templates))
		x.templates[string(x.key)] = id
		x.template(id, r.elements)
	}
	x.put(id, r.value)
	return nil
}

// template describes records of that id.
func (x *ipfixWriter) template(id uint16, elements []element) {
	be := binary.BigEndian
	x.open(setTemplates)
	b := be.AppendUint16(be.AppendUint16(x.message, id), uint16(len(elements)))
	for _, e := range elements {
		if e.pen != 0 {
			b = be.AppendUint32(be.AppendUint16(be.AppendUint16(b, e.id|0x8000), e.length), e.pen)
			continue
		}
		b = be.AppendUint16(be.AppendUint16(b, e.id), e.length)
	}
	x.message = b
	x.close()
}

func (x *ipfixWriter) put(id uint16, value []byte) {
	if x.setID != id {
		x.close()
		x.open(id)
	}
	x.message = append(x.message, value...)
	x.records++
}

func (x *ipfixWriter) open(id uint16) {
	x.close()
	x.set, x.setID = len(x.message), id
	x.message = binary.BigEndian.AppendUint16(x.message, id)
	x.message = binary.BigEndian.AppendUint16(x.message, 0) // close puts it in
}

// close ends the open set.
func (x *ipfixWriter) close() {
	if x.set > 0 {
		binary.BigEndian.PutUint16(x.message[x.set+2:], uint16(len(x.message)-x.set))
	}
	x.set, x.setID = 0, 0
}

// flush writes the message and begins the next.
func (x *ipfixWriter) flush() error {
	x.close()
	binary.BigEndian.PutUint16(x.message[2:], uint16(len(x.message)))
	if _, err := x.w.Write(x.message); err != nil {
		return fmt.Errorf("write ipfix: %w", err)
	}
	x.before += x.records
	x.begin()
	return nil
}

// finish writes what is left.
func (x *ipfixWriter) finish() error {
	if len(x.message) > messageHead {
		if err := x.flush(); err != nil {
			return err
		}
	}
	if err := x.w.Flush(); err != nil {
		return fmt.Errorf("write ipfix: %w", err)
	}
	return nil
}
