package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/session"
)

// keyName names a wrapped key.
type keyName struct {
	day   session.Day
	epoch uint64
}

// file is the name of the key's file: 2026-11-21-1763720000123.age.
func (k keyName) file() string {
	return k.day.String() + "-" + strconv.FormatUint(k.epoch, 10) + ".age"
}

func parseKeyFile(name string) (keyName, bool) {
	base, ok := strings.CutSuffix(name, ".age")
	if !ok || len(base) < 12 || base[10] != '-' {
		return keyName{}, false
	}
	day, err := time.Parse(time.DateOnly, base[:10])
	if err != nil {
		return keyName{}, false
	}
	epoch, err := strconv.ParseUint(base[11:], 10, 64)
	k := keyName{session.Day(day.Unix() / (24 * 3600)), epoch}
	return k, err == nil && k.day >= 0 && k.file() == name
}

func (s *Store) keysDir() string { return filepath.Join(s.dir, "keys") }

// readKeys learns which wrapped keys there are and clears away unfinished ones,
// under which nothing was sealed yet.
func (s *Store) readKeys() error {
	entries, err := os.ReadDir(s.keysDir())
	if errors.Is(err, fs.ErrNotExist) && s.copy != "" {
		return nil // it is no part of a backup
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), unfinished) && s.copy != "" {
			continue
		} else if strings.HasPrefix(e.Name(), unfinished) {
			if err := os.Remove(filepath.Join(s.keysDir(), e.Name())); err != nil {
				return translate(err)
			}
		} else if k, ok := parseKeyFile(e.Name()); ok {
			s.keys[k] = true
		} else {
			s.o.Log.Warn("file in the directory of wrapped keys is not one", "file", e.Name())
		}
	}
	return nil
}

// SaveKey keeps a wrapped data key, durably, before it returns; it makes Store
// a vault.KeySaver. The error wraps ErrKeyKnown, ErrExpired, ErrNoSpace or
// ErrClosed.
func (s *Store) SaveKey(day int32, epoch uint64, wrapped []byte) error {
	k := keyName{session.Day(day), epoch}
	if k.day < 0 || k.day > lastDay {
		return fmt.Errorf("save wrapped key: %w: day %d is out of range", ErrBlock, day)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began(s.o.Now())
	defer s.began(time.Time{})
	if s.destroyed[k.day] {
		return fmt.Errorf("save wrapped key of day %s: %w", k.day, ErrExpired)
	}
	if err := s.writable(len(wrapped)); err != nil {
		return s.note(fmt.Errorf("save wrapped key of day %s: %w", k.day, err))
	}
	if err := s.saveKey(k, wrapped); err != nil {
		return s.note(fmt.Errorf("save wrapped key of day %s: %w", k.day, err))
	}
	s.keys[k] = true
	return nil
}

func (s *Store) saveKey(k keyName, wrapped []byte) error {
	name := filepath.Join(s.keysDir(), k.file())
	tmp := filepath.Join(s.keysDir(), unfinished+k.file())
	if err := writeFile(tmp, wrapped, os.O_TRUNC); err != nil {
		return errors.Join(translate(err), os.Remove(tmp))
	}
	failpoint("key written")
	err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // a file system that cannot: a hard link does not replace either
		if err = os.Link(tmp, name); err == nil {
			err = os.Remove(tmp)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return errors.Join(ErrKeyKnown, os.Remove(tmp))
	}
	if err != nil {
		return errors.Join(translate(err), os.Remove(tmp))
	}
	failpoint("key named")
	return translate(syncDir(s.keysDir()))
}

// NewEpoch returns a number for one start of the agent: the time in unix
// milliseconds, or more if need be, so that it is above that of every wrapped
// key and block in the store.
func (s *Store) NewEpoch() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(uint64(max(s.o.Now().UnixMilli(), 1)), s.newestEpoch()+1)
}

// NewestEpoch returns the newest start of the agent that stored something and is
// still known, in unix milliseconds; 0 when there is none.
func (s *Store) NewestEpoch() (e uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newestEpoch()
}

func (s *Store) newestEpoch() (e uint64) {
	for k := range s.keys {
		e = max(e, k.epoch)
	}
	for sh := range s.next {
		e = max(e, sh.epoch)
	}
	return e
}

// WrappedKey is a data key that only custodians can open.
type WrappedKey struct {
	Day     session.Day
	Epoch   uint64
	Wrapped []byte
}

// WrappedKeys returns the wrapped keys of days, all when none is given, by day
// and epoch. One whose file is gone is left out: it was destroyed meanwhile, or
// Check tells of it, and the others must not wait for it.
func (s *Store) WrappedKeys(days ...session.Day) ([]WrappedKey, error) {
	var out []WrappedKey
	for _, k := range s.keyNames() {
		if len(days) > 0 && !slices.Contains(days, k.day) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(s.keysDir(), k.file()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read wrapped key of day %s: %w", k.day, translate(err))
		}
		out = append(out, WrappedKey{k.day, k.epoch, b})
	}
	return out, nil
}

// hasKey reports whether there is a wrapped key of a day.
func (s *Store) hasKey(day session.Day) bool {
	return slices.ContainsFunc(s.keyNames(), func(k keyName) bool { return k.day == day })
}

func (s *Store) keyNames() []keyName {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]keyName, 0, len(s.keys))
	for k := range s.keys {
		names = append(names, k)
	}
	slices.SortFunc(names, func(a, b keyName) int {
		return cmp.Or(cmp.Compare(a.day, b.day), cmp.Compare(a.epoch, b.epoch))
	})
	return names
}
