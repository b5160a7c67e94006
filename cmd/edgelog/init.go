package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/vault"
)

func initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "make a configuration, key pairs for the custodians and a RADIUS secret",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "dir", Usage: "make everything in `DIR`"},
			&cli.StringFlag{Name: "gateway", Usage: "`NAME` of this machine (default: its host name)"},
			&cli.StringFlag{Name: "provider", Usage: "`NAME` in which is recorded", Value: "unnamed provider"},
			&cli.StringSliceFlag{Name: "uplink", Usage: "`INTERFACE` that faces other networks; may be repeated"},
			&cli.StringSliceFlag{Name: "local", Usage: "`PREFIX` of your own subscribers; may be repeated"},
			&cli.StringFlag{Name: "profile", Usage: "how much is recorded: access, source or session", Value: "access"},
			&cli.StringFlag{Name: "legal-basis", Usage: "`TEXT`: the rule or order that permits the profile"},
			&cli.StringSliceFlag{Name: "custodian", Usage: "make a key pair for the custodian `NAME`; may be repeated"},
			&cli.StringSliceFlag{Name: "recipient", Usage: "public key `age1…` of a custodian who has a key pair already; may be repeated"},
			&cli.StringSliceFlag{Name: "radius-listen", Usage: "take RADIUS accounting on `ADDRESS:PORT`; may be repeated", Value: cli.NewStringSlice("127.0.0.1:1813")},
			&cli.StringFlag{Name: "radius-client", Usage: "`ADDRESS` or prefix of the access server", Value: "127.0.0.1"},
			&cli.StringFlag{Name: "data-dir", Usage: "keep records in `DIR`", Value: "data"},
			&cli.StringFlag{Name: "run-dir", Usage: "put the control socket into `DIR`", Value: "run"},
		}, personFlags()...),
		Action: func(c *cli.Context) error {
			if err := errors.Join(noArgs(c), need(c, "dir")); err != nil {
				return err
			}
			return initialise(c)
		},
	}
}

// initialise checks everything first, then writes, and takes back what it
// wrote when a later step fails.
func initialise(c *cli.Context) error {
	dir := c.String("dir")
	s, err := newSetup(c, dir)
	if err != nil {
		return err
	}
	if err := s.write(); err != nil {
		s.undo()
		return err
	}
	fmt.Fprint(c.App.Writer, s.advice(dir, c.String("profile")))
	return nil
}

// setup is what "init" is about to write.
type setup struct {
	dirs   []string
	files  []file
	keys   []keyFile // that must leave this machine
	config string
	secret string
	made   []string // files and directories, in the order in which they were made
}

type file struct {
	path string
	data []byte
}

var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func newSetup(c *cli.Context, dir string) (*setup, error) {
	s := &setup{config: filepath.Join(dir, "edgelog.toml"), secret: filepath.Join(dir, "radius.secret")}
	s.dirs = []string{dir, inDir(dir, c.String("data-dir")), inDir(dir, c.String("run-dir"))}
	v := config.Values{
		Gateway: c.String("gateway"), Provider: c.String("provider"),
		DataDir: c.String("data-dir"), RunDir: c.String("run-dir"),
		Profile: c.String("profile"), LegalBasis: c.String("legal-basis"),
		Local: c.StringSlice("local"), Uplinks: c.StringSlice("uplink"),
		RADIUSListen: c.StringSlice("radius-listen"), RADIUSClient: c.String("radius-client"), SecretFile: "radius.secret", SocketGroup: c.String("socket-group"),
	}
	if v.Gateway == "" {
		host, err := os.Hostname()
		if err != nil || host == "" {
			return nil, usage("this machine has no host name; give --gateway NAME")
		}
		v.Gateway = host
	}
	if err := errors.Join(s.custodians(c, dir, &v), s.persons(c, dir, &v)); err != nil {
		return nil, err
	}
	if v.Minimum() == 0 {
		key, err := s.newKey(filepath.Join(dir, "custodians", "custodian.key"), "a custodian")
		if err != nil {
			return nil, err
		}
		v.Recipients = append(v.Recipients, config.Recipient{Name: "custodian", Key: key})
	}
	secret := make([]byte, 16)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("make RADIUS secret: %w", err)
	}
	text, err := config.Sample(v)
	if err != nil {
		return nil, err
	}
	if err := checkSample(text, s.config); err != nil {
		return nil, err
	}
	s.files = append(s.files,
		file{s.secret, []byte(hex.EncodeToString(secret) + "\n")},
		file{s.config, text}) // last: an unfinished set-up has no configuration
	return s, nil
}

