package ledger

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"
)

// Kind says what an entry is evidence of. The words are stored and never
// change their meaning.
type Kind string

// The kinds.
const (
	Start         Kind = "start"         // the agent began to record
	Stop          Kind = "stop"          // the agent stopped in good order
	Gap           Kind = "gap"           // an interval that was not, or not wholly, recorded
	Coverage      Kind = "coverage"      // what was recorded of each second of a stretch of time, as a hash
	ClockStep     Kind = "clock-step"    // the clock was set, not slewed
	Configuration Kind = "configuration" // what is recorded, and on which legal basis, changed
	Import        Kind = "import"        // records that another program had kept were taken in
	Stored        Kind = "stored"        // a run of the store was finished: what is in it, as numbers and a hash
	Destruction   Kind = "destruction"   // a day's time is over: what is about to be destroyed, and then that it was
	Held          Kind = "hold"          // rows of a case are kept beyond the destruction of their day: how many, never which
	Released      Kind = "release"       // a hold is about to be destroyed, and then that it was
	Request       Kind = "request"       // a request was filed, approved, refused, withdrawn, or not dealt with in time
	Keys          Kind = "keys"          // wrapped data keys were handed out, or replaced
	Intent        Kind = "intent"        // somebody is about to read
	Outcome       Kind = "outcome"       // what became of an intent; never the data found
	Refused       Kind = "refused"       // a read that was not permitted
	Breach        Kind = "breach"        // a breach of personal data, as it is notified
	Witnessed     Kind = "witness"       // a checkpoint was sent to somebody outside
)

var kinds = map[Kind]bool{
	Start: true, Stop: true, Gap: true, Coverage: true, ClockStep: true, Configuration: true,
	Import: true, Stored: true, Destruction: true, Held: true, Released: true, Keys: true, Intent: true, Outcome: true, Refused: true,
	Request: true, Breach: true, Witnessed: true,
}

// Known reports whether k is a kind of entries.
func (k Kind) Known() bool { return kinds[k] }

// Kinds returns all kinds, by their words.
func Kinds() []Kind { return slices.Sorted(maps.Keys(kinds)) }

// Limits of an entry.
const (
	MaxEntry  = 1<<16 - 1 // bytes of one encoded entry: its length is 16 bits wide
	MaxFields = 64
	MaxName   = 64 // bytes of a field's name
)

// Entry is what Append is given.
type Entry struct {
	Kind Kind
	// Fields are kept in the clear and may not name any person: counters,
	// versions, profile, legal basis. Names are a-z, 0-9 and '_'.
	Fields map[string]string
	// Payload is sealed before it is kept. Empty means none.
	Payload []byte
}

// Record is an entry as the ledger keeps it.
type Record struct {
	Index  int64
	Time   time.Time // UTC, whole milliseconds, set by the ledger
	Kind   Kind
	Fields map[string]string
	Sealed []byte // what Options.Seal made of the payload; nil when there was none
}

// timeLayout is RFC 3339 in UTC with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z"

// timeKey opens each encoded entry; the time is put in when the entry gets its
// index, so that times stand in the order of the tree.
const timeKey = `{"time":"`

const timeBytes = len(timeKey) + len(timeLayout) + len(`",`)

// entryBody is all of an encoded entry but its time.
type entryBody struct {
	Kind   Kind              `json:"kind"`
	Fields map[string]string `json:"fields,omitempty"`
	Sealed []byte            `json:"sealed,omitempty"`
}

func (e *Entry) check() error {
	if !kinds[e.Kind] {
		return fmt.Errorf("%w: kind %q is not known", ErrInvalid, e.Kind)
	}
	if len(e.Fields) > MaxFields {
		return fmt.Errorf("%w: it has %d fields, at most %d are kept", ErrInvalid, len(e.Fields), MaxFields)
	}
	for name, value := range e.Fields {
		if !validName(name) {
			return fmt.Errorf("%w: field name %q: use up to %d of a-z, 0-9 and _", ErrInvalid, name, MaxName)
		}
		if !utf8.ValidString(value) {
			return fmt.Errorf("%w: field %q is not UTF-8 text", ErrInvalid, name)
		}
	}
	return nil
}

func validName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= MaxName
}

// encode returns the entry without its time; stamp adds that.
func (e *Entry) encode(sealed []byte) ([]byte, error) {
	b, err := json.Marshal(entryBody{Kind: e.Kind, Fields: e.Fields, Sealed: sealed})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	b = b[1:] // the brace that timeKey opens
	if n := timeBytes + len(b); n > MaxEntry {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are kept", ErrTooLarge, n, MaxEntry)
	}
	return b, nil
}

// stamp returns the whole encoded entry.
func stamp(t time.Time, body []byte) []byte {
	b := make([]byte, 0, timeBytes+len(body))
	b = append(b, timeKey...)
	b = t.UTC().Truncate(time.Millisecond).AppendFormat(b, timeLayout)
	b = append(b, `",`...)
	return append(b, body...)
}

// parseRecord decodes one entry.
func parseRecord(index int64, data []byte) (Record, error) {
	var v struct {
		Time string `json:"time"`
		entryBody
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return Record{}, fmt.Errorf("decode entry %d: %w", index, err)
	}
	if d.More() || d.InputOffset() != int64(len(data)) {
		return Record{}, fmt.Errorf("decode entry %d: bytes after its end", index)
	}
	t, err := time.Parse(timeLayout, v.Time)
	if err != nil {
		return Record{}, fmt.Errorf("decode entry %d: %w", index, err)
	}
	return Record{Index: index, Time: t, Kind: v.Kind, Fields: v.Fields, Sealed: v.Sealed}, nil
}

// appendBundle appends an entry to a bundle: big-endian 16-bit length, bytes.
func appendBundle(b, entry []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(entry)))
	return append(b, entry...)
}

// splitBundle returns the entries of a bundle that must hold want of them.
// The slices point into b.
func splitBundle(b []byte, want int) ([][]byte, error) {
	out := make([][]byte, 0, want)
	for len(b) > 0 {
		if len(out) == want {
			return nil, fmt.Errorf("more than %d entries", want)
		}
		if len(b) < 2 {
			return nil, fmt.Errorf("cut off in the length of entry %d of %d", len(out), want)
		}
		n := int(binary.BigEndian.Uint16(b))
		if len(b)-2 < n {
			return nil, fmt.Errorf("cut off in entry %d of %d", len(out), want)
		}
		out = append(out, b[2:2+n])
		b = b[2+n:]
	}
	if len(out) != want {
		return nil, fmt.Errorf("%d entries instead of %d", len(out), want)
	}
	return out, nil
}
