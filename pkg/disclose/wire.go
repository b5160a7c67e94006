package disclose

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
)

// What the agent streams to a reader is a row of frames:
//
//	offset  size
//	     0     1  kind
//	     1     4  n, length of the rest, big-endian
//	     5     n  payload
//
// in this order: one begin, the coverage where it can be read, any number of
// keys, binding blocks, session blocks, register blocks, blocks of calls and mail, other
// blocks, one end, which counts the last six; or, at any place, one error. What a reader asks for more comes
// without begin and coverage.
const frameHead = 5

// maxFrame bounds a frame: no sealed block is longer.
const maxFrame = 64 << 20

type frameKind byte

const (
	frameBegin    frameKind = 1 // JSON, begin
	frameKey      frameKind = 2 // a wrapped data key
	frameBindings frameKind = 3 // a sealed block of bindings
	frameSessions frameKind = 4 // a sealed block of sessions
	frameEnd      frameKind = 5 // JSON, end
	frameError    frameKind = 6 // UTF-8 text: the agent cannot go on
	frameCoverage frameKind = 7 // JSON, session.CoverageReport: what was recorded in the window at all
	frameRegister frameKind = 8 // a sealed block of a register of subscribers, or of its directory
	frameBlock    frameKind = 9 // a sealed block of any kind, to be verified or held

	frameCommunications frameKind = 10 // a sealed block of calls or mail, or the head of one
)

// begin is the first frame.
type begin struct {
	ID           string `json:"id"` // names this reading, for its outcome
	LedgerIntent int64  `json:"ledger_intent"`
	Unstored     bool   `json:"unstored"` // what was collected last could not be stored: it is not in the stream
	Origin

	Imports *Imports `json:"imports,omitempty"` // with WantCommunications; nil: not known

	Kept session.Day `json:"kept,omitempty"` // the first day whose records were not destroyed; 0: not known

	Custodians *Custodians `json:"custodians,omitempty"` // with WantHold: for whom what is held is sealed

	Paper *Paper `json:"paper,omitempty"` // with Run
}

// Paper is what a package says of the gateway beside the answer.
type Paper struct {
	LedgerKey string    `json:"ledger_key"` // public key of the ledger (ledger.VerifierKey)
	Version   string    `json:"version"`    // of this software
	Contacts  []Contact `json:"contacts"`   // who answers questions about it, at any hour
	Timeouts  Timeouts  `json:"timeouts"`   // of the definition of a session

	Entries []*ledger.Proof `json:"entries"` // of the request: its filing, then its approvals
}

// Contact is one line of the provider's contact point of 24 hours (BEK 1145/2006).
type Contact struct {
	Name  string `json:"name"`
	Phone string `json:"phone,omitempty"`
	Mail  string `json:"mail,omitempty"`
	Hours string `json:"hours,omitempty"` // "" for all
}

// Timeouts are after which silence a session has ended, as the configuration of
// the gateway has them.
type Timeouts struct {
	TCP, UDP, ICMP, Other time.Duration
	HalfOpen              time.Duration // TCP that never got beyond SYN and SYN+ACK
	Linger                time.Duration // how long a closed TCP session waits for stragglers
}

// Origin says where and under what rule an agent records.
type Origin struct {
	Gateway    string `json:"gateway"`
	Provider   string `json:"provider"`
	Profile    string `json:"profile"`
	LegalBasis string `json:"legal_basis"`

	// Trust are sources of access records, by their words, in the order in which
	// they are believed; none: the usual order.
	Trust []string `json:"trust,omitempty"`
}

// trust is how bindings are to be read.
func (o *Origin) trust() (opts identity.ReaderOptions) {
	for _, word := range o.Trust {
		if s, ok := session.ParseSource(word); ok { // one that this version does not know is believed last
			opts.Trust = append(opts.Trust, s)
		}
	}
	return opts
}

// end is the last frame: how many of each were sent, so that a stream that was
// cut off is noticed.
type end struct {
	Keys     int `json:"keys"`
	Bindings int `json:"bindings"`
	Sessions int `json:"sessions"`
	Register int `json:"register"`
	Blocks   int `json:"blocks"`
	Damaged  int `json:"damaged"` // stored values that the store could not hand out
	Gone     int `json:"gone"`    // blocks that were asked for by name and are not there, or not any more

	Communications int `json:"communications"`
}

// Outcome is what the reader says became of its reading. It never says what was
// found, only how much.
type Outcome struct {
	Records int    `json:"records"`
	Opened  int    `json:"opened"`
	Failed  int    `json:"failed"`
	Error   string `json:"error,omitempty"` // why nothing was answered: one of the reasons

	// Why says why nothing was found, or not all; "" when all was.
	Why Why `json:"why,omitempty"`

	// Manifest is the hash of what is handed over, hex; "" when nothing is. It tells
	// nothing of what that is: salted with the request's nonce.
	Manifest string `json:"manifest,omitempty"`
}