// custodians takes those of --custodian and --recipient.
func (s *setup) custodians(c *cli.Context, dir string, v *config.Values) error {
	for _, name := range c.StringSlice("custodian") {
		if !fileName.MatchString(name) {
			return usage("--custodian %q: use letters, digits, dot, dash and underline; the key file is named so", name)
		}
		key, err := s.newKey(filepath.Join(dir, "custodians", name+".key"), "a custodian")
		if err != nil {
			return err
		}
		v.Recipients = append(v.Recipients, config.Recipient{Name: name, Key: key})
	}
	for _, key := range c.StringSlice("recipient") {
		if _, err := vault.ParseRecipients([]string{key}); err != nil {
			return usage("--recipient: %w", err)
		}
		v.Recipients = append(v.Recipients, config.Recipient{Name: "given to init", Key: key})
	}
	return nil
}

// checkSample turns the problems of a configuration that nobody has seen yet
// into problems of the flags that it was made from.
func checkSample(text []byte, path string) error {
	_, err := config.Parse(text, path)
	var e *config.Error
	if !errors.As(err, &e) {
		return err
	}
	flags := map[string]string{
		"profile": "--profile", "legal_basis": "--legal-basis", "gateway": "--gateway", "provider": "--provider",
		"border.local": "--local", "uplink": "--uplink", "radius.listen": "--radius-listen", "radius.client": "--radius-client",
		"custodians.recipients": "--recipient", "data_dir": "--data-dir", "run_dir": "--run-dir",
		"person": "--person", "agent.socket_group": "--socket-group",
	}
	var lines []string
	for _, p := range e.Problems {
		key, _, _ := strings.Cut(p.Key, "[")
		name := flags[key]
		if name == "" {
			name = p.Key
		}
		lines = append(lines, fmt.Sprintf("%s %s; %s", name, p.Text, p.Remedy))
	}
	return usage("%s", strings.Join(lines, "\n"))
}

func inDir(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// write makes all of it; nothing that exists is touched.
func (s *setup) write() error {
	for _, f := range s.files {
		if _, err := os.Lstat(f.path); err == nil {
			return fail(fmt.Errorf("make %q: it exists already and is not overwritten", f.path)).
				hint("choose another --dir, or move the old files away first")
		}
	}
	for _, d := range s.dirs {
		if _, err := os.Stat(d); errors.Is(err, fs.ErrNotExist) {
			if err := os.MkdirAll(d, 0o700); err != nil {
				return fmt.Errorf("make directory %q: %w", d, cause(err))
			}
			s.made = append(s.made, d)
		}
	}
	for _, f := range s.files {
		if err := writeNew(f.path, f.data); err != nil {
			return fmt.Errorf("write %q: %w", f.path, cause(err))
		}
		s.made = append(s.made, f.path)
	}
	return nil
}

func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (s *setup) undo() {
	for i := len(s.made) - 1; i >= 0; i-- {
		_ = os.Remove(s.made[i]) // a directory that somebody else uses stays
	}
}

// advice says in plain words what to guard and what to do next.
func (s *setup) advice(dir, profile string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Made in %s:\n", dir)
	fmt.Fprintf(&b, "  %s   what is recorded, and where it is kept\n", s.config)
	fmt.Fprintf(&b, "  %s   shared with your access servers (RADIUS accounting)\n", s.secret)
	for _, k := range s.keys {
		fmt.Fprintf(&b, "  %s   PRIVATE KEY of %s\n", k.path, k.whose)
	}
	if len(s.keys) > 0 {
		b.WriteString(`
Move the private keys off this machine now, each to the one whose it is, and keep a
copy in a safe place. Whoever has a custodian's can read everything that is recorded;
without any of them nobody ever can. The agent does not need them: it only seals.
`)
	}
	fmt.Fprintf(&b, `
Guard %s: it is the only way your access servers are recognised.

Next:
  1. Read %s and set what is missing.
  2. edgelog doctor --config %s
  3. edgelog agent --config %s
`, s.secret, s.config, s.config, s.config)
	if profile != "access" {
		fmt.Fprintf(&b, "\nWhat profile %q takes of disk, memory and processor: edgelog plan --subscribers NUMBER --profile %s\n", profile, profile)
	} else {
		b.WriteString("\nProfile \"access\" records who had which address, and no session. What another one takes,\nbefore it is switched on: edgelog plan --subscribers NUMBER\n")
	}
	return b.String()
}

// cause takes the path out of a file system error that stands in a sentence
// which already names it.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
