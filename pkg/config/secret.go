package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// ErrExposed is returned for a secret file that other users may read or
// change.
var ErrExposed = errors.New("other users may read or change it")

// ReadSecret returns what a secret file holds, without the line break at its
// end. The file must be a regular file that neither other users nor, for
// writing, its group may touch; ErrExposed otherwise.
func ReadSecret(path string) ([]byte, error) { return readSecret(path, "secret", maxSecret) }

// ReadKey returns what a private key file holds, under the same conditions.
func ReadKey(path string) ([]byte, error) { return readSecret(path, "key", maxKey) }

// The longest files, in bytes.
const (
	maxSecret = 4096
	maxKey    = 1 << 16
)

func readSecret(path, what string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read %s file %q: %w; write the %s into it, mode 0600", what, path, pathless(err), what)
	}
	defer f.Close() //nolint:errcheck // only read
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s file %q: %w", what, path, pathless(err))
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("read %s file %q: it is not a regular file", what, path)
	case st.Mode().Perm()&0o027 != 0:
		return nil, fmt.Errorf("read %s file %q: %w (mode %04o); run: chmod 0600 %s", what, path, ErrExposed, st.Mode().Perm(), path)
	case st.Size() > most:
		return nil, fmt.Errorf("read %s file %q: it is too long for a %s (%d bytes)", what, path, what, st.Size())
	}
	b := make([]byte, st.Size())
	if _, err := f.ReadAt(b, 0); err != nil && st.Size() > 0 {
		return nil, fmt.Errorf("read %s file %q: %w", what, path, pathless(err))
	}
	b = bytes.TrimRight(b, "\r\n")
	if len(b) == 0 {
		return nil, fmt.Errorf("read %s file %q: %w; write the shared secret into it", what, path, errEmpty)
	}
	return b, nil
}

var errEmpty = fmt.Errorf("it is empty: %w", fs.ErrInvalid)
