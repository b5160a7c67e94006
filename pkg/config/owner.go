package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// ErrUnguarded means that somebody else than root, or than the user of this
// process, may change who may do what.
var ErrUnguarded = errors.New("others may change it")

// The files that turn names into numbers.
const (
	passwdFile = "/etc/passwd"
	groupFile  = "/etc/group"
)

// LoadGuarded is Load for the agent: it refuses a configuration that others may
// change (ErrUnguarded).
func LoadGuarded(path string) (*Config, error) {
	c, err := Load(path)
	if err != nil {
		return nil, err
	}
	return c, c.Guarded()
}

// Guarded reports whether only root and the user of this process may change the
// configuration file, its directory and, where accounts and groups are named, the
// files that say who they are. The error wraps ErrUnguarded and has a line with a
// remedy for each of them that is not.
func (c *Config) Guarded() error {
	var errs []error
	for _, path := range c.guards() {
		errs = append(errs, guarded(path, uint32(os.Geteuid())))
	}
	return errors.Join(errs...)
}

// guards are the files and directories that decide who may do what.
func (c *Config) guards() []string {
	out := []string{c.Path, filepath.Dir(c.Path)}
	if real, err := filepath.EvalSymlinks(c.Path); err == nil && filepath.Dir(real) != filepath.Dir(c.Path) {
		out = append(out, filepath.Dir(real))
	}
	groups := append(append([]Group{c.Agent.SocketGroup}, c.People.OperatorGroups...), c.People.AuditorGroups...)
	for _, g := range groups {
		if g.Name != "" {
			out = append(out, groupFile)
			break
		}
	}
	for _, p := range c.People.Persons {
		if p.Account != "" {
			return append(out, passwdFile)
		}
	}
	return out
}

func guarded(path string, self uint32) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("who may change %q: %w", path, pathless(err))
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return fmt.Errorf("who may change %q: its file system does not say who owns it", path)
	case sys.Uid != 0 && sys.Uid != self:
		return fmt.Errorf("%q belongs to uid %d, who could change who may read: %w; run: chown root %s", path, sys.Uid, ErrUnguarded, path)
	case st.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%q may be written by its group or by everybody (mode %04o), who could change who may read: %w; run: chmod go-w %s",
			path, st.Mode().Perm(), ErrUnguarded, path)
	}
	return nil
}
