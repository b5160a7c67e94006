package recorder

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

// Options of a Recorder. Config is required.
type Options struct {
	Config  *config.Config
	Version string       // of the software, for the ledger
	Logger  *slog.Logger // nil: nothing is logged

	// ReadyFile is written when everything is attached and listening; "": none.
	ReadyFile string

	Now func() time.Time // nil: time.Now

	// Elapsed is the time that passed since some moment, whatever the clock is set
	// to; nil: by the monotonic clock.
	Elapsed func() time.Duration
	// Synchronised reports whether the clock is; nil: what the kernel says.
	Synchronised func() bool

	// Hangup asks for the configuration to be read again, by Load; nil: never.
	Hangup <-chan os.Signal
	Load   func() (*config.Config, error)

	// Permitted is asked, when there are uplinks, before anything is opened; nil:
	// whether this process may attach programs (probe.Permitted), unless
	// OpenSource is set.
	Permitted func() error
	// OpenSource opens where sessions come from; nil: the kernel (probe.Open).
	OpenSource func(probe.Options) (Source, error)
}

// DefaultOptions returns the options that stand for nil, without Config.
func DefaultOptions() Options {
	return Options{
		Logger: slog.New(slog.DiscardHandler), Now: time.Now,
		OpenSource: func(o probe.Options) (Source, error) { return probe.Open(o) },
	}
}

func (o Options) withDefaults() Options {
	d := DefaultOptions()
	if o.Logger == nil {
		o.Logger = d.Logger
	}
	if o.Elapsed == nil {
		begin := time.Now()
		o.Elapsed = func() time.Duration { return time.Since(begin) }
	}
	if o.Synchronised == nil {
		o.Synchronised = clockSynchronised
	}
	if o.Now == nil {
		o.Now = d.Now
	}
	if o.OpenSource == nil {
		o.OpenSource = d.OpenSource
		if o.Permitted == nil {
			o.Permitted = probe.Permitted
		}
	}
	if o.Permitted == nil {
		o.Permitted = func() error { return nil }
	}
	return o
}

// Recorder is an agent.
type Recorder struct {
	o       Options
	log     *slog.Logger
	conf    atomic.Pointer[config.Config] // in force
	started time.Time

	store     *store.Store
	vault     *vault.Vault
	ledger    wholeLedger
	book      *identity.Book
	src       Source
	radius    *accounting   // nil: no listener is configured
	nat       *translations // nil: none are followed
	dhcp      *leases       // nil: no server is configured
	control   *control
	mux       *http.ServeMux
	routes    map[string]config.Roles // by pattern; see Handle
	refusals  *refusals
	sealers   atomic.Pointer[vault.Recipients] // of the ledger's payloads
	base      context.Context                  // of requests; ends when the agent stops
	endBase   context.CancelFunc
	evidence  *evidence
	sessions  *writer
	access    *accessWriter
	merger    *merger
	expiry    *expiry
	upkeep    upkeep
	mark      mark
	witness   witnesses
	registrar registrar
	imports   importer
	cover     *coverage
	volume    *volume

	custodians  int    // different keys
	rowsAtStart uint64 // records in the store when it was opened
	flushes     chan chan error
	jobs        chan func()   // for the goroutine that stores, see do
	static      atomic.Int64  // rows of the static table
	loopDone    chan struct{} // closed when nothing is stored any more
	waiting     atomic.Int64  // since when onDisk has been under way, unix ns; 0: it is not

	parts      []part          // see With
	describers []func(*Status) // see Describe
	reloading  sync.Mutex
	importing  importing
	releasing  sync.Mutex // held while a hold is released
	checking   sync.Mutex // held by the one check under way

	mu      sync.Mutex // guards what Status reads
	state   string
	trouble *Trouble
	seen    counts
	closers []func() error
}

// counts is a copy of the writers' counters.
type counts struct {
	sessions   writeCount
	access     accessCount
	handedOver uint64 // by the book
	rows       uint64 // records in the store
	again      uint64 // of them, see filer
	register   RegisterStatus
	imports    ImportStatus
	lately     Lately
	expiry     ExpiryStatus
	storeErr   error
	since      time.Time
}

