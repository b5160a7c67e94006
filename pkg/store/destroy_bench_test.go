package store

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/edgelog/edgelog/pkg/session"
)

// BenchmarkDestroyDay destroys one day of a store that keeps many. With a
// directory a day the time is that of removing one day's files; the other half
// keeps all days in one database, as sealed blocks of 64 KiB under keys that
// begin with their day, and asks Badger to drop that prefix.
func BenchmarkDestroyDay(b *testing.B) {
	const perDay, size = 32, 64 << 10
	for _, days := range []int{4, 16} {
		b.Run(fmt.Sprintf("directory/days=%d", days), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				l := newLab(b, filepath.Join(b.TempDir(), "store"), testOptions())
				for d := range days {
					for range perDay {
						l.put(KindSessions, aDay+session.Day(d), string(make([]byte, size)))
					}
				}
				l.merge(nil)
				b.StartTimer()
				if err := l.s.DestroyKeys(aDay); err != nil {
					b.Fatal(err)
				}
				if err := l.s.DestroyBlocks(aDay); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				l.close()
				b.StartTimer()
			}
		})
		b.Run(fmt.Sprintf("DropPrefix/days=%d", days), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				db := allInOne(b, days, perDay, size)
				b.StartTimer()
				if err := db.DropPrefix(dayPrefix(0)); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := db.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

func dayPrefix(day int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(day)) }

// allInOne returns a database that holds all days, written as time goes.
func allInOne(b *testing.B, days, perDay, size int) *badger.DB {
	b.Helper()
	db, err := badger.Open(badgerOptions(b.TempDir(), slog.New(slog.DiscardHandler)).WithSyncWrites(false))
	if err != nil {
		b.Fatal(err)
	}
	for d := range days {
		for n := range perDay {
			key := binary.BigEndian.AppendUint32(dayPrefix(d), uint32(n))
			if err := db.Update(func(tx *badger.Txn) error { return tx.Set(key, make([]byte, size)) }); err != nil {
				b.Fatal(err)
			}
		}
	}
	return db
}
