package dhcp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

// follower reads one lease file and what is appended to it, through every
// replacement and truncation.
type follower struct {
	path string
	kind Kind
	fam  int // dnsmasq's is of both
	new  func(path string) parser

	file   *os.File
	p      parser
	buf    []byte    // read, and not yet a whole item
	list   []Record  // of the last part, to be used again
	seen   fileState // as it was looked at last, and since when it has been so
	seenAt time.Time
	off    int64 // of the file, read into buf
	whole  bool  // this file has been read to its end once
	since  time.Time
	last   fileState
	count  fileCount // of parsers that are done with

	foreign    fileState // of a file of another program
	foreignErr error
}

// fileState tells whether a file has changed.
type fileState struct {
	size  int64
	mtime time.Time
}

type fileCount struct {
	read, skipped, used, faulty, leases uint64
	bytes                               uint64
	replaced, truncated                 uint64
	readAt                              time.Time
}

// chunk is how much is read at once, in bytes.
const chunk = 1 << 20

// settle is how long a file that is written as a whole must have been left
// alone before it is read, so that it is not read half written.
const settle = 300 * time.Millisecond

// intake takes what a follower reads.
type intake interface {
	// records takes all of them, and says so if they cannot be kept now. The
	// list is used again after it returns.
	records(list []Record, w way) error
	// begin says that a file is read from its start, complete that it has been
	// read to its end since then: it names all leases.
	begin(fam int) time.Time
	complete(f *follower) error
}

func newFollower(path string, kind Kind, six bool, fault func(*Fault)) *follower {
	f := &follower{path: path, kind: kind}
	if six {
		f.fam = 1
	}
	f.new = func(path string) parser {
		var p parser
		switch kind {
		case Kea:
			p = newKeaParser(path, six)
		case ISC:
			p = newISCParser(path)
		default:
			p = newDnsmasqParser(path)
		}
		p.lines().fault = fault
		return p
	}
	return f
}

// step reads all that is new. An error is a sentence for the operator; the next
// step tries again.
func (f *follower) step(to intake, now time.Time) error {
	for {
		if f.file == nil {
			if err := f.open(to); err != nil {
				return err
			}
		}
		if f.kind == Dnsmasq {
			return f.snapshot(to, now)
		}
		if err := f.read(f.file, to); err != nil {
			return f.give(err)
		}
		f.count.readAt = now
		again, err := f.turn(to)
		if err != nil || !again {
			return err
		}
	}
}

// give closes a file that is of another program, so that the next one is read
// from its start.
func (f *follower) give(err error) error {
	if errors.Is(err, ErrForeign) {
		if st, err2 := f.file.Stat(); err2 == nil {
			f.foreign, f.foreignErr = fileState{st.Size(), st.ModTime()}, err
		}
		f.close()
		f.whole = false
	}
	return err
}

func (f *follower) open(to intake) error {
	file, err := os.Open(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("lease file %q is not there; the server makes it with its first lease, else check the path", f.path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("lease file %q may not be read: %w; let the agent be of the file's group (systemctl edit edgelog: SupplementaryGroups=…), or change its mode", f.path, cause(err))
	case err != nil:
		return fmt.Errorf("open lease file %q: %w", f.path, cause(err))
	}
	st, err := file.Stat()
	switch {
	case err == nil && !st.Mode().IsRegular():
		err = fmt.Errorf("lease file %q is not a file; check the path", f.path)
	case err == nil && f.foreignErr != nil && f.foreign == (fileState{st.Size(), st.ModTime()}):
		err = f.foreignErr
	}
	if err != nil {
		_ = file.Close()
		return err
	}
	f.foreignErr = nil
	f.file, f.off, f.buf, f.p, f.last = file, 0, f.buf[:0], f.new(f.path), fileState{}
	if f.kind == Kea && f.whole {
		return nil // what the clean-up took away has been read
	}
	f.whole, f.since = false, to.begin(f.fam)
	if f.kind == Kea {
		return f.cleaned(to)
	}
	return nil
}

// cleaned reads the files of Kea's lease file clean-up, in the order in which
// Kea itself loads them: its result, or what it starts from.
func (f *follower) cleaned(to intake) error {
	list := []string{f.path + ".completed"}
	if _, err := os.Stat(list[0]); err != nil {
		list = []string{f.path + ".2", f.path + ".1"}
	}
	for _, name := range list {
		old, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			f.close()
			return fmt.Errorf("open lease file %q: %w", name, cause(err))
		}
		live, off, p := f.file, f.off, f.p
		f.off, f.p, f.buf = 0, f.new(name), f.buf[:0]
		err = f.read(old, to)
		if err == nil {
			err = f.finish(to)
		}
		_ = old.Close() // only read
		f.retire()
		f.file, f.off, f.p, f.buf = live, off, p, f.buf[:0]
		if err != nil {
			f.close()
			return err
		}
	}
	return nil
}