// The only words that an outcome's Error may hold, so that nothing of what was
// found can get into the ledger in the clear.
const (
	reasonIdentity = "wrong identity"
	reasonCut      = "stream cut off"
	reasonNothing  = "nothing can match"
	reasonUnread   = "answer not understood"
)

// What else becomes of a reading, in the words of the ledger.
const (
	resultWithdrawn = "withdrawn"
	resultNone      = "no outcome given"
)

// isHash reports whether s is SHA-256 in hex, or nothing.
func isHash(s string) bool {
	return s == "" || len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

var reasons = map[string]bool{"": true, reasonIdentity: true, reasonCut: true, reasonNothing: true, reasonUnread: true}

// recorded is the agent's answer to an outcome.
type recorded struct {
	LedgerOutcome int64  `json:"ledger_outcome"`
	Size          int64  `json:"checkpoint_size"` // of a checkpoint that covers the outcome
	Root          []byte `json:"checkpoint_root"`

	Receipt *Receipt `json:"receipt,omitempty"`
}

// opening begins a reading.
type opening struct {
	Act     Act    `json:"act"`
	Request int64  `json:"request"`
	Text    []byte `json:"text,omitempty"`  // of the request
	Query   *Query `json:"query,omitempty"` // with Verify alone
}

// errFrame is returned for a stream that is not one of frames.
var errFrame = errors.New("the agent's answer is not understood")

type frameWriter struct {
	w   *bufio.Writer
	end end
}

func newFrameWriter(w io.Writer) *frameWriter { return &frameWriter{w: bufio.NewWriterSize(w, 1<<16)} }

func (f *frameWriter) write(k frameKind, payload []byte) error {
	if len(payload) > maxFrame {
		return fmt.Errorf("send frame of %d bytes: at most %d are sent", len(payload), maxFrame)
	}
	var head [frameHead]byte
	head[0] = byte(k)
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload)))
	if _, err := f.w.Write(head[:]); err != nil {
		return fmt.Errorf("send frame: %w", err)
	}
	if _, err := f.w.Write(payload); err != nil {
		return fmt.Errorf("send frame: %w", err)
	}
	switch k {
	case frameKey:
		f.end.Keys++
	case frameBindings:
		f.end.Bindings++
	case frameSessions:
		f.end.Sessions++
	case frameRegister:
		f.end.Register++
	case frameBlock:
		f.end.Blocks++
	case frameCommunications:
		f.end.Communications++
	}
	return nil
}

func (f *frameWriter) writeJSON(k frameKind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("send frame: %w", err)
	}
	return f.write(k, b)
}

func (f *frameWriter) flush() error {
	if err := f.w.Flush(); err != nil {
		return fmt.Errorf("send frame: %w", err)
	}
	return nil
}

type frameReader struct {
	r   *bufio.Reader
	buf []byte
	end end // counted here, to be compared with what the agent says
}

func newFrameReader(r io.Reader) *frameReader { return &frameReader{r: bufio.NewReaderSize(r, 1<<16)} }

// next returns the next frame; its payload is valid until the next call. A
// stream that ends between frames gives io.EOF, inside one
// io.ErrUnexpectedEOF.
func (f *frameReader) next() (frameKind, []byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return 0, nil, err
	}
	k, n := frameKind(head[0]), binary.BigEndian.Uint32(head[1:])
	if k < frameBegin || k > frameCommunications || n > maxFrame {
		return 0, nil, errFrame
	}
	if err := f.fill(int(n)); err != nil {
		return 0, nil, err
	}
	switch k {
	case frameKey:
		f.end.Keys++
	case frameBindings:
		f.end.Bindings++
	case frameSessions:
		f.end.Sessions++
	case frameRegister:
		f.end.Register++
	case frameBlock:
		f.end.Blocks++
	case frameCommunications:
		f.end.Communications++
	}
	return k, f.buf, nil
}

// fill reads n bytes into buf. It takes memory only as they come, so that a
// length that lies costs nothing.
func (f *frameReader) fill(n int) error {
	const step = 1 << 20
	f.buf = f.buf[:0]
	for len(f.buf) < n {
		want := min(n-len(f.buf), step)
		have := len(f.buf)
		if cap(f.buf)-have < want {
			f.buf = append(f.buf, make([]byte, want)...)
		}
		f.buf = f.buf[:have+want]
		if _, err := io.ReadFull(f.r, f.buf[have:]); err != nil {
			if errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}
