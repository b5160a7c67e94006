package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/session"
)

// A backup is a directory that looks like a store without what is fresh and
// without wrapped keys: VERSION, days/<day>/<run>/, holds/, coverage/; and
// manifest.json, which has the hash of each file. Runs never change, so a backup
// is brought up to date by copying those that it lacks.
const (
	manifestFile   = "manifest.json"
	manifestFormat = 1
)

// ErrOther says that a backup or store is of another gateway.
var ErrOther = errors.New("it is of another gateway")

// Catalogue says what a backup of a store should hold now. It names no person.
type Catalogue struct {
	Gateway       string          `json:"gateway"`
	Made          time.Time       `json:"made"`
	Store         string          `json:"store"` // its directory
	RetentionDays int             `json:"retention_days"`
	Parts         []CataloguePart `json:"parts"`
	Destroyed     []string        `json:"destroyed"` // days whose destruction is in the ledger
	Released      []uint64        `json:"released"`  // holds whose release is
}

// CataloguePart is one directory of a backup: a run or a hold.
type CataloguePart struct {
	Name  string   `json:"name"`   // within the store: days/2026-11-27/7 or holds/31
	Hash  string   `json:"sha256"` // of its list of contents, hex
	Files []string `json:"files"`
}

// Catalogue lists what a backup holds of the store as it is now, what is fresh
// left out. Gateway, Destroyed and Released are for the caller to say.
func (s *Store) Catalogue() *Catalogue {
	c := &Catalogue{Made: s.o.Now().UTC(), Store: s.dir, Parts: []CataloguePart{}, Destroyed: []string{}, Released: []uint64{}}
	if abs, err := filepath.Abs(s.dir); err == nil { // whoever copies may be elsewhere
		c.Store = abs
	}
	for _, run := range s.Runs() {
		c.add(s.dir, filepath.Join(daysDir, run.Day.String(), strconv.FormatUint(run.Number, 10)), run.Hash)
	}
	holds, _ := s.Holds()
	for i := range holds {
		c.add(s.dir, filepath.Join(holdsDir, strconv.FormatUint(holds[i].ID, 10)), holds[i].Hash())
	}
	return c
}

func (c *Catalogue) add(dir, name string, hash [32]byte) {
	entries, err := os.ReadDir(filepath.Join(dir, name))
	if err != nil {
		return // it went meanwhile; a damaged one is for Check to find
	}
	p := CataloguePart{Name: name, Hash: hex.EncodeToString(hash[:])}
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name() != "LOCK" && e.Name() != holdKey {
			p.Files = append(p.Files, e.Name())
		}
	}
	c.Parts = append(c.Parts, p)
}

// manifest is what lies in a backup, as it was verified when it was copied.
type manifest struct {
	Format        int             `json:"format"`
	Gateway       string          `json:"gateway"`
	Made          time.Time       `json:"made"`
	RetentionDays int             `json:"retention_days"`
	Destroyed     []string        `json:"destroyed"`
	Released      []uint64        `json:"released"`
	Parts         map[string]part `json:"parts"`    // runs and holds, by name
	Coverage      map[string]fact `json:"coverage"` // files
}

type part struct {
	Hash  string          `json:"sha256"` // of its list of contents
	Files map[string]fact `json:"files"`
}

type fact struct {
	Size int64  `json:"size"`
	Hash string `json:"sha256"`
}

// Backed says what a backup or a restore did.
type Backed struct {
	Copied   []string `json:"copied"`   // runs and holds
	Present  int      `json:"present"`  // were there already
	Removed  []string `json:"removed"`  // destroyed days and released holds
	Gone     []string `json:"gone"`     // went while the backup was made
	Kept     []string `json:"kept"`     // in the backup, not in the store any more, and not destroyed
	Refused  []string `json:"refused"`  // not restored, each with the reason
	Expired  int      `json:"expired"`  // not restored: their time is over
	Keys     int      `json:"keys"`     // restored
	Bytes    int64    `json:"bytes"`    // copied
	Coverage int      `json:"coverage"` // files copied
}

// Backup brings the backup in dir up to date with the store that c is of. Each
// file is fsynced, read again and compared. progress, if there is one, is told
// after each run. The error wraps ErrNotStore, ErrNewer, ErrOther, ErrInUse,
// ErrReadOnly or ErrNoSpace; what was copied until then stays, and is not copied
// again.
func Backup(ctx context.Context, c *Catalogue, dir string, progress func(done, all int)) (*Backed, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("back up to %q: %w", dir, translate(err))
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("back up to %q: %w", dir, err)
	}
	defer lock.Close() //nolint:errcheck // only a lock
	b := &backup{c: c, from: c.Store, dir: dir, done: &Backed{}}
	if b.m, err = readManifest(dir, true); err != nil {
		return nil, fmt.Errorf("back up to %q: %w", dir, err)
	}
	if b.m.Gateway != "" && b.m.Gateway != c.Gateway {
		return nil, fmt.Errorf("back up to %q: %w: %q, this one is %q; give each gateway a directory of its own", dir, ErrOther, b.m.Gateway, c.Gateway)
	}
	b.m.Gateway, b.m.RetentionDays, b.m.Destroyed, b.m.Released = c.Gateway, c.RetentionDays, c.Destroyed, c.Released
	if err := b.run(ctx, progress); err != nil {
		return b.done, fmt.Errorf("back up to %q: %w", dir, translate(err))
	}
	return b.done, nil
}

