package ledger

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// disk does all writing of a ledger, so that the order of writes and syncs
// stands in one file. Names are relative to dir, or absolute.
type disk struct {
	dir string
	// fault is called before each step with what is about to be done; an error
	// takes the step's place. nil in use; tests cut the power here.
	fault func(op, name string) error
}

func (d *disk) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(d.dir, filepath.FromSlash(name))
}

func (d *disk) step(op, name string) error {
	if d.fault == nil {
		return nil
	}
	return d.fault(op, name)
}

// create writes new files and syncs them and their directories. No file is
// visible to a reader yet: no checkpoint covers it.
func (d *disk) create(files []file) error {
	dirs := map[string]bool{}
	for _, f := range files {
		name := f.path()
		if err := d.mkdir(filepath.Dir(name), dirs); err != nil {
			return err
		}
		if err := d.write(name, f.data); err != nil {
			return err
		}
	}
	for dir := range dirs {
		if err := d.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// mkdir makes a directory and those above it, and adds to dirs the ones that
// hold a new name and so must be synced.
func (d *disk) mkdir(dir string, dirs map[string]bool) error {
	dirs[dir] = true
	if _, err := os.Stat(d.path(dir)); err == nil {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := d.mkdir(parent, dirs); err != nil {
			return err
		}
	}
	if err := d.step("mkdir", dir); err != nil {
		return err
	}
	if err := os.Mkdir(d.path(dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// write makes a file of its own name with that content, on the disk.
func (d *disk) write(name string, data []byte) error {
	if err := d.step("write", name); err != nil {
		return err
	}
	f, err := os.OpenFile(d.path(name), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := d.step("sync", name); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("%w: %w", ErrFailed, err), f.Close())
	}
	return f.Close()
}

// replace puts a file in the place of another in one step: written beside it,
// synced, renamed, the directory synced. Before the rename the old file stands;
// when only the last sync fails it is unknown which of the two does.
func (d *disk) replace(name string, data []byte) error {
	if err := d.write(name+tmpSuffix, data); err != nil {
		return err
	}
	if err := d.step("rename", name); err != nil {
		return err
	}
	if err := os.Rename(d.path(name+tmpSuffix), d.path(name)); err != nil {
		return err
	}
	if err := d.syncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return nil
}

func (d *disk) syncDir(dir string) error {
	if err := d.step("syncdir", dir); err != nil {
		return err
	}
	f, err := os.Open(d.path(dir))
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("%w: %w", ErrFailed, err), f.Close())
	}
	return f.Close()
}

// remove removes a file; one that is not there is no error.
func (d *disk) remove(name string) error {
	if err := d.step("remove", name); err != nil {
		return err
	}
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// list returns the names of all files, slashes between their parts.
func (d *disk) list() ([]string, error) {
	var out []string
	err := filepath.WalkDir(d.dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(d.dir, p)
		out = append(out, filepath.ToSlash(rel))
		return err
	})
	return out, err
}

// read returns a file that the checkpoint needs.
func (d *disk) read(name string) ([]byte, error) {
	p := d.path(name)
	info, err := os.Lstat(p)
	var b []byte
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		return nil, broken(name, "it is not a regular file")
	default:
		b, err = os.ReadFile(p)
	}
	if errors.Is(err, fs.ErrNotExist) { // also when it went between the two
		return nil, broken(name, "it is missing, though the checkpoint needs it")
	}
	return b, err
}

// publicKey returns the public half of an Ed25519 seed.
func publicKey(seed []byte) ed25519.PublicKey {
	return ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
}
