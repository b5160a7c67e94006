package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/edgelog/edgelog/pkg/vault"
)

// ErrKeyChanged says that a wrapped key is not the one that was to be replaced.
var ErrKeyChanged = errors.New("the wrapped key there is another one")

// ReplaceKey puts another wrapped form of a data key in the place of the one
// whose SHA-256 is old, durably; the old form is gone then. What is inside the
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
	if !vault.IsSealedKey(k.Wrapped) {
		return fail(fmt.Errorf("%w: it does not begin like an age file", ErrBlock))
	}
	if err := s.writable(len(k.Wrapped)); err != nil {
		return fail(err)
	}
	path := filepath.Join(s.keysDir(), name.file())
	have, err := os.ReadFile(path)
	if err != nil {
		return fail(translate(err))
	}
	if sha256.Sum256(have) != old {
		return fail(ErrKeyChanged)
	}
	tmp := filepath.Join(s.keysDir(), unfinished+name.file())
	if err := writeFile(tmp, k.Wrapped, os.O_TRUNC); err != nil {
		return fail(errors.Join(translate(err), os.Remove(tmp)))
	}
	failpoint("key rewrapped")
	if err := os.Rename(tmp, path); err != nil {
		return fail(errors.Join(translate(err), os.Remove(tmp)))
	}
	if err := syncDir(s.keysDir()); err != nil {
		return fail(translate(err))
	}
	return nil
}