// Open opens everything that recording needs, in an order in which a failure
// leaves nothing behind. The context bounds the opening only.
func Open(ctx context.Context, o Options) (*Recorder, error) {
	o = o.withDefaults()
	r := &Recorder{
		o: o, log: o.Logger, started: o.Now(), state: "starting", mux: http.NewServeMux(), routes: map[string]config.Roles{},
		flushes: make(chan chan error), jobs: make(chan func()), loopDone: make(chan struct{}),
	}
	r.conf.Store(o.Config)
	r.base, r.endBase = context.WithCancel(context.WithoutCancel(ctx))
	if err := r.open(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.publish()
	return r, nil
}

// open is the order of a start.
func (r *Recorder) open() error {
	for _, step := range []func() error{
		r.checkCustodians, r.checkPermission, r.openData, r.openStore, r.openLedger, r.openExpiry, r.openBook, r.openControl, r.openAccounting, r.openDHCP,
		r.openStatic, r.openRegister, r.openImports, r.openRules, r.openNAT, r.openSource, r.openCoverage, r.openVolume,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// onClose adds what Close must undo; the last first.
func (r *Recorder) onClose(f func() error) { r.closers = append(r.closers, f) }

// checkCustodians finds out, before anything is made, whether somebody could
// open what would be recorded.
func (r *Recorder) checkCustodians() error {
	c := &r.o.Config.Custodians
	to, err := vault.ParseRecipients(c.Recipients)
	if err != nil {
		return fmt.Errorf("read custodians.recipients: %w", err)
	}
	if r.custodians = to.Len(); r.custodians < c.Minimum {
		return fmt.Errorf("custodians: %w: %d different, and custodians.minimum is %d; add the public keys of more custodians",
			vault.ErrTooFewRecipients, r.custodians, c.Minimum)
	}
	if to, err = checkPeople(r.o.Config); err != nil {
		return err
	}
	r.sealers.Store(to)
	return nil
}

// checkPermission finds out the same of the right to attach programs.
func (r *Recorder) checkPermission() error {
	if len(r.o.Config.Uplinks) == 0 {
		return nil
	}
	return r.o.Permitted()
}

func (r *Recorder) openData() error {
	dir := r.o.Config.DataDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data directory %q: %w", dir, cause(err))
	}
	if f := r.o.ReadyFile; f != "" { // of an agent that was killed: this one is not ready yet
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the ready file %q of an earlier agent: %w", f, cause(err))
		}
	}
	return nil
}

// openStore opens the store, which looks for room on the disk first, and the
// vault, whose wrapped keys it keeps.
func (r *Recorder) openStore() error {
	c := r.o.Config
	ballast := int64(c.Store.Ballast)
	if ballast == 0 {
		ballast = -1 // none
	}
	st, err := store.Open(filepath.Join(c.DataDir, "store"), store.Options{
		Create: true, MinFree: int64(c.Store.MinFree), Ballast: ballast, Log: r.log, Now: r.o.Now,
	})
	if err != nil {
		return err
	}
	r.onClose(st.Close)
	r.store, r.rowsAtStart = st, st.Rows()
	v, err := vault.New(c.Custodians.Recipients, vault.Options{MinRecipients: c.Custodians.Minimum, Keys: st})
	if err != nil {
		return fmt.Errorf("custodians: %w", err)
	}
	r.onClose(v.Close)
	r.vault = v
	return nil
}

// openLedger opens the ledger; its payloads are sealed to the custodians and the
// auditors.
func (r *Recorder) openLedger() error {
	c := r.o.Config
	if err := r.takeLedger(ledger.Options{Origin: "edgelog/" + ledgerName(c.Gateway), Clock: r.o.Now, Seal: r.seal}); err != nil {
		return err
	}
	r.onClose(r.ledger.Close)
	r.refusals = &refusals{evidence: r.evidence, elapsed: r.o.Elapsed, log: r.log, seen: map[refusedKey]*refused{}}
	r.merger = &merger{
		store: r.store, seal: r.vault, keys: r.vault, gateway: c.Gateway, max: c.Store.BlockSessions, now: r.o.Now, log: r.log, evidence: r.evidence,
	}
	r.onClose(func() error { r.merger.wait(); return nil }) // the store and the ledger are still open
	r.openWitnesses()
	return nil
}

// openBook opens the bindings in force, and makes the writers, whose blocks
// the book's records and the sessions share.
func (r *Recorder) openBook() error {
	c := r.o.Config
	shelf := newFiler(c.Gateway, r.vault, r.store)
	r.access = &accessWriter{
		shelf: shelf, head: r.header, max: c.Store.BlockSessions, every: c.Store.Flush, now: r.o.Now, start: true, seed: maphash.MakeSeed(),
		alarm: r.alarm("access records"),
	}
	book, err := identity.Open(filepath.Join(c.DataDir, "identity"), identity.Options{Clock: r.o.Now, Logger: r.log, Sink: r.access, Trust: c.Identity.Trust})
	if err != nil {
		return err
	}
	r.onClose(book.Close)
	r.book, r.access.book = book, book
	r.sessions = &writer{
		names: book, shelf: shelf, head: r.header, over: r.over, max: c.Store.BlockSessions, flush: c.Store.Flush, now: r.o.Now,
		alarm: r.alarm("sessions"), timing: newTiming(), atRest: r.publish,
	}
	return nil
}

func (r *Recorder) openControl() error {
	r.Handle("GET /v1/status", mayLook, r.statusHandler)
	r.Handle("POST "+PathImport, mayTend, r.importHandler)
	r.Handle("GET "+PathKeys, mayAnswerFor, r.keysHandler)
	r.Handle("POST "+PathKeys, mayAnswerFor, r.keysHandler)
	r.Handle("GET "+PathKeyFacts, mayCheck, r.keyFactsHandler)
	r.Handle("GET "+PathExpiry, mayCheck, r.expiryHandler)
	r.Handle("POST "+PathExpiry, mayDestroy, r.expiryHandler)
	r.Handle("GET "+PathHolds, mayKnow, r.holdsHandler)
	r.Handle("POST "+PathRelease, mayAnswerFor, r.releaseHandler)
	r.Handle("POST "+PathVerify, mayCheck, r.verifyHandler)
	r.Handle("POST "+PathBackup, mayTend, r.backupHandler)
	r.Handle("POST "+PathKeysBackup, mayTend, r.keysBackupHandler)
	r.Handle("GET "+PathLedger+"{name...}", mayAudit, r.ledgerHandler)
	r.Handle("POST "+PathWitness, mayLook, r.witnessHandler)
	r.Handle("GET "+PathVolume, mayLook, r.volumeHandler)
	c, err := listen(r.o.Config.Socket(), r.o.Config.Agent.SocketGroup, http.HandlerFunc(r.serveHTTP), r.base, r.log)
	if err != nil {
		return err
	}
	r.onClose(func() error { c.stop(context.Background()); return nil })
	r.control = c
	return nil
}

func (r *Recorder) openSource() error {
	c := r.o.Config
	if len(c.Uplinks) == 0 {
		r.src = noSource{events: make(chan probe.Event)}
	} else {
		src, err := r.o.OpenSource(probe.Options{
			Uplinks: uplinks(c), PinDir: c.BPFDir, StateDir: c.DataDir, Profile: c.Profile,
			Local: c.Border.Local, Exempt: c.Border.Exempt, Slots: c.Table.Slots, RingBytes: c.Table.RingBytes, HalfOpenShare: c.Table.HalfOpenShare,
			Timeouts: probe.Timeouts{
				UDP: c.Timeouts.UDP, ICMP: c.Timeouts.ICMP, TCP: c.Timeouts.TCP, Other: c.Timeouts.Other,
				HalfOpen: c.Timeouts.HalfOpen, Linger: c.Timeouts.Linger,
			},
			Logger: r.log, Now: r.o.Now,
		})
		if err != nil {
			return err
		}
		r.src = src
	}
	r.onClose(r.src.Close)
	r.sessions.src = r.src
	return nil
}

// Config returns the configuration in force. It must not be changed.
func (r *Recorder) Config() *config.Config { return r.conf.Load() }

// Ledger returns the ledger; nil when what lies there cannot be opened, in which
// case Evidence takes nothing.
func (r *Recorder) Ledger() *ledger.Ledger { l, _ := r.ledger.(*ledger.Ledger); return l }

// Now is the agent's clock.
func (r *Recorder) Now() time.Time { return r.o.Now() }

// Evidence returns what appends to the ledger for those who read: a ledger that
// must be opened again ends the run.
func (r *Recorder) Evidence() *Evidence { return &Evidence{r.ledger, r.evidence} }

// Close gives everything free. It is safe to call twice, and after a failed
// Open; after Run has returned.
func (r *Recorder) Close() error {
	r.endBase()
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	r.closers = nil
	return errors.Join(errs...)
}

// header returns what every block says about its recording at this moment.
func (r *Recorder) header() block.Header {
	c := r.Config()
	k := r.src.Clock()
	return block.Header{
		Profile: c.Profile, Gateway: c.Gateway, Provider: c.Provider,
		Clock: block.Clock{Synchronised: k.Synchronised, MaxErrorMicros: clampMicros(k.MaxErrorMicro + k.Uncertainty/1000)},
	}
}

func clampMicros(n int64) uint32 {
	const most = 1<<32 - 1
	return uint32(min(max(n, 0), most))
}

// ledgerName makes a gateway's name fit a checkpoint's first line.
func ledgerName(s string) string {
	out := []byte(s)
	for i, c := range out {
		if c == '+' || c <= ' ' {
			out[i] = '-'
		}
	}
	return string(out)
}
