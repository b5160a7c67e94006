package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
)

// preflight looks at Badger's files before Badger does, for three things that it
// would not survive or forgive: a table that was cut panics the process, a
// manifest that is gone makes it delete every table as unknown, and a log of no
// length is an error although it is only unfinished.
func preflight(dir string, log *slog.Logger) error {
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is gone; put it back from a backup, nothing else has been touched",
			ErrDamaged, filepath.Join(filepath.Base(dir), badger.ManifestFilename))
	}
	if err != nil {
		return translate(err)
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, 0, badgerOptions(dir, log))
	if err != nil {
		if err = translate(err); errors.Is(err, ErrNewer) {
			return err
		}
		return fmt.Errorf("%w: %s: %w", ErrDamaged, badger.ManifestFilename, err)
	}
	var bad []error
	for id := range m.Tables {
		if err := checkFooter(table.NewFilename(id, dir)); err != nil {
			bad = append(bad, fmt.Errorf("table %s: %w", table.IDToFilename(id), err))
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("%w: %d of %d tables cannot be read, %w; put them back from a backup, nothing else has been touched",
			ErrDamaged, len(bad), len(m.Tables), bad[0])
	}
	return nil
}

// removeEmptyLogs removes logs that hold nothing: Badger was killed between
// making the file and giving it a length, which it does before it writes to it.
// It would not open such a store.
func removeEmptyLogs(dir string) error {
	for _, kind := range []string{"*.vlog", "*.mem"} {
		names, err := filepath.Glob(filepath.Join(dir, kind))
		if err != nil {
			return err
		}
		for _, name := range names {
			fi, err := os.Stat(name)
			if err == nil && fi.Mode().IsRegular() && fi.Size() == 0 {
				err = os.Remove(name)
			}
			if err != nil {
				return fmt.Errorf("remove an unfinished log: %w", translate(err))
			}
		}
	}
	return nil
}

// maxChecksum is far more than Badger's checksum message ever takes, bytes.
const maxChecksum = 64

// checkFooter checks the lengths at the end of a table, by which Badger slices
// without looking: … index, its length(4), checksum of the index, its length(4).
func checkFooter(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	number := func(at int64) (int64, error) {
		var b [4]byte
		if at < 0 {
			return 0, errCut
		}
		_, err := f.ReadAt(b[:], at)
		return int64(binary.BigEndian.Uint32(b[:])), err
	}
	at := fi.Size() - 4
	sum, err := number(at)
	if err != nil {
		return err
	}
	if sum > maxChecksum {
		return errCut
	}
	at -= sum + 4
	index, err := number(at)
	if err != nil {
		return err
	}
	if index == 0 || index > at {
		return errCut
	}
	return nil
}

var errCut = errors.New("it is cut short")