// readManifest reads the manifest of a backup. An empty directory is an empty
// backup, where that may be.
func readManifest(dir string, mayBeEmpty bool) (*manifest, error) {
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, translate(err)
		}
		if !mayBeEmpty || len(entries) > 0 {
			return nil, fmt.Errorf("%w: there is no %s in it; name a backup, or an empty directory to begin one", ErrNotStore, manifestFile)
		}
		return parseManifest([]byte(`{"format":1}`))
	}
	if err != nil {
		return nil, translate(err)
	}
	return parseManifest(text)
}

func parseManifest(text []byte) (*manifest, error) {
	m := new(manifest)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, manifestFile, err)
	}
	if m.Format > manifestFormat {
		return nil, fmt.Errorf("%w: backup of format %d, this version reads %d; upgrade edgelog", ErrNewer, m.Format, manifestFormat)
	}
	for name := range m.Parts {
		if _, _, ok := parsePart(name); !ok {
			return nil, fmt.Errorf("%w: %s names %q, which is no part of a store", ErrDamaged, manifestFile, name)
		}
	}
	if m.Parts == nil {
		m.Parts = map[string]part{}
	}
	if m.Coverage == nil {
		m.Coverage = map[string]fact{}
	}
	return m, nil
}

// parsePart takes the name of a run, or of a hold (day 0), apart.
func parsePart(name string) (day session.Day, n uint64, ok bool) {
	words := strings.Split(name, "/")
	n, err := strconv.ParseUint(words[len(words)-1], 10, 64)
	switch {
	case err != nil || strconv.FormatUint(n, 10) != words[len(words)-1]:
		return 0, 0, false
	case len(words) == 2 && words[0] == holdsDir:
		return 0, n, true
	case len(words) == 3 && words[0] == daysDir:
		day, ok = parseDay(words[1])
		return day, n, ok
	}
	return 0, 0, false
}

type backup struct {
	c    *Catalogue
	from string
	dir  string
	m    *manifest
	done *Backed
}

func (b *backup) run(ctx context.Context, progress func(done, all int)) error {
	if err := b.save(); err != nil { // the directory is a backup from here on
		return err
	}
	if err := b.removeDestroyed(); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for i, p := range b.c.Parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		wanted[p.Name] = true
		if err := b.part(p); err != nil {
			return err
		}
		if progress != nil {
			progress(i+1, len(b.c.Parts))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.m.Parts)) {
		if !wanted[name] {
			b.done.Kept = append(b.done.Kept, name)
		}
	}
	if err := b.coverage(); err != nil {
		return err
	}
	version := filepath.Join(b.dir, "VERSION")
	if err := writeFile(version, []byte(versionText), os.O_TRUNC); err != nil {
		return err
	}
	return b.save()
}

