package recorder

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
)

// Certificate says what of a day was destroyed, and when. It names nobody.
type Certificate struct {
	Gateway       string    `json:"gateway"`
	Provider      string    `json:"provider"`
	Version       string    `json:"version"` // of the software
	Day           string    `json:"day"`     // UTC, YYYY-MM-DD
	RetentionDays int       `json:"retention_days"`
	Begun         time.Time `json:"begun"`
	Ended         time.Time `json:"ended"`
	LedgerEntry   int64     `json:"ledger_entry"` // made before anything was destroyed

	Keys    []DestroyedKey `json:"keys"` // without them nobody can read any copy of the blocks
	Runs    []DestroyedRun `json:"runs"`
	Blocks  int            `json:"blocks"`
	Records uint64         `json:"records"`
	Bytes   uint64         `json:"bytes"`
}

// DestroyedKey is a wrapped key that was removed.
type DestroyedKey struct {
	Epoch uint64 `json:"epoch"`
	Hash  string `json:"sha256"` // of the wrapped key; "" when it could not be read
}

// DestroyedRun is a database of blocks that was removed; the ledger has it from
// when it was stored.
type DestroyedRun struct {
	Number uint64 `json:"run"`
	Hash   string `json:"sha256"` // of its list of contents
}

// StatementDestroyed is what a certificate is signed as.
const StatementDestroyed = "certificate of destruction"

// ExpiryStatus says how far destruction has come.
type ExpiryStatus struct {
	RetentionDays int       `json:"retention_days"`
	Last          string    `json:"last,omitempty"` // day that was destroyed last by this agent
	At            time.Time `json:"at,omitzero"`    // when
	Days          uint64    `json:"days"`           // destroyed by this agent
	Due           int       `json:"due"`            // days that should have been, and are not
	Late          bool      `json:"late"`           // one of them since more than an hour
	Text          string    `json:"text,omitempty"` // why not
}

// Destruction waits when the time has come further than this since the last
// thing that is known to have happened, and the clock is not synchronised: a
// year would be gone for ever because a battery was empty.
const (
	mostAbsence = 48 * time.Hour // between two runs of the agent
	mostJump    = time.Hour      // of the clock against the time that passed
)

// lookExpired is how often it is looked whether a day's time is over.
const lookExpired = time.Minute

// expiry destroys what must not be kept any longer. The goroutine that stores
// drives it.
type expiry struct {
	r       *Recorder
	dir     string // of the certificates
	elapsed func() time.Duration
	synced  func() bool
	log     *slog.Logger

	next     time.Duration // elapsed then
	kept     time.Time     // believed, as it lies on the disk
	believed time.Time     // the last time that was believed
	passed   time.Duration // elapsed then
	trusted  bool          // the operator says that the clock is right
	status   ExpiryStatus

	announced map[string]announcement // days whose destruction has not begun yet
}

// openExpiry destroys what is due before anything is read.
func (r *Recorder) openExpiry() error {
	x := &expiry{r: r, dir: filepath.Join(r.Config().DataDir, "destroyed"), elapsed: r.o.Elapsed, synced: r.o.Synchronised, log: r.log,
		announced: map[string]announcement{}}
	if err := os.MkdirAll(x.dir, 0o700); err != nil {
		return fmt.Errorf("make directory of certificates %q: %w", x.dir, cause(err))
	}
	r.expiry = x
	var err error
	if x.believed, err = x.lastKnown(); err != nil {
		return err
	}
	x.passed = x.elapsed()
	if err := x.keepBelieved(); err != nil {
		return err
	}
	x.step(mostAbsence)
	return nil
}

// clockFile has the last time that was believed, RFC 3339. Once it is there the
// ledger and the keys are no evidence of the time: they go on while it is doubted.
const clockFile = "clock"

// keepBelieved writes down what was believed, about once an hour.
func (x *expiry) keepBelieved() error {
	if x.believed.Sub(x.kept).Abs() < time.Hour {
		return nil
	}
	if err := writeDurably(filepath.Join(x.dir, clockFile), []byte(x.believed.UTC().Format(time.RFC3339)+"\n")); err != nil {
		return fmt.Errorf("keep the last time that was believed: %w", cause(err))
	}
	x.kept = x.believed
	return nil
}

