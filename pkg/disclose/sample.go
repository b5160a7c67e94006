package disclose

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
)

// LeastShare is the share of a quarter's accesses, in percent, that TKÜV § 17 wants
// compared with the orders.
const LeastShare = 20

// Sample is the part of a quarter's accesses that is to be compared with the orders
// that were held (TKÜV § 17). Anyone who has the ledger draws the same.
type Sample struct {
	Quarter string    `json:"quarter"` // 2026Q3
	From    time.Time `json:"from"`
	To      time.Time `json:"to"` // not included
	Percent int       `json:"percent"`
	Seed    string    `json:"seed,omitempty"`

	// Size and Root are the tree that the quarter ended with: of all entries up to the
	// last one before To.
	Size int64  `json:"size"`
	Root []byte `json:"root"`
	// Open: nothing later than the quarter is in the ledger, so that entries may still
	// come, and the sample change.
	Open bool `json:"open"`

	Intents int             `json:"intents"` // of the quarter
	Chosen  []ledger.Record `json:"-"`
}

var quarterText = regexp.MustCompile(`^([0-9]{4})Q([1-4])$`)

// Quarter returns when a quarter such as 2026Q3 begins and ends, UTC.
func Quarter(text string) (from, to time.Time, err error) {
	m := quarterText.FindStringSubmatch(text)
	if m == nil {
		return from, to, fmt.Errorf("%q is not a quarter: write it as 2026Q3", text)
	}
	year, _ := strconv.Atoi(m[1]) // both are digits
	quarter, _ := strconv.Atoi(m[2])
	from = time.Date(year, time.Month(quarter*3-2), 1, 0, 0, 0, 0, time.UTC)
	return from, from.AddDate(0, 3, 0), nil
}

// DrawSample draws percent of the intents of a quarter, rounded up, at least one.
//
// Which ones nobody can know before the quarter is over: they are those with the
// smallest SHA-256(root, seed, index), where root is that of the tree that the
// quarter ended with (32 bytes), seed is text of the auditor's own, and index is 8
// bytes, big-endian. Without a seed, somebody who can make the last entry of the
// quarter could try until the sample suits him: an auditor who does not trust that
// gives a word.
func DrawSample(ctx context.Context, r *ledger.Reader, quarter string, percent int, seed string) (*Sample, error) {
	s := &Sample{Quarter: quarter, Percent: percent, Seed: seed, Open: true}
	var err error
	if s.From, s.To, err = Quarter(quarter); err != nil {
		return nil, err
	}
	if percent < 1 || percent > 100 {
		return nil, fmt.Errorf("%d %% is no share: give 1 to 100", percent)
	}
	var intents []ledger.Record
	err = EachEntry(ctx, r, func(e *ledger.Record) error {
		if !e.Time.Before(s.To) {
			s.Open = false
			return nil
		}
		s.Size = e.Index + 1
		if e.Kind == ledger.Intent && !e.Time.Before(s.From) {
			intents = append(intents, *e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	root, err := r.RootAt(s.Size)
	if err != nil {
		return nil, err
	}
	s.Root, s.Intents = root[:], len(intents)
	s.Chosen = choose(intents, root[:], seed, (len(intents)*percent+99)/100)
	return s, nil
}

// choose returns n of the entries, in their order.
func choose(list []ledger.Record, root []byte, seed string, n int) []ledger.Record {
	lots := map[int64][sha256.Size]byte{}
	for i := range list {
		lots[list[i].Index] = lot(root, seed, list[i].Index)
	}
	slices.SortFunc(list, func(a, b ledger.Record) int {
		x, y := lots[a.Index], lots[b.Index]
		return bytes.Compare(x[:], y[:])
	})
	list = list[:n]
	slices.SortFunc(list, func(a, b ledger.Record) int { return cmp.Compare(a.Index, b.Index) })
	return list
}

func lot(root []byte, seed string, index int64) [sha256.Size]byte {
	b := append(append([]byte{}, root...), seed...)
	return sha256.Sum256(binary.BigEndian.AppendUint64(b, uint64(index)))
}

// EachEntry calls fn with each entry of a ledger, in order.
func EachEntry(ctx context.Context, r *ledger.Reader, fn func(*ledger.Record) error) error {
	const some = 4096
	for at := int64(0); at < r.Size(); at += some {
		list, err := r.Entries(ctx, at, min(at+some, r.Size()))
		if err != nil {
			return err
		}
		for i := range list {
			if err := fn(&list[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
