package dhcp

import (
	"errors"
	"fmt"
)

// ErrForeign is returned for a file that is not of the program that the
// configuration names.
var ErrForeign = errors.New("not a lease file of this program")

// Reasons for which a line is not used. The words are printed in status and
// stay what they are.
const (
	badColumns = "columns"  // too few or too many of them
	badAddress = "address"  // no address or prefix that could be leased
	badTime    = "time"     // no time, or one that cannot be
	badState   = "state"    // a state that the format does not have
	badSyntax  = "syntax"   // it is not in the form of the format
	badLength  = "too-long" // longer than any line of the format
	badCut     = "cut-off"  // the file ended, for good, in the middle of it
	badForeign = "foreign"  // the first of a file of another program
)

// Fault is a line that could not be used. It holds nothing of the line.
type Fault struct {
	File   string
	Line   int // from 1
	Column int // in bytes, from 1; 0: the line as a whole
	Reason string
}

// Error returns one sentence.
func (f *Fault) Error() string {
	at := fmt.Sprintf("%q line %d", f.File, f.Line)
	if f.Column > 0 {
		at += fmt.Sprintf(" column %d", f.Column)
	}
	return fmt.Sprintf("lease file %s is not used: %s; the other lines are", at, explain(f.Reason))
}

// explain says a reason in words.
func explain(reason string) string {
	switch reason {
	case badColumns:
		return "it has not the columns that the first line names"
	case badAddress:
		return "there is no address or prefix that can be leased"
	case badTime:
		return "there is no time that can be"
	case badState:
		return "the state is not known"
	case badLength:
		return "it is longer than any lease"
	case badCut:
		return "the file ends in the middle of it"
	}
	return "it is not in the form of this program"
}
