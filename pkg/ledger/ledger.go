package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Ledger is an open ledger. Its methods may be called from several goroutines
// at once.
type Ledger struct {
	opt    Options
	disk   *disk
	lock   *os.File // the directory, held by flock(2)
	signer *signer

	repaired []string

	// turn is held by the one goroutine that writes; it also guards the next
	// three.
	turn     chan struct{}
	failed   error
	closed   bool
	leftover []string // narrower tiles that could not be removed yet

	mu    sync.Mutex
	queue []*waiting // entries that no writer has taken yet
	state state
}

// state is what the present checkpoint says. It is replaced as a whole, never
// changed.
type state struct {
	checkpoint Checkpoint
	edge       *frontier
}

// waiting is an entry on its way.
type waiting struct {
	body  []byte // encoded, without its time
	done  chan struct{}
	index int64 // these two are set before done is closed
	err   error
}

// Open opens the ledger in dir, or makes a new one where dir is missing or
// empty: directory, key, and a checkpoint of no entries. It checks the
// signature and that the newest tiles give the signed root; the whole tree is
// checked by Verify.
//
// Files that no checkpoint covers, left by a process that was killed before it
// could acknowledge their entries, are removed; see Repaired.
//
// Errors: ErrLocked, ErrNoKey, ErrKey, ErrOrigin, a *BrokenError, or those of the file
// system.
func Open(dir string, opt Options) (*Ledger, error) {
	l, err := open(&disk{dir: dir}, opt)
	if err != nil {
		return nil, fmt.Errorf("open ledger %q: %w", dir, err)
	}
	return l, nil
}

