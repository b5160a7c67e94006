package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Files is where a Reader finds a ledger's files: a directory (Dir), an archive, a
// server. Names are those of FORMAT.md, with slashes. A file that is not there is
// an error that wraps fs.ErrNotExist.
type Files interface {
	ReadFile(name string) ([]byte, error)
}

// Dir returns the files of the ledger in a directory. It gives none but those of
// FORMAT.md that are public: neither the signer key nor anything outside.
func Dir(dir string) Files { return dirFiles(dir) }

type dirFiles string

func (d dirFiles) ReadFile(name string) ([]byte, error) {
	if !Public(name) {
		return nil, fmt.Errorf("%q: %w in a ledger", name, fs.ErrNotExist)
	}
	p := filepath.Join(string(d), filepath.FromSlash(name))
	info, err := os.Lstat(p)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, broken(name, "it is not a regular file")
	}
	return os.ReadFile(p)
}

// Public reports whether name is a file of a ledger that anybody who audits may
// have: the checkpoint, the public key, a tile or a bundle.
func Public(name string) bool {
	_, tile := parseTile(name)
	return tile || name == CheckpointName || name == PublicKeyName
}

// source gives the files that a checkpoint needs: *disk, or Files of others. A
// file that is missing is a *BrokenError.
type source interface {
	read(name string) ([]byte, error)
}

// lister is a source that knows the names of all its files.
type lister interface {
	list() ([]string, error)
}

func sourceOf(f Files) source {
	if d, ok := f.(dirFiles); ok {
		return &disk{dir: string(d)}
	}
	return foreign{f}
}

type foreign struct{ Files }

func (f foreign) read(name string) ([]byte, error) {
	b, err := f.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, broken(name, "it is missing, though the checkpoint needs it")
	}
	return b, err
}