// removeDestroyed removes what must not be kept any longer.
func (b *backup) removeDestroyed() error {
	still := map[string]bool{} // of a day that was destroyed and of which something came late
	for _, p := range b.c.Parts {
		still[p.Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(b.m.Parts)) {
		day, n, _ := parsePart(name)
		gone := strings.HasPrefix(name, holdsDir) && slices.Contains(b.c.Released, n) || day > 0 && slices.Contains(b.c.Destroyed, day.String())
		if !gone || still[name] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(b.dir, name)); err != nil {
			return err
		}
		_ = os.Remove(filepath.Dir(filepath.Join(b.dir, name))) // the day, when nothing else of it is left
		delete(b.m.Parts, name)
		b.done.Removed = append(b.done.Removed, name)
	}
	for _, day := range b.c.Destroyed { // and what a backup that was broken off left of it
		of := daysDir + "/" + day
		if _, ok := parseDay(day); ok && !slices.ContainsFunc(b.c.Parts, func(p CataloguePart) bool { return filepath.Dir(p.Name) == of }) {
			if err := os.RemoveAll(filepath.Join(b.dir, of)); err != nil {
				return err
			}
		}
		name := day + ".coverage"
		if _, ok := b.m.Coverage[name]; ok {
			if err := os.Remove(filepath.Join(b.dir, coverDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			delete(b.m.Coverage, name)
		}
	}
	return b.save()
}

// part copies a run or hold that the backup lacks, or has of other sizes.
func (b *backup) part(p CataloguePart) error {
	if _, _, ok := parsePart(p.Name); !ok {
		return fmt.Errorf("%w: %q is no part of a store", ErrBlock, p.Name)
	}
	to := filepath.Join(b.dir, p.Name)
	if old, ok := b.m.Parts[p.Name]; ok && old.Hash == p.Hash && sameSizes(to, old.Files) {
		b.done.Present++
		return nil
	}
	files, n, err := copyPart(filepath.Join(b.from, p.Name), to, p.Files, nil)
	if errors.Is(err, fs.ErrNotExist) {
		if _, gone := os.Stat(filepath.Join(b.from, p.Name)); errors.Is(gone, fs.ErrNotExist) { // its time was over
			b.done.Gone = append(b.done.Gone, p.Name)
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	if list := files[listOf(p.Name)]; list.Hash != p.Hash {
		return fmt.Errorf("%s: %w: its list of contents is not that of the store; say edgelog verify", p.Name, errors.Join(ErrDamaged, os.RemoveAll(to)))
	}
	b.m.Parts[p.Name] = part{p.Hash, files}
	b.done.Copied, b.done.Bytes = append(b.done.Copied, p.Name), b.done.Bytes+n
	return b.save()
}

// listOf is the file that lists what is in a part.
func listOf(name string) string {
	if strings.HasPrefix(name, holdsDir) {
		return holdFile
	}
	return contentsFile
}

func sameSizes(dir string, files map[string]fact) bool {
	for name, f := range files {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Size() != f.Size {
			return false
		}
	}
	return len(files) > 0
}

// coverage copies the files of coverage that have grown, or are not there.
func (b *backup) coverage() error {
	from, to := filepath.Join(b.from, coverDir), filepath.Join(b.dir, coverDir)
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, e := range entries {
		day, ok := parseCoverFile(e.Name())
		fi, err := e.Info()
		if !ok || errors.Is(err, fs.ErrNotExist) || slices.Contains(b.c.Destroyed, day.String()) {
			continue
		}
		if err != nil {
			return err
		}
		if b.m.Coverage[e.Name()].Size == fi.Size() && sameSizes(to, map[string]fact{e.Name(): b.m.Coverage[e.Name()]}) {
			continue
		}
		f, err := copyFile(filepath.Join(from, e.Name()), filepath.Join(to, unfinished+e.Name()))
		if err == nil {
			err = os.Rename(filepath.Join(to, unfinished+e.Name()), filepath.Join(to, e.Name()))
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		b.m.Coverage[e.Name()] = f
		b.done.Coverage++
	}
	return syncDir(to)
}

// save writes the manifest.
func (b *backup) save() error {
	b.m.Made = b.c.Made
	text, err := json.MarshalIndent(b.m, "", " ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(b.dir, unfinished+manifestFile)
	if err := writeFile(tmp, text, os.O_TRUNC); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(b.dir, manifestFile)); err != nil {
		return err
	}
	return syncDir(b.dir)
}

// copyPart copies files of one directory to another, which gets its name when
// all of them are durable. What they must be is compared, where it is known.
func copyPart(from, to string, names []string, want map[string]fact) (files map[string]fact, bytes int64, err error) {
	all := filepath.Dir(to)
	tmp := filepath.Join(all, unfinished+filepath.Base(to))
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o700)); err != nil {
		return nil, 0, err
	}
	files = map[string]fact{}
	for _, name := range names {
		if name != filepath.Base(name) {
			err = fmt.Errorf("%w: a file is called %q", ErrDamaged, name)
			break
		}
		f, ferr := copyFile(filepath.Join(from, name), filepath.Join(tmp, name))
		if ferr == nil && want != nil && f != want[name] {
			ferr = fmt.Errorf("%w: %s is not what was backed up: %d bytes, not %d, or another hash", ErrDamaged, name, f.Size, want[name].Size)
		}
		if err = ferr; err != nil {
			break
		}
		files[name], bytes = f, bytes+f.Size
	}
	if err == nil {
		err = syncDir(tmp)
	}
	if err == nil {
		err = os.RemoveAll(to) // one that is not whole
	}
	if err == nil {
		err = os.Rename(tmp, to)
	}
	if err != nil {
		return nil, 0, errors.Join(err, os.RemoveAll(tmp))
	}
	return files, bytes, errors.Join(syncDir(all), syncDir(filepath.Dir(all)))
}

// copyFile copies a file, fsyncs it, reads it again and compares.
func copyFile(from, to string) (f fact, err error) {
	in, err := os.Open(from)
	if err != nil {
		return f, err
	}
	defer in.Close() //nolint:errcheck // only read
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return f, err
	}
	defer out.Close() //nolint:errcheck // fsynced below
	sum := sha256.New()
	if f.Size, err = io.Copy(io.MultiWriter(out, sum), in); err != nil {
		return f, err
	}
	if err := out.Sync(); err != nil {
		return f, err
	}
	f.Hash = hex.EncodeToString(sum.Sum(nil))
	_ = unix.Fadvise(int(out.Fd()), 0, 0, unix.FADV_DONTNEED) // so that it comes from the disk, where that can be had
	again := sha256.New()
	if _, err := io.Copy(again, io.NewSectionReader(out, 0, f.Size+1)); err != nil {
		return f, err
	}
	if hex.EncodeToString(again.Sum(nil)) != f.Hash {
		return f, fmt.Errorf("%w: what was written to %q is not what is read from it", ErrDamaged, to)
	}
	return f, nil
}
