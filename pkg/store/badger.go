package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

const memTable = 16 << 20 // bytes; a transaction may have 15 % of it

// openNeed is the free space without which Badger is not opened: it may have to
// write out the tables in memory that a crash left in its log. closeNeed is the
// same for closing it.
const (
	openNeed  = 4 * memTable
	closeNeed = 4 * memTable
)

// badgerOptions says why for each choice that is not Badger's own.
//
// Nothing is ever compacted: what is fresh is merged into a run before its log
// is full, and a run is written once.
func badgerOptions(dir string, log *slog.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithSyncWrites(true).                       // Put promises it
		WithValueThreshold(1 << 20).                // the most there is: all values stay out of the value log
		WithValueLogFileSize(1 << 20).              // the least there is: nothing goes there, yet it is mapped and synced
		WithDetectConflicts(false).                 // one writer, and the keys of its blocks are new
		WithCompression(options.None).              // sealed bytes do not compress
		WithNumCompactors(0).                       // no compaction, and so
		WithNumLevelZeroTablesStall(math.MaxInt32). // no waiting for it
		WithMemTableSize(memTable).                 // this and the next four: memory
		WithNumMemtables(2).                        //
		WithBaseTableSize(memTable >> 5).           // a run's tables are 32 times as large, and twice that is held for each that is written
		WithBlockCacheSize(0).                      // allowed without compression: blocks are read where they are mapped
		WithIndexCacheSize(16 << 20).               //
		WithMetricsEnabled(false).                  //
		WithLogger(logger{log})
}

// logger gives Badger's words to slog. They name files and our keys, which
// hold days and numbers, no person's data.
type logger struct{ log *slog.Logger }

func (l logger) Errorf(f string, a ...any)   { l.log.Warn("badger: " + words(f, a)) }
func (l logger) Warningf(f string, a ...any) { l.log.Warn("badger: " + words(f, a)) }
func (l logger) Infof(f string, a ...any)    { l.log.Debug("badger: " + words(f, a)) }
func (l logger) Debugf(f string, a ...any)   { l.log.Debug("badger: " + words(f, a)) }

func words(f string, a []any) string { return strings.TrimSpace(fmt.Sprintf(f, a...)) }

// translations of what Badger's errors say; errors.Is does not see through them.
var translations = []struct {
	words string
	is    error
}{
	{"directory lock", ErrInUse},
	{"no space left on device", ErrNoSpace},
	{"disk quota exceeded", ErrNoSpace},
	{"read-only file system", ErrReadOnly},
	{"permission denied", ErrReadOnly},
	{"unsupported version", ErrNewer},
	{"DB Closed", ErrClosed},
	{"Writes are blocked", ErrClosed},
	{"Txn is too big", ErrTooLarge},
	{"checksum", ErrDamaged},
	{"bad magic", ErrDamaged},
	{"does not exist for table", ErrDamaged},
	{"Value not found", ErrDamaged},
	{"unexpected EOF", ErrDamaged},
	{"input/output error", ErrDamaged},
}

// translate gives err one of this package's errors to be known by.
func translate(err error) error {
	if err == nil {
		return nil
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	for _, t := range translations {
		if strings.Contains(err.Error(), t.words) {
			return fmt.Errorf("%w: %w", t.is, err)
		}
	}
	return err
}

// fence runs f and turns what a damaged table can do to its reader - a fault in
// mapped memory beyond the end of a cut file, an index out of range inside
// Badger - into ErrDamaged. f must not call back to the user of the package.
func fence(f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: reading it failed: %v", ErrDamaged, p)
		}
	}()
	return f()
}
