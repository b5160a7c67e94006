package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// KeysBackup holds wrapped keys, apart from the blocks that they open.
type KeysBackup struct {
	Format  int         `json:"format"`
	Gateway string      `json:"gateway"`
	Made    time.Time   `json:"made"`
	Keys    []BackedKey `json:"keys"`
}

// BackedKey is the wrapped key of a day and epoch, or of a hold.
type BackedKey struct {
	Day     string `json:"day,omitempty"`
	Epoch   uint64 `json:"epoch,omitempty"`
	Hold    uint64 `json:"hold,omitempty"`
	Wrapped []byte `json:"wrapped"`
}

// BackUpKeys returns every wrapped key that is there. Gateway is for the caller
// to say.
func (s *Store) BackUpKeys() (*KeysBackup, error) {
	b := &KeysBackup{Format: manifestFormat, Made: s.o.Now().UTC(), Keys: []BackedKey{}}
	keys, err := s.WrappedKeys()
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		b.Keys = append(b.Keys, BackedKey{Day: k.Day.String(), Epoch: k.Epoch, Wrapped: k.Wrapped})
	}
	holds, _ := s.Holds()
	for i := range holds {
		key, err := s.HoldKey(holds[i].ID)
		if errors.Is(err, ErrMissing) || errors.Is(err, ErrNoKey) || errors.Is(err, ErrDamaged) {
			continue // as of a day: released meanwhile, or for Check to tell of
		}
		if err != nil {
			return nil, err
		}
		b.Keys = append(b.Keys, BackedKey{Hold: holds[i].ID, Wrapped: key})
	}
	return b, nil
}

// ParseKeysBackup reads a file of wrapped keys. The error wraps ErrDamaged, as
// of one that was cut short, or ErrNewer.
func ParseKeysBackup(text []byte) (*KeysBackup, error) {
	b := new(KeysBackup)
	if err := json.Unmarshal(text, b); err != nil {
		return nil, fmt.Errorf("read backup of wrapped keys: %w: it is cut short, or none: %w", ErrDamaged, err)
	}
	if b.Format > manifestFormat {
		return nil, fmt.Errorf("read backup of wrapped keys: %w: format %d, this version reads %d; upgrade edgelog", ErrNewer, b.Format, manifestFormat)
	}
	for i, k := range b.Keys {
		if _, ok := parseDay(k.Day); !ok && k.Hold == 0 || !vault.IsSealedKey(k.Wrapped) {
			return nil, fmt.Errorf("read backup of wrapped keys: %w: key %d of %d is none", ErrDamaged, i+1, len(b.Keys))
		}
	}
	return b, nil
}

// RestoreOptions say what may be restored.
type RestoreOptions struct {
	Gateway   string        // "": that of the backup, unless the store has blocks of another
	Destroyed []session.Day // days that were destroyed, beside those that the backup knows of
	Released  []uint64      // holds that were, likewise
	Keys      *KeysBackup   // nil: no keys are restored
	Now       func() time.Time
	Progress  func(done, all int) // nil: nobody asks
}

// BackupGateway returns the gateway that a backup is of.
func BackupGateway(dir string) (string, error) {
	m, err := readManifest(dir, false)
	if err != nil {
		return "", fmt.Errorf("read backup %q: %w", dir, err)
	}
	return m.Gateway, nil
}

// Restore puts back into the store in dir what it lacks of the backup in from,
// and makes a store where there is none. It never puts anything over what is
// there, and nothing whose time is over. The error wraps ErrNotStore, ErrNewer,
// ErrOther, ErrInUse (an agent runs), ErrReadOnly or ErrNoSpace.
func Restore(ctx context.Context, from, dir string, o RestoreOptions) (*Backed, error) {
	m, err := readManifest(from, false)
	if err != nil {
		return nil, fmt.Errorf("restore from %q: %w", from, err)
	}
	fresh, err := inspect(dir, true)
	if err != nil {
		return nil, err
	}
	for _, other := range []string{o.Gateway, gatewayOf(dir)} {
		if other != "" && other != m.Gateway {
			return nil, fmt.Errorf("restore from %q to %q: %w: the backup is of %q, the store of %q", from, dir, ErrOther, m.Gateway, other)
		}
	}
	if o.Keys != nil && o.Keys.Gateway != m.Gateway {
		return nil, fmt.Errorf("restore from %q: the wrapped keys: %w: %q", from, ErrOther, o.Keys.Gateway)
	}
	if fresh {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make store %q: %w", dir, translate(err))
		}
	}
	s := newStore(dir, Options{Now: o.Now}.filled())
	if s.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	defer s.lock.Close() //nolint:errcheck // only a lock
	r := &restore{s: s, m: m, from: from, o: o, done: &Backed{}}
	if err := r.run(ctx, fresh); err != nil {
		return r.done, fmt.Errorf("restore to %q: %w", dir, translate(err))
	}
	return r.done, nil
}

// gatewayOf returns the gateway that a store has blocks of; "" where it has none
// that can be read.
func gatewayOf(dir string) (gateway string) {
	s, err := OpenCopy(dir, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return ""
	}
	defer s.Close() //nolint:errcheck // nothing was written but to a copy
	_ = s.All(context.Background(), func(p vault.Place, _ Sealed) error {
		gateway = p.Gateway
		return errFound
	}) // what cannot be read is none of it
	return gateway
}

var errFound = errors.New("found")

