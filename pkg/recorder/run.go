package recorder

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/store"
)

// stopPatience is how long a stop waits for requests under way.
const stopPatience = 5 * time.Second

// Run records until ctx ends, then stops in good order. It returns nil after
// such a stop, and an error when something without which recording cannot go
// on has failed. It may be called once.
func (r *Recorder) Run(ctx context.Context) error {
	r.noteStart()
	failed := make(chan error, 1) // the first failure is the one that counts
	parts, endParts := context.WithCancel(context.WithoutCancel(ctx))
	defer endParts()

	var wg sync.WaitGroup
	spawn := func(what string, run func() error) { // ends with endParts, or at the latest with stopServing
		wg.Go(func() {
			if err := run(); err != nil {
				select {
				case failed <- fmt.Errorf("%s: %w", what, err):
				default:
				}
			}
		})
	}
	spawn("watch uplinks", func() error { return r.src.Run(parts) })
	spawn("control socket", r.control.serve)
	radius, endRADIUS := context.WithCancel(parts)
	defer endRADIUS()
	heard := r.hear(radius, spawn)
	spawn("events", func() error { r.follow(parts); return nil })
	for _, p := range slices.Concat([]part{{"reload", func(ctx context.Context) error { r.obey(ctx); return nil }}}, r.parts, r.nat.parts()) {
		spawn(p.what, func() error { r.play(parts, p); return nil })
	}
	loop, endLoop := context.WithCancel(parts)
	defer endLoop()
	spawn("store", func() error { return r.record(loop) })

	err := r.ready()
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	r.setState("stopping")
	r.tell("STOPPING=1")
	r.endBase() // readers that wait are sent away, and recorded as such
	endRADIUS()
	heard()
	endLoop()
	<-r.loopDone
	r.volume.stop()  // before the table may be taken away
	if !final(err) { // what is not stored stays in the kernel's table for the next start
		err = errors.Join(err, r.finish())
	} else {
		r.cover.stop(false)
	}
	patience, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	r.control.stop(patience)
	endParts()
	wg.Wait()
	r.refusals.settle()
	r.noteStop(err)
	r.keepMark()
	return err
}

// ready tells whoever waits that everything is attached and listening.
func (r *Recorder) ready() error {
	r.setState("recording")
	if r.o.ReadyFile != "" {
		if err := writeReady(r.o.ReadyFile, os.Getpid()); err != nil {
			return err
		}
		r.onClose(func() error { _ = os.Remove(r.o.ReadyFile); return nil }) // an agent that is gone is not ready
	}
	for _, u := range r.src.Status().Uplinks {
		if u.Error != "" { // it is attached to as soon as that is possible
			err := fmt.Errorf("uplink %q is not watched: %s; see \"edgelog doctor\"", u.Name, u.Error)
			r.log.Warn(err.Error())
			r.note(err)
			r.evidence.note(ledger.Gap, map[string]string{"cause": "uplink not attached", "uplink": u.Name})
		}
	}
	r.tell("READY=1")
	r.log.Info("recording", "gateway", r.Config().Gateway, "profile", r.Config().Profile.String())
	return nil
}

// record is the one goroutine that seals and stores. It returns when ctx ends,
// and an error when this process will not store anything any more: the kernel
// goes on recording into the pinned table, and the next start adopts that.
func (r *Recorder) record(ctx context.Context) error {
	defer close(r.loopDone)
	defer func() { _ = r.sessions.settle() }() // what fails stays in the table, and whoever stores next is told
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case reply := <-r.flushes:
			err := r.flushNow(ctx)
			r.onDisk(func() { r.cover.step(true) })
			reply <- err
			if final(err) {
				r.publish()
				return err
			}
		case job := <-r.jobs:
			job()
		case <-timer.C:
		}
		wait, err := r.sessions.step(false) // a failure has raised its alarm
		var wait2 time.Duration
		var err2 error
		r.onDisk(func() {
			wait2, err2 = r.access.step(ctx, false)
			r.cover.step(false)
			r.evidence.step()
			r.look()
			err2 = errors.Join(err2, r.merger.step())
		})
		r.publish()
		if err := errors.Join(err, err2, r.evidence.broken()); final(err) {
			return err
		}
		timer.Reset(max(0, min(wait, wait2)))
	}
}

// onDisk does what may have to wait for the disk, other than by the store, which
// says so itself. The goroutine that stores calls it.
func (r *Recorder) onDisk(do func()) {
	r.waiting.Store(r.o.Now().UnixNano())
	defer r.waiting.Store(0)
	do()
}