// lastKnown returns when the last thing happened of which there is evidence:
// an entry of the ledger, or a start of the agent that stored something.
func (x *expiry) lastKnown() (last time.Time, err error) {
	if b, err := os.ReadFile(filepath.Join(x.dir, clockFile)); err == nil {
		if t, err := time.Parse(time.RFC3339, strings.TrimSpace(string(b))); err == nil {
			x.kept = t
			return t, nil
		}
	}
	if e := x.r.store.NewestEpoch(); e > 0 {
		last = time.UnixMilli(int64(e))
	}
	l := x.r.ledger
	if n := l.Size(); n > 0 {
		entry, err := l.Entries(context.Background(), n-1, n)
		switch {
		case errors.Is(err, ledger.ErrBroken):
			x.r.evidence.distrust(err)
		case err != nil:
			return last, fmt.Errorf("read the last entry of the ledger: %w", err)
		case entry[0].Time.After(last):
			last = entry[0].Time
		}
	}
	if last.IsZero() {
		last = x.r.o.Now() // there is nothing to be destroyed either
	}
	return last, nil
}

// tick is step, when it is time for it.
func (x *expiry) tick() {
	if at := x.elapsed(); at >= x.next {
		x.next = at + lookExpired
		x.step(mostJump)
	}
}

// step destroys the days whose time is over, unless the clock cannot be
// believed.
func (x *expiry) step(most time.Duration) {
	// Without its monotonic reading, which does not move when the clock is set: that is what doubt is about.
	now, keep := x.r.o.Now().Round(0), x.r.Config().Store.RetentionDays
	begun := cmp.Or(x.finishReleases(), x.finishDays())
	days := x.due(now)
	err := x.doubt(now, most)
	if err == nil {
		x.believed, x.passed, x.trusted = now, x.elapsed(), false
		days, err = x.destroyAll(days)
		err = cmp.Or(begun, err, x.forgetCoverage(now), x.keepBelieved(), x.reopen())
	} else if len(days) == 0 {
		err = begun // nothing else is held up
	}
	x.status.RetentionDays, x.status.Due = keep, len(days)
	x.status.Late = len(days) > 0 && now.Sub((days[0]+session.Day(keep)+1).Start()) > time.Hour
	x.say(err)
}

// destroyAll destroys days. One that cannot be destroyed does not keep the others.
func (x *expiry) destroyAll(days []session.Day) (left []session.Day, err error) {
	for _, day := range days {
		if e := x.destroy(day); e != nil {
			left, err = append(left, day), cmp.Or(err, fmt.Errorf("destroy %s, whose time is over: %w", day, e))
		}
	}
	return left, err
}

// doubt returns why the clock cannot be believed, nil when it can.
func (x *expiry) doubt(now time.Time, most time.Duration) error {
	jump := now.Sub(x.believed) - (x.elapsed() - x.passed)
	if jump <= most || x.trusted || x.synced() {
		return nil
	}
	return fmt.Errorf("the clock stands %s ahead of the last thing that is known to have happened, and is not synchronised: "+
		"nothing is destroyed; synchronise it, or say \"edgelog expire --clock-is-right\"", jump.Round(time.Second))
}

// forgetCoverage removes what is known of the recording on days whose time is
// over. It names nobody, and needs no certificate.
func (x *expiry) forgetCoverage(now time.Time) error {
	if x.r.cover == nil {
		return nil // at the start; the first tick does it
	}
	keep := x.r.cover.keep
	for _, day := range store.Due(keep.Days(), now, x.r.Config().Store.RetentionDays) {
		if err := keep.Destroy(day); err != nil {
			return err
		}
	}
	return nil
}

// say tells why what is due is not destroyed, once, and that nothing is in the way
// any more.
func (x *expiry) say(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != x.status.Text {
		x.log.Error("what must not be kept any longer is still there", "error", err)
		x.r.note(err)
	} else if text == "" && x.status.Text != "" {
		x.log.Info("what must not be kept any longer is destroyed again in time")
	}
	x.status.Text = text
}

// reopen lets sessions be stored again of days that were destroyed while the clock
// was wrong. Until then they wait in the table.
func (x *expiry) reopen() error {
	if x.r.store.Reopen(func(day session.Day) bool { return x.r.over(day) || x.hasBegun(day.String()) }) {
		return nil
	}
	_, err := x.r.merger.turn(store.Ripe{}) // what is left of them goes when that is merged
	return err
}

// over reports whether the time of a day is over.
func (r *Recorder) over(day session.Day) bool {
	return len(store.Due([]session.Day{day}, r.o.Now(), r.Config().Store.RetentionDays)) > 0
}

func (x *expiry) due(now time.Time) []session.Day {
	return x.r.store.Expired(now, x.r.Config().Store.RetentionDays)
}

