package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/store"
)

func backupCommand() *cli.Command {
	return &cli.Command{
		Name:      "backup",
		Usage:     "copy what is stored, sealed as it is, to a directory that is brought up to date each time",
		ArgsUsage: "DIR",
		UsageText: "edgelog backup DIR\nedgelog backup --keys FILE",
		Description: "Only what DIR lacks is copied, read again and compared; what was destroyed is removed from DIR too. Nobody can read a\n" +
			"backup by itself: the wrapped keys are no part of it. --keys writes those to a new FILE; keep it elsewhere, for a copy of\n" +
			"a key outlives the destruction of its day. Run it on the gateway, as the user whom the data belongs to.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "keys", Usage: "write the wrapped keys to the new `FILE`, and nothing else"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			configFlag(), socketFlag(),
		},
		Action: backup,
	}
}

func backup(c *cli.Context) error {
	dir := c.Args().First()
	if (dir == "") == (c.String("keys") == "") || c.Args().Len() > 1 {
		return usage("name one directory, or a file with --keys").hint("edgelog backup DIR")
	}
	socket, err := socketPath(c)
	if err != nil {
		return err
	}
	if name := c.String("keys"); name != "" {
		return backupKeys(c, socket, name)
	}
	cat := new(store.Catalogue)
	if err := askJSON(c.Context, socket, http.MethodPost, recorder.PathBackup, "make a backup", nil, cat); err != nil {
		return err
	}
	b := newBar(c.App.ErrWriter)
	done, err := store.Backup(c.Context, cat, dir, func(done, all int) { b.show("copied", int64(done), int64(all)) })
	b.clear()
	if err != nil {
		return backupError(err)
	}
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(done)
	}
	for _, name := range done.Removed {
		fmt.Fprintf(c.App.Writer, "%s was destroyed, and is removed from the backup\n", name) //nolint:errcheck // the line below says it
	}
	for _, name := range done.Kept {
		warn(c, "%s is in the backup and not in the store any more, and was not destroyed: \"edgelog restore\" puts it back", name)
	}
	_, err = fmt.Fprintf(c.App.Writer, "%d runs and holds copied, %d bytes; %d were there; %s of coverage\n",
		len(done.Copied), done.Bytes, done.Present, plural(uint64(done.Coverage), "file"))
	return err
}

func backupKeys(c *cli.Context, socket, name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return fail(fmt.Errorf("write the wrapped keys to %q: it is there already", name)).hint("name a new file; nothing is written over an older backup")
	case err != nil:
		return fail(fmt.Errorf("write the wrapped keys: %w", err))
	}
	keys := new(store.KeysBackup)
	err = askJSON(c.Context, socket, http.MethodPost, recorder.PathKeysBackup, "ask for the wrapped keys", nil, keys)
	if err == nil {
		if err = json.NewEncoder(f).Encode(keys); err == nil {
			err = f.Sync()
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s written to %s; keep it apart from backups of blocks, and destroy it when a day of it has been destroyed\n",
		plural(uint64(len(keys.Keys)), "wrapped key"), name)
	return err
}

// backupError adds advice to the usual reasons.
func backupError(err error) error {
	switch {
	case errors.Is(err, store.ErrInUse):
		return fail(err).hint("stop the agent first (systemctl stop edgelog), or wait for the other backup to end")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, store.ErrReadOnly):
		return fail(err).hint("run it as the user whom the data belongs to, and mount both sides so that it may write to the one it fills")
	case errors.Is(err, store.ErrNoSpace):
		return fail(err).hint("make room and run it again: what was copied is not copied again")
	}
	return fail(err)
}

func restoreCommand() *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "put back from a backup what a store lacks, while no agent runs",
		ArgsUsage: "DIR",
		UsageText: "edgelog restore DIR --to STOREDIR [--keys FILE]",
		Description: "STOREDIR is the directory \"store\" of a data directory, and is made if need be. Nothing in it is written over, and nothing is\n" +
			"put back whose time is over or whose destruction the ledger beside it knows. Afterwards the store is checked.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "restore into the store in `STOREDIR`"},
			&cli.StringFlag{Name: "keys", Usage: "put wrapped keys back as well, from `FILE`"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		Action: restore,
	}
}

func restore(c *cli.Context) error {
	from, to := c.Args().First(), c.String("to")
	if c.Args().Len() != 1 || to == "" {
		return usage("name the backup, and with --to the store").hint("edgelog restore DIR --to STOREDIR")
	}
	var o store.RestoreOptions
	if name := c.String("keys"); name != "" {
		text, err := os.ReadFile(name)
		if err != nil {
			return fail(fmt.Errorf("read the wrapped keys: %w", err))
		}
		if o.Keys, err = store.ParseKeysBackup(text); err != nil {
			return fail(err).hint("nothing was restored; is %s a whole file that \"edgelog backup --keys\" has written?", name)
		}
	}
	gateway, err := store.BackupGateway(from)
	if err != nil {
		return fail(err)
	}
	beside := filepath.Join(filepath.Dir(filepath.Clean(to)), "ledger")
	o.Destroyed, o.Released, err = recorder.Destroyed(c.Context, beside, gateway)
	switch {
	case errors.Is(err, ledger.ErrLocked):
		return fail(err).hint("stop the agent first (systemctl stop edgelog)")
	case errors.Is(err, ledger.ErrKey):
		return fail(fmt.Errorf("%w; the backup is of the gateway %q", err, gateway)).hint("restore it into the data directory of that gateway, or an empty one")
	case err != nil:
		return fail(err)
	}
	b := newBar(c.App.ErrWriter)
	o.Progress = func(done, all int) { b.show("restored", int64(done), int64(all)) }
	done, err := store.Restore(c.Context, from, to, o)
	b.clear()
	if err != nil {
		return backupError(err)
	}
	if c.Bool("json") {
		err = json.NewEncoder(c.App.Writer).Encode(done)
	} else {
		_, err = fmt.Fprintf(c.App.Writer, "%d runs and holds restored, %d bytes; %d were there, the time of %d is over; %s, %s of coverage\n",
			len(done.Copied), done.Bytes, done.Present, done.Expired, plural(uint64(done.Keys), "wrapped key"), plural(uint64(done.Coverage), "file"))
	}
	if err != nil {
		return err
	}
	return afterRestore(c, to, done)
}

// afterRestore checks the store, and says what was not restored.
func afterRestore(c *cli.Context, to string, done *store.Backed) error {
	v := &verifier{c: c, enc: json.NewEncoder(c.App.Writer), bar: newBar(c.App.ErrWriter)}
	err := v.check(to)
	for _, text := range done.Refused {
		warn(c, "not restored: %s", text)
	}
	if len(done.Refused) > 0 {
		return errors.Join(fail(fmt.Errorf("restore: %s could not be restored", plural(uint64(len(done.Refused)), "part"))), err)
	}
	return err
}