type restore struct {
	s    *Store
	m    *manifest
	from string
	o    RestoreOptions
	done *Backed
}

func (r *restore) run(ctx context.Context, fresh bool) error {
	for _, dir := range []string{r.s.keysDir(), r.s.freshDir(), filepath.Join(r.s.dir, daysDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	names := slices.Sorted(maps.Keys(r.m.Parts))
	for i, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.part(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if r.o.Progress != nil {
			r.o.Progress(i+1, len(names))
		}
	}
	if err := errors.Join(r.coverage(), r.keys()); err != nil {
		return err
	}
	if fresh {
		return r.s.finish()
	}
	return nil
}

// over reports whether the time of a day is over.
func (r *restore) over(day session.Day) bool {
	if slices.Contains(r.o.Destroyed, day) || slices.Contains(r.m.Destroyed, day.String()) {
		return true
	}
	return len(Due([]session.Day{day}, r.s.o.Now(), r.m.RetentionDays)) > 0
}

func (r *restore) part(name string) error {
	day, n, _ := parsePart(name)
	to := filepath.Join(r.s.dir, name)
	hold := strings.HasPrefix(name, holdsDir)
	if hold && (slices.Contains(r.o.Released, n) || slices.Contains(r.m.Released, n)) || !hold && r.over(day) {
		r.done.Expired++
		return nil
	}
	if _, err := os.Stat(to); err == nil {
		text, err := os.ReadFile(filepath.Join(to, listOf(name)))
		if sum := sha256.Sum256(text); err == nil && hex.EncodeToString(sum[:]) == r.m.Parts[name].Hash {
			r.done.Present++
			if _, err := os.Stat(filepath.Join(to, holdKey)); hold && errors.Is(err, fs.ErrNotExist) {
				return r.holdKey(to, n)
			}
			return nil
		}
		r.refuse(name, "something else of that name is there, or its list of contents is damaged; move it away to have it restored")
		return nil
	}
	if _, err := os.Stat(filepath.Join(r.s.freshDir(), strconv.FormatUint(n, 10))); !hold && err == nil {
		r.refuse(name, "what is stored last has the same number; start the agent and stop it, then restore again")
		return nil
	}
	if hold {
		return r.hold(name, n)
	}
	return r.copy(name, nil)
}

func (r *restore) refuse(name, why string) { r.done.Refused = append(r.done.Refused, name+": "+why) }

func (r *restore) copy(name string, also func(dir string) error) error {
	p := r.m.Parts[name]
	to := filepath.Join(r.s.dir, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	_, n, err := copyPart(filepath.Join(r.from, name), to, slices.Sorted(maps.Keys(p.Files)), p.Files)
	if errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
		r.refuse(name, "the backup of it is damaged: "+err.Error())
		return nil
	}
	if err == nil && also != nil {
		err = also(to)
	}
	if err != nil {
		return err
	}
	r.done.Copied, r.done.Bytes = append(r.done.Copied, name), r.done.Bytes+n
	return nil
}

// hold restores a hold, if there is a key for it.
func (r *restore) hold(name string, id uint64) error {
	if r.keyOf(id) == nil {
		r.refuse(name, "its wrapped key is not among the keys that were given; give them with --keys")
		return nil
	}
	return r.copy(name, func(dir string) error { return r.holdKey(dir, id) })
}

// holdKey puts the key of a hold where it belongs, if it was given.
func (r *restore) holdKey(dir string, id uint64) error {
	key := r.keyOf(id)
	if key == nil {
		return nil
	}
	name := filepath.Join(dir, holdKey)
	tmp := filepath.Join(filepath.Dir(dir), unfinished+filepath.Base(dir)+"-key") // where the next start removes it
	err := writeFile(tmp, key, os.O_TRUNC)
	if err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	r.done.Keys++
	return syncDir(dir)
}

func (r *restore) keyOf(hold uint64) []byte {
	if r.o.Keys == nil {
		return nil
	}
	for _, k := range r.o.Keys.Keys {
		if k.Hold == hold {
			return k.Wrapped
		}
	}
	return nil
}

func (r *restore) coverage() error {
	to := filepath.Join(r.s.dir, coverDir)
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(r.m.Coverage)) {
		day, ok := parseCoverFile(name)
		if _, err := os.Stat(filepath.Join(to, name)); err == nil || !ok || r.over(day) {
			continue
		}
		tmp := filepath.Join(to, unfinished+name)
		f, err := copyFile(filepath.Join(r.from, coverDir, name), tmp)
		if err == nil && f != r.m.Coverage[name] || errors.Is(err, fs.ErrNotExist) {
			r.refuse(name, "the backup of it is damaged")
			if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if err == nil {
			err = os.Rename(tmp, filepath.Join(to, name))
		}
		if err != nil {
			return err
		}
		r.done.Coverage++
	}
	return syncDir(to)
}

// keys restores the wrapped keys of days whose time is not over.
func (r *restore) keys() error {
	if r.o.Keys == nil {
		return nil
	}
	for _, k := range r.o.Keys.Keys {
		day, ok := parseDay(k.Day)
		if !ok || r.over(day) {
			continue
		}
		switch err := r.s.saveKey(keyName{day, k.Epoch}, k.Wrapped); {
		case errors.Is(err, ErrKeyKnown):
		case err != nil:
			return err
		default:
			r.done.Keys++
		}
	}
	return nil
}