// final reports whether err holds for as long as this process lives.
func final(err error) bool {
	for _, e := range []error{store.ErrFailed, store.ErrClosed, ledger.ErrFailed, ledger.ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// flushNow stores all that is due when it is called. Sessions that end
// meanwhile may be among them, but not without end: after as many as the table
// has slots, all of the former have been met.
func (r *Recorder) flushNow(ctx context.Context) error {
	var err error
	r.onDisk(func() { _, err = r.access.step(ctx, true) })
	for range int(r.Config().Table.Slots)/r.sessions.max + 2 {
		wait, serr := r.sessions.step(true)
		if serr != nil || wait > 0 {
			return errors.Join(err, serr)
		}
	}
	return err
}

// Flush makes everything that has ended and been collected durable. While the
// agent does not run it returns an error.
func (r *Recorder) Flush(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case r.flushes <- reply:
		return <-reply
	case <-r.loopDone:
		return errors.New("flush: the agent is stopping")
	case <-ctx.Done():
		return fmt.Errorf("flush: %w", ctx.Err())
	}
}

// finish stores what is left, after the goroutine that stored has ended.
func (r *Recorder) finish() error {
	drained := false
	err := r.flushNow(context.Background())
	r.cover.step(true)
	if r.Config().Agent.OnStop == config.Drain && err == nil {
		if err = r.sessions.drain(); err == nil {
			err = r.src.Detach()
			drained = err == nil
		}
	}
	r.cover.stop(drained)
	err = errors.Join(err, r.merger.finish())
	r.publish()
	if err != nil {
		return fmt.Errorf("stop: %w; what was not stored stays in the kernel's table for the next start", err)
	}
	return nil
}

// follow takes the source's news, which it has logged itself, to the ledger. It
// returns when ctx ends.
func (r *Recorder) follow(ctx context.Context) {
	for {
		select {
		case ev, ok := <-r.src.Events():
			if !ok {
				return
			}
			r.evidence.probeEvent(ev)
		case <-ctx.Done():
			return
		}
	}
}

func (r *Recorder) noteStart() {
	c := r.Config()
	names := make([]string, len(c.Uplinks))
	for i, u := range c.Uplinks {
		names[i] = u.Name
	}
	fields := map[string]string{
		"version": r.o.Version, "gateway": c.Gateway, "provider": c.Provider, "profile": c.Profile.String(),
		"legal_basis": c.LegalBasis, "configuration": hex.EncodeToString(c.Hash[:]), "uplinks": strings.Join(names, " "),
		"epoch": itoa(r.sessions.shelf.epoch), "custodians": custodiansHash(c.Custodians.Recipients),
		"ledger_seen": r.mark.found,
	}
	maps.Copy(fields, peopleFields(c))
	r.evidence.note(ledger.Start, fields)
}

func (r *Recorder) noteStop(err error) {
	result := "in good order"
	if err != nil {
		result = "after a failure"
	}
	r.evidence.note(ledger.Stop, map[string]string{"result": result, "on_stop": string(r.Config().Agent.OnStop)})
}

// alarm returns an alarm that logs, shows in the status and stands in the
// ledger, once for each change.
func (r *Recorder) alarm(what string) alarm {
	return alarm{
		raised: func(_ time.Time, err error) {
			r.log.Error("cannot store "+what+"; capture goes on in the table, and it is tried again", "error", err)
			r.note(err)
			r.evidence.note(ledger.Gap, map[string]string{"cause": "store", "of": what, "state": "cannot be stored"})
		},
		cleared: func(since, at time.Time) {
			r.log.Info("storing "+what+" again", "after", at.Sub(since).Round(time.Millisecond).String())
			r.evidence.note(ledger.Gap, map[string]string{
				"cause": "store", "of": what, "state": "stored again", "seconds": fmt.Sprintf("%.3f", at.Sub(since).Seconds()),
			})
		},
	}
}

// note remembers the last error for the status.
func (r *Recorder) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trouble = &Trouble{At: r.o.Now().UTC(), Text: err.Error()}
}

func (r *Recorder) setState(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = s
}

// publish copies the writers' counters to where Status finds them, unless
// something is on its way to the disk, of which the store may know already and
// the writer not.
func (r *Recorder) publish() {
	if r.sessions.under != nil {
		return
	}
	c := counts{
		sessions: r.sessions.count, access: r.access.count, since: r.upkeep.since,
		handedOver: r.book.Stats().HandedOver, rows: r.store.Rows(), again: r.sessions.shelf.again, register: r.registrar.status, imports: r.imports.status,
		lately: r.upkeep.pace.lately, expiry: r.expiry.status,
	}
	c.expiry.RetentionDays = r.Config().Store.RetentionDays
	c.sessions.waiting = uint64(r.sessions.batch.Len())
	for _, a := range []*alarm{&r.sessions.alarm, &r.access.alarm} {
		if a.err != nil && c.storeErr == nil {
			c.storeErr, c.since = a.err, a.since
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = c
}

// tellReloading says so with the time that systemd asks for
// (Type=notify-reload, sd_notify(3)).
func (r *Recorder) tellReloading() {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		r.log.Warn("the monotonic clock cannot be read", "error", err)
	}
	r.tell(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", t.Nano()/1000))
}

// tell passes a state to the service manager.
func (r *Recorder) tell(state string) {
	if err := notify(state); err != nil {
		r.log.Warn("the service manager was not told", "state", state, "error", err)
	}
}
