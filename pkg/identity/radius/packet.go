package radius

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"

	codec "layeh.com/radius"
)

// Codes and attribute types (IANA).
const (
	codeAccountingRequest  = 4
	codeAccountingResponse = 5
	codeStatusServer       = 12

	attrMessageAuthenticator = 80
	attrProxyState           = 33

	headerLen = 20
)

// request is a datagram whose sender has proved to know the secret.
type request struct {
	attrs  codec.Attributes
	status bool // it is a Status-Server
}

// parsed is room for the attributes of a packet, to be used again and again.
type parsed struct {
	room []codec.AVP
	list codec.Attributes
}

// parse returns the attributes of a packet whose form is right; their values lie
// in b. The next call uses the room again.
func (p *parsed) parse(b []byte) (codec.Attributes, bool) {
	b = b[headerLen:binary.BigEndian.Uint16(b[2:])]
	p.room, p.list = p.room[:0], p.list[:0]
	for len(b) > 0 {
		if len(b) < 2 || b[0] == 0 || int(b[1]) < 2 || int(b[1]) > len(b) {
			return nil, false
		}
		p.room = append(p.room, codec.AVP{Type: codec.Type(b[0]), Attribute: b[2:b[1]:b[1]]})
		b = b[b[1]:]
	}
	for i := range p.room {
		p.list = append(p.list, &p.room[i])
	}
	return p.list, true
}

// open checks a packet whose form is right. ok is false when it must be dropped
// for that reason.
func open(b []byte, c *client) (req request, why reason, ok bool) {
	var p parsed
	attrs, ok := p.parse(b)
	if !ok {
		return req, dropAttributes, false
	}
	return authentic(b, attrs, c)
}

// authentic checks that the sender of a packet knows the secret.
func authentic(b []byte, attrs codec.Attributes, c *client) (req request, why reason, ok bool) {
	b = b[:binary.BigEndian.Uint16(b[2:])] // without padding
	status := b[0] == codeStatusServer
	if !status && !isAuthentic(b, c.Secret) {
		return req, dropAuthenticator, false
	}
	at := messageAuthenticatorAt(b)
	switch {
	case at < 0:
		return req, dropMessageAuth, false
	case at == 0 && (status || c.RequireMessageAuthenticator):
		return req, dropNoMessageAuth, false
	case at > 0:
		// RFC 2869 §5.14, RFC 5997 §3: of a Status-Server the Request
		// Authenticator is random and part of the sum, of an
		// Accounting-Request it counts as zero.
		var authenticator [16]byte
		if status {
			copy(authenticator[:], b[4:headerLen])
		}
		if !hmac.Equal(messageAuthenticator(b, authenticator, c.Secret, at), b[at:at+16]) {
			return req, dropMessageAuth, false
		}
	}
	return request{attrs: attrs, status: status}, 0, true
}

// isAuthentic verifies the Request Authenticator of an Accounting-Request
// (RFC 2866 §3).
func isAuthentic(b, secret []byte) bool {
	sum := append(make([]byte, 0, 512), b[:4]...)
	sum = append(sum, make([]byte, 16)...)
	sum = append(append(sum, b[headerLen:]...), secret...)
	got := md5.Sum(sum)
	return hmac.Equal(got[:], b[4:headerLen])
}

// form checks what can be seen without a secret.
func form(b []byte) (reason, bool) {
	if len(b) < headerLen {
		return dropShort, false
	}
	if n := int(binary.BigEndian.Uint16(b[2:])); n < headerLen || n > len(b) || n > codec.MaxPacketLength {
		return dropLength, false
	}
	if b[0] != codeAccountingRequest && b[0] != codeStatusServer {
		return dropCode, false
	}
	return 0, true
}

// messageAuthenticatorAt returns where in b the value of the
// Message-Authenticator stands: 0 when there is none, negative when it is not
// 16 bytes long or there are two. The attributes of b parse.
func messageAuthenticatorAt(b []byte) int {
	at := 0
	for i := headerLen; i+2 <= len(b) && b[i+1] >= 2; i += int(b[i+1]) {
		if b[i] != attrMessageAuthenticator {
			continue
		}
		if b[i+1] != 18 || at != 0 {
			return -1
		}
		at = i + 2
	}
	return at
}

// messageAuthenticator computes HMAC-MD5 over the packet b, with the given
// Request Authenticator and with its own value, at the index at, as zero.
func messageAuthenticator(b []byte, authenticator [16]byte, secret []byte, at int) []byte {
	var zero [16]byte
	h := hmac.New(md5.New, secret)
	h.Write(b[:4])
	h.Write(authenticator[:])
	h.Write(b[headerLen:at])
	h.Write(zero[:])
	h.Write(b[at+16:])
	return h.Sum(nil)
}

// response builds the Accounting-Response to the packet b: it echoes each
// Proxy-State in order (RFC 2866 §4.2). To a Status-Server it has a
// Message-Authenticator. To an Accounting-Request it has none: no RFC says
// which Request Authenticator would count there, and clients differ.
func response(b []byte, req *request, secret []byte) []byte {
	return appendResponse(make([]byte, 0, 96), b, req, secret)
}

// appendResponse is response in the room behind out[:0].
func appendResponse(out, b []byte, req *request, secret []byte) []byte {
	var header [headerLen]byte
	out = append(out[:0], header[:]...)
	out[0], out[1] = codeAccountingResponse, b[1]
	at := 0
	if req.status {
		at = len(out) + 2
		out = append(out, attrMessageAuthenticator, 18)
		out = append(out, make([]byte, 16)...)
	}
	for _, a := range req.attrs {
		if a.Type == attrProxyState {
			out = append(out, attrProxyState, byte(2+len(a.Attribute)))
			out = append(out, a.Attribute...)
		}
	}
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
	copy(out[4:], b[4:headerLen])
	if at > 0 {
		copy(out[at:], messageAuthenticator(out, [16]byte(b[4:headerLen]), secret, at))
	}
	sum := md5.Sum(append(out, secret...))
	copy(out[4:headerLen], sum[:])
	return out
}
