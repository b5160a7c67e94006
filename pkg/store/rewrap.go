package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/edgelog/edgelog/pkg/vault"
)

// ErrKeyChanged says that a wrapped key is not the one that was to be replaced.
var ErrKeyChanged = errors.New("the wrapped key there is another one")

// ReplaceKey puts another wrapped form of a data key in the place of the one
// whose SHA-256 is old, durably; the old form is gone then,
// and overwritten where the file system writes in place. What is inside the
// new one nobody here can tell. The error wraps ErrMissing, ErrKeyChanged,
// ErrBlock for something that is no wrapped key, ErrNoSpace or ErrClosed; the old
// form is there then.
func (s *Store) ReplaceKey(k WrappedKey, old [32]byte) error {
	name := keyName{k.Day, k.Epoch}
	fail := func(err error) error {
		return fmt.Errorf("replace wrapped key of day %s, epoch %d: %w", k.Day, k.Epoch, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.keys[name] {
		return fail(ErrMissing)
	}
	tmp := filepath.Join(s.keysDir(), unfinished+name.file())
	if err := s.replaceKey(filepath.Join(s.keysDir(), name.file()), tmp, k.Wrapped, old); err != nil {
		return fail(err)
	}
	return nil
}

// ReplaceHoldKey is ReplaceKey for the key of a hold.
func (s *Store) ReplaceHoldKey(id uint64, wrapped []byte, old [32]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := ErrMissing
	if s.holds[id] != nil {
		tmp := filepath.Join(s.dir, holdsDir, fmt.Sprintf("%s%d-key", unfinished, id)) // where the next start removes it
		err = s.replaceKey(filepath.Join(s.holdDir(id), holdKey), tmp, wrapped, old)
	}
	if err != nil {
		return fmt.Errorf("replace wrapped key of hold %d: %w", id, err)
	}
	return nil
}

// replaceKey puts wrapped in the place of the file whose SHA-256 is old. s.mu is
// held.
func (s *Store) replaceKey(path, tmp string, wrapped []byte, old [32]byte) error {
	if !vault.IsSealedKey(wrapped) {
		return fmt.Errorf("%w: it does not begin like an age file", ErrBlock)
	}
	if err := s.writable(len(wrapped)); err != nil {
		return err
	}
	before, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return translate(err)
	}
	defer before.Close() //nolint:errcheck // what is written to it is fsynced
	have, err := io.ReadAll(before)
	if err != nil {
		return translate(err)
	}
	if sha256.Sum256(have) != old {
		return ErrKeyChanged
	}
	if err := writeFile(tmp, wrapped, os.O_TRUNC); err != nil {
		return errors.Join(translate(err), os.Remove(tmp))
	}
	failpoint("key rewrapped")
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(translate(err), os.Remove(tmp))
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return translate(err)
	}
	failpoint("key replaced")
	_, err = before.WriteAt(make([]byte, len(have)), 0)
	return translate(errors.Join(err, before.Sync()))
}
