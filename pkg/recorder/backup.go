package recorder

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
)

// PathBackup has all that was recorded merged into runs, and answers with the
// store.Catalogue of what a backup is to hold (POST). PathKeysBackup answers with
// every wrapped key, as store.KeysBackup (POST), after the ledger has it.
const (
	PathBackup     = "/v1/backup"
	PathKeysBackup = "/v1/backup/keys"
)

func (r *Recorder) backupHandler(w http.ResponseWriter, req *http.Request) {
	c, err := r.catalogue(req.Context())
	if err != nil {
		r.log.Error("a backup was not made", "error", err)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	r.reply(w, c)
}

func (r *Recorder) catalogue(ctx context.Context) (*store.Catalogue, error) {
	if err := r.mergeAll(ctx); err != nil {
		return nil, err
	}
	x, err := expect(ctx, r.ledger, r.ledger.Size())
	if err != nil {
		return nil, err
	}
	c := r.store.Catalogue()
	c.Gateway, c.RetentionDays = r.Config().Gateway, r.Config().Store.RetentionDays
	c.Destroyed, c.Released = append(c.Destroyed, x.destroyed...), append(c.Released, x.released...)
	return c, nil
}

// mergeAll stores and merges what has come until now. Recording goes on.
func (r *Recorder) mergeAll(ctx context.Context) error {
	if err := r.Flush(ctx); err != nil {
		return fmt.Errorf("store what was recorded last: %w", err)
	}
	err := r.do(ctx, func() error { _, err := r.merger.turn(store.Ripe{}); return err })
	for err == nil && r.store.Waiting() > 0 {
		err = r.do(ctx, func() error {
			if r.merger.resting() {
				return errors.New("what was stored last cannot be merged now; see \"edgelog status\"")
			}
			return r.merger.step()
		})
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (r *Recorder) keysBackupHandler(w http.ResponseWriter, req *http.Request) {
	b, err := r.keysBackup(req)
	if err != nil {
		r.log.Error("wrapped keys were not given out for a backup", "error", err)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	r.reply(w, b)
}

func (r *Recorder) keysBackup(req *http.Request) (*store.KeysBackup, error) {
	b, err := r.store.BackUpKeys()
	if err != nil {
		return nil, err
	}
	b.Gateway = r.Config().Gateway
	if _, err := r.noteKeys(req.Context(), "handed out for a backup", WhoAsks(req.Context()), len(b.Keys), nil); err != nil {
		return nil, err
	}
	return b, nil
}

// Destroyed returns the days and holds whose destruction is in the ledger in dir,
// which no agent may have open; none when there is no ledger.
func Destroyed(ctx context.Context, dir, gateway string) (days []session.Day, holds []uint64, err error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	l, err := ledger.Open(dir, ledger.Options{Origin: "edgelog/" + ledgerName(gateway)})
	if err != nil {
		return nil, nil, err
	}
	defer l.Close() //nolint:errcheck // only read
	x, err := expect(ctx, l, l.Size())
	if err != nil {
		return nil, nil, err
	}
	for _, name := range x.destroyed {
		t, err := time.Parse(time.DateOnly, name)
		if err != nil {
			return nil, nil, fmt.Errorf("the ledger names the day %q: %w", name, err)
		}
		days = append(days, session.DayOf(t.UnixNano()))
	}
	return days, x.released, nil
}