// destroy destroys one day: ledger, keys, space, certificate, ledger. Broken off
// anywhere, it is begun again.
func (x *expiry) destroy(day session.Day) error {
	r := x.r
	r.merger.wait() // it may be writing to that day: what it makes is to be counted, and destroyed too
	facts, err := r.store.Day(day)
	if err != nil {
		return err
	}
	if len(facts.Keys)+len(facts.Runs) == 0 && x.certified(day) {
		// The rest lies in a fresh database, and goes when that is merged.
		return errors.Join(r.store.DestroyKeys(day), r.store.DestroyBlocks(day))
	}
	c := x.certificate(&facts)
	if c.LedgerEntry, err = x.announce(c.Day, c.fields("begun")); err != nil {
		return err
	}
	if err := x.begin(c.Day, c); err != nil {
		return err
	}
	return x.complete(day, c)
}

// announce puts into the ledger that a day is about to be destroyed, once: while
// its certificate cannot be begun it is tried again each minute.
func (x *expiry) announce(day string, fields map[string]string) (entry int64, err error) {
	if old, ok := x.announced[day]; ok && maps.Equal(old.fields, fields) {
		return old.entry, nil
	}
	entry, err = x.r.evidence.Append(context.Background(), ledger.Entry{Kind: ledger.Destruction, Fields: fields})
	if err != nil {
		return 0, fmt.Errorf("the ledger cannot be written, so nothing is destroyed: %w", err)
	}
	x.announced[day] = announcement{entry, fields}
	return entry, nil
}

// announcement is an entry of the ledger about a day.
type announcement struct {
	entry  int64
	fields map[string]string
}

func (x *expiry) certified(day session.Day) bool {
	_, err := os.Lstat(filepath.Join(x.dir, day.String()+".note"))
	return err == nil
}

// complete does what is left of a destruction that has begun. It is safe to call
// again.
func (x *expiry) complete(day session.Day, c *Certificate) error {
	r := x.r
	r.merger.wait()
	r.vault.Forget(int32(day))
	if err := r.store.DestroyKeys(day); err != nil {
		return err
	}
	if err := r.store.DestroyBlocks(day); err != nil {
		return err
	}
	c.Ended = r.o.Now().UTC()
	hash, err := x.sign(StatementDestroyed, c.Day, c, c.LedgerEntry)
	if err != nil {
		return err
	}
	fields := c.fields("destroyed")
	fields["certificate"], fields["begun_entry"] = hash, strconv.FormatInt(c.LedgerEntry, 10)
	if _, err := r.evidence.Append(context.Background(), ledger.Entry{Kind: ledger.Destruction, Fields: fields}); err != nil {
		return fmt.Errorf("it is destroyed, and the ledger cannot be written; it is tried again: %w", err)
	}
	delete(x.announced, c.Day)
	if err := x.end(c.Day); err != nil {
		return err
	}
	x.status.Last, x.status.At = c.Day, c.Ended
	x.status.Days++
	x.log.Info("a day's time was over and it was destroyed", "day", c.Day, "keys", len(c.Keys), "records", c.Records, "bytes", c.Bytes)
	return nil
}

func (x *expiry) certificate(f *store.DayFacts) *Certificate {
	conf := x.r.Config()
	c := &Certificate{
		Gateway: conf.Gateway, Provider: conf.Provider, Version: x.r.o.Version, Day: f.Day.String(), RetentionDays: conf.Store.RetentionDays,
		Begun: x.r.o.Now().UTC(), Keys: []DestroyedKey{}, Runs: []DestroyedRun{}, Blocks: f.Blocks, Records: f.Rows, Bytes: f.Bytes,
	}
	for _, k := range f.Keys {
		hash := hex.EncodeToString(k.Hash[:])
		if k.Unreadable {
			hash = ""
		}
		c.Keys = append(c.Keys, DestroyedKey{k.Epoch, hash})
	}
	for _, run := range f.Runs {
		c.Runs = append(c.Runs, DestroyedRun{run.Number, hex.EncodeToString(run.Hash[:])})
	}
	return c
}

// fields are what the ledger says.
func (c *Certificate) fields(state string) map[string]string {
	all := sha256.New()
	for _, k := range c.Keys {
		fmt.Fprintf(all, "key %d %s\n", k.Epoch, k.Hash)
	}
	for _, run := range c.Runs {
		fmt.Fprintf(all, "run %d %s\n", run.Number, run.Hash)
	}
	return map[string]string{
		"state": state, "day": c.Day, "retention_days": strconv.Itoa(c.RetentionDays), "keys": strconv.Itoa(len(c.Keys)), "runs": strconv.Itoa(len(c.Runs)),
		"blocks": strconv.Itoa(c.Blocks), "records": itoa(c.Records), "bytes": itoa(c.Bytes), "keys_and_runs": hex.EncodeToString(all.Sum(nil)),
	}
}

// clockSynchronised asks the kernel (adjtimex(2)).
func clockSynchronised() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}