// read takes all whole items from the place where the last reading ended.
func (f *follower) read(file *os.File, to intake) error {
	for {
		had := len(f.buf)
		f.buf = slices.Grow(f.buf, chunk)[:had+chunk]
		n, err := file.ReadAt(f.buf[had:], f.off)
		f.buf = f.buf[:had+n]
		f.off += int64(n)
		f.count.bytes += uint64(n)
		if n > 0 {
			if err := f.parse(to, false); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read lease file %q: %w", f.path, cause(err))
		}
	}
}

// parse takes whole items from the buffer.
func (f *follower) parse(to intake, last bool) error {
	w := byFile
	if f.whole {
		w = byTail
	}
	list := f.list[:0]
	n, err := f.p.parse(f.buf, last, func(r *Record) { list = append(list, *r) })
	f.list = list
	f.buf = f.buf[:copy(f.buf, f.buf[n:])]
	if err2 := to.records(list, w); err2 != nil && err == nil {
		err = err2
	}
	return err
}

// finish takes what is left when a file will not grow any more.
func (f *follower) finish(to intake) error {
	if len(f.buf) == 0 {
		return nil
	}
	return f.parse(to, true)
}

// turn is called at the end of a file: it says whether another one has taken
// its place, or the same one has been begun anew.
func (f *follower) turn(to intake) (again bool, err error) {
	mine, err := f.file.Stat()
	if err != nil {
		return false, fmt.Errorf("look at lease file %q: %w", f.path, cause(err))
	}
	if mine.Size() < f.off {
		f.count.truncated++
		f.close()
		f.whole = false
		return true, nil
	}
	if !f.whole {
		if err := to.complete(f); err != nil {
			return false, err
		}
		f.whole = true
	}
	now, err := os.Stat(f.path)
	if err == nil && os.SameFile(mine, now) {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("look at lease file %q: %w", f.path, cause(err))
	}
	if err != nil {
		return false, nil // it was moved away, and the next one is not there yet
	}
	if err := f.read(f.file, to); err != nil { // what was written until it was replaced
		return false, err
	}
	f.count.replaced++
	err = f.finish(to)
	f.close()
	if f.kind != Kea {
		f.whole = false
	}
	return err == nil, err
}

// snapshot reads a file that is written anew as a whole, if it has changed.
func (f *follower) snapshot(to intake, now time.Time) error {
	st, err := os.Stat(f.path)
	if err != nil {
		f.close()
		return fmt.Errorf("look at lease file %q: %w", f.path, cause(err))
	}
	is := fileState{st.Size(), st.ModTime()}
	mine, err := f.file.Stat()
	if err != nil || !os.SameFile(st, mine) {
		f.count.replaced++
		f.close()
		return nil // the next step opens the other one
	}
	if is != f.seen { // a file that is being cut off shows its new size before its new time
		f.seen, f.seenAt = is, time.Now()
	}
	if is == f.last || time.Since(f.seenAt) < settle {
		return nil
	}
	f.retire()
	f.p, f.off, f.buf, f.whole = f.new(f.path), 0, f.buf[:0], false
	f.since = to.begin(f.fam)
	if err := f.read(f.file, to); err != nil {
		return f.give(err)
	}
	if err := f.finish(to); err != nil {
		return f.give(err)
	}
	if st, err = f.file.Stat(); err != nil || is != (fileState{st.Size(), st.ModTime()}) {
		return nil // it changed meanwhile: read it again
	}
	if err := to.complete(f); err != nil {
		return err
	}
	f.last, f.whole, f.count.readAt = is, true, now
	return nil
}

// retire adds the counts of a parser that is done with.
func (f *follower) retire() {
	if f.p == nil {
		return
	}
	c := f.p.lines()
	f.count.read += c.read
	f.count.skipped += c.skipped
	f.count.used += c.used
	f.count.faulty += c.faulty
	f.count.leases += c.leases
	f.p = nil
}

// counts returns all counts so far.
func (f *follower) counts() fileCount {
	c := f.count
	if f.p != nil {
		l := f.p.lines()
		c.read += l.read
		c.skipped += l.skipped
		c.used += l.used
		c.faulty += l.faulty
		c.leases += l.leases
	}
	return c
}

func (f *follower) close() {
	f.retire()
	if f.file != nil {
		_ = f.file.Close() // only read
		f.file = nil
	}
}

// cause takes the path out of an error in whose sentence it stands already.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