func open(d *disk, opt Options) (*Ledger, error) {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.Open(d.dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w by another process: stop it, or ask it (lock directory: %w)", ErrLocked, err), lock.Close())
	}
	l := &Ledger{opt: opt.withDefaults(), disk: d, lock: lock, turn: make(chan struct{}, 1)}
	if l.opt.KeyFile == "" {
		l.opt.KeyFile = KeyName
	} else if l.opt.KeyFile, err = filepath.Abs(l.opt.KeyFile); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if err := l.load(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return l, nil
}

// load brings the ledger from the disk into memory, and the disk into the
// state that the checkpoint describes.
func (l *Ledger) load() error {
	names, err := l.disk.list()
	if err != nil {
		return err
	}
	if !slices.Contains(names, CheckpointName) {
		if err := l.begin(names); err != nil {
			return err
		}
	}
	if l.signer, err = loadSigner(l.disk.path(l.opt.KeyFile), l.opt.Origin); err != nil {
		return err
	}
	msg, err := l.disk.read(CheckpointName)
	if err != nil {
		return err
	}
	c, err := parseCheckpoint(msg, l.signer.verify)
	if err != nil {
		return err
	}
	edge, err := loadFrontier(l.disk, c)
	if err != nil {
		return err
	}
	if err := l.publishKey(names); err != nil {
		return err
	}
	l.state = state{checkpoint: c, edge: edge}
	return l.repair(names, c.Size)
}

// publishKey puts the public key beside the entries, for whoever is to verify them;
// one that lies there must be the ledger's own.
func (l *Ledger) publishKey(names []string) error {
	if !slices.Contains(names, PublicKeyName) {
		return l.disk.replace(PublicKeyName, []byte(l.signer.verifier+"\n"))
	}
	b, err := l.disk.read(PublicKeyName)
	if err != nil {
		return err
	}
	if string(b) != l.signer.verifier+"\n" {
		return broken(PublicKeyName, "it is not the public half of the signer key; remove it, and it is written again")
	}
	return nil
}

// begin makes a new ledger: key and first checkpoint. It refuses to do so over
// what is left of another.
func (l *Ledger) begin(names []string) error {
	edge := new(frontier)
	for _, name := range names {
		if _, ok := parseTile(name); ok && name != edge.partial()[0].path() {
			return broken(CheckpointName, "it is missing, but %s is there: restore the checkpoint from a backup", name)
		}
	}
	keyFile := l.disk.path(l.opt.KeyFile)
	if _, err := os.Stat(keyFile); errors.Is(err, fs.ErrNotExist) {
		if err := createSigner(l.disk, l.opt.KeyFile, l.opt.Origin); err != nil {
			return fmt.Errorf("create signer key: %w", err)
		}
	}
	s, err := loadSigner(keyFile, l.opt.Origin)
	if err != nil {
		return err
	}
	root, err := edge.root()
	if err != nil {
		return err
	}
	c, err := s.checkpoint(0, root)
	if err != nil {
		return err
	}
	if err := l.disk.create(edge.partial()); err != nil {
		return err
	}
	return l.disk.replace(CheckpointName, c.Note)
}

// errNewest is the fault of growing tiles that are not those of the checkpoint.
var errNewest = broken(CheckpointName, "the newest tiles in %s do not give the signed root: one of them was changed; verify says which", tileDir)

// loadFrontier reads the growing tiles and checks that they are those of the
// checkpoint.
func loadFrontier(src source, c Checkpoint) (*frontier, error) {
	f, err := readFrontier(src, c)
	if err != nil {
		return nil, err
	}
	root, err := f.root()
	if err != nil {
		return nil, err
	}
	if root != c.Root {
		return nil, errNewest
	}
	return f, nil
}

// readFrontier reads the growing tiles of a checkpoint.
func readFrontier(src source, c Checkpoint) (*frontier, error) {
	f := &frontier{size: c.Size}
	for _, t := range growing(c.Size) {
		data, err := src.read(t.path())
		if err != nil {
			return nil, err
		}
		if t.level == bundleLevel {
			f.bundle = data
			continue
		}
		if len(data) != t.width*hashSize {
			return nil, broken(t.path(), "it has %d bytes instead of %d", len(data), t.width*hashSize)
		}
		f.levels[t.level] = data
	}
	return f, nil
}

// repair removes what no checkpoint needs: files of a batch that was never
// acknowledged, and narrower tiles that were to be removed when the process
// ended.
func (l *Ledger) repair(names []string, size int64) error {
	var remove []string
	for _, name := range names {
		t, ok := parseTile(name)
		if !ok {
			if name == CheckpointName+tmpSuffix || name == KeyName+tmpSuffix || name == PublicKeyName+tmpSuffix {
				remove = append(remove, name)
			}
			continue
		}
		switch t.standingOf(size) {
		case superseded, torn:
			remove = append(remove, name)
		case beyond:
			return broken(CheckpointName, "it is of %d entries, but %s is there: the checkpoint is an old one", size, name)
		}
	}
	for _, name := range remove {
		if err := l.disk.remove(name); err != nil {
			return fmt.Errorf("remove what an unfinished append left: %w", err)
		}
	}
	l.repaired = remove
	return nil
}

// Repaired returns the files, relative to the ledger's directory, that Open
// removed because no checkpoint covers them. Entries in them were never
// acknowledged.
func (l *Ledger) Repaired() []string { return slices.Clone(l.repaired) }

// Checkpoint returns the present signed checkpoint.
func (l *Ledger) Checkpoint() Checkpoint {
	c := l.snapshot().checkpoint
	c.Note = slices.Clone(c.Note)
	return c
}

// Size returns the number of entries.
func (l *Ledger) Size() int64 { return l.snapshot().checkpoint.Size }

// VerifierKey returns the public key that checkpoints are verified with, in
// the form of golang.org/x/mod/sumdb/note: name+hash+key.
func (l *Ledger) VerifierKey() string { return l.signer.verifier }

func (l *Ledger) snapshot() state {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Close waits for the append that is being written, and gives the directory
// free. Appends that wait, and later ones, get ErrClosed.
func (l *Ledger) Close() error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if l.closed {
		return nil
	}
	l.closed = true
	if err := l.lock.Close(); err != nil {
		return fmt.Errorf("close ledger %q: %w", l.disk.dir, err)
	}
	return nil
}

// Append adds an entry and returns its index, 0 for the first. When it
// returns without an error the entry is on the disk under a signed checkpoint.
// Entries appended at the same time are written together.
//
// ctx bounds the wait for the turn to be written; an entry whose turn has come
// is written to the end.
//
// Errors: ErrInvalid, ErrTooLarge, ErrSeal, ErrNotWritten with the cause (a
// full or read-only disk), ErrFailed, ErrClosed, or that of ctx. After any of
// them the entry must be taken as not written, and what it announces must not
// be done.
func (l *Ledger) Append(ctx context.Context, e Entry) (int64, error) {
	body, err := l.prepare(&e)
	if err != nil {
		return 0, fmt.Errorf("append to ledger: %w", err)
	}
	w := &waiting{body: body, done: make(chan struct{})}
	l.mu.Lock()
	l.queue = append(l.queue, w)
	l.mu.Unlock()
	select {
	case <-w.done:
	case l.turn <- struct{}{}:
		l.writeUntil(w)
		<-l.turn
	case <-ctx.Done():
		if l.withdraw(w) {
			return 0, fmt.Errorf("append to ledger: %w", ctx.Err())
		}
		<-w.done
	}
	if w.err != nil {
		return 0, fmt.Errorf("append to ledger %q: %w", l.disk.dir, w.err)
	}
	return w.index, nil
}

func (l *Ledger) prepare(e *Entry) ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	var sealed []byte
	if len(e.Payload) > 0 {
		if l.opt.Seal == nil {
			return nil, fmt.Errorf("%w: no recipients are configured", ErrSeal)
		}
		var err error
		if sealed, err = l.opt.Seal(e.Payload); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSeal, err)
		}
	}
	return e.encode(sealed)
}

// withdraw takes w back; false when a writer has it already.
func (l *Ledger) withdraw(w *waiting) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.queue, w)
	if i < 0 {
		return false
	}
	l.queue = slices.Delete(l.queue, i, i+1)
	return true
}

// writeUntil writes batches from the queue until w is among the written. The
// caller holds the turn.
func (l *Ledger) writeUntil(w *waiting) {
	for {
		select {
		case <-w.done:
			return
		default:
		}
		l.mu.Lock()
		n := min(len(l.queue), maxBatch)
		batch := slices.Clone(l.queue[:n])
		l.queue = slices.Delete(l.queue, 0, n)
		l.mu.Unlock()
		first, err := l.commit(batch)
		for i, w := range batch {
			w.index, w.err = first+int64(i), err
			close(w.done)
		}
	}
}
